"""Keeps the orders, and has each one paid before it is one."""

import itertools
import os

from jsonhttp import call, caller, serve

PAYMENTS = os.environ["PAYMENTS"]
ORDERS = {"1": {"id": "1", "item": "tea", "payment": None}}
NUMBERS = itertools.count(2)


def listing(request):
    return 200, {"orders": list(ORDERS.values()), "caller": caller(request.headers)}


def one(request, number):
    if number not in ORDERS:
        return 404, {"error": f"no order {number}"}
    return 200, {**ORDERS[number], "caller": caller(request.headers)}


def place(request):
    payment = call(PAYMENTS, "POST", "/payments", {"account": "shop", "amount": request.body["price"]})
    number = str(next(NUMBERS))
    ORDERS[number] = {"id": number, "item": request.body["item"], "payment": payment["id"]}
    if len(ORDERS) > 100:
        ORDERS.pop(next(iter(ORDERS)))
    return 201, {**ORDERS[number], "balance": payment["balance"]}


def delete(request, number):
    """Works for whoever gets here; that nobody does is the policy's business."""
    ORDERS.pop(number, None)
    return 200, {"deleted": number}


def admin(request):
    return 200, {"secret": "the keys of the shop"}


serve(
    {
        ("GET", "/healthz"): lambda request: (200, {"orders": "well"}),
        ("GET", "/orders"): listing,
        ("POST", "/orders"): place,
        ("GET", r"/orders/(\d+)"): one,
        ("DELETE", r"/orders/(\d+)"): delete,
        ("GET", r".*admin"): admin,
    }
)
