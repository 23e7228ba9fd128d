"""Takes payments and books each in the ledger, over a plain TCP connection that its sidecar makes a safe one."""

import itertools
import os
import socket

from jsonhttp import caller, serve

LEDGER_HOST, _, LEDGER_PORT = os.environ["LEDGER"].rpartition(":")
PAYMENTS = {"1": {"id": "1", "amount": 0}}
NUMBERS = itertools.count(2)


def ledger(line):
    """One line to the ledger, one back."""
    with socket.create_connection((LEDGER_HOST, int(LEDGER_PORT)), timeout=10) as connection:
        connection.sendall(line.encode() + b"\n")
        reply = connection.makefile().readline()
    if not reply.startswith("OK "):
        raise OSError(f"the ledger said {reply!r} to {line!r}")
    return int(reply.split()[1])


def take(request):
    balance = ledger(f"POST {request.body['account']} {int(request.body['amount'])}")
    number = str(next(NUMBERS))
    PAYMENTS[number] = {"id": number, "amount": request.body["amount"], "balance": balance}
    if len(PAYMENTS) > 100:
        PAYMENTS.pop(next(iter(PAYMENTS)))
    return 201, PAYMENTS[number]


def one(request, number):
    if number not in PAYMENTS:
        return 404, {"error": f"no payment {number}"}
    return 200, {**PAYMENTS[number], "caller": caller(request.headers)}


serve({("POST", "/payments"): take, ("GET", r"/payments/(\d+)"): one})
