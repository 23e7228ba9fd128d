"""The books: a line protocol over TCP, which the mesh carries without reading it.

BALANCE shop     OK 24
POST shop 12     OK 36
anything else    ERROR say BALANCE account or POST account amount
"""

import asyncio
import os

BALANCES = {"shop": 0}


def answer(line):
    match line.split():
        case ["BALANCE", account]:
            return f"OK {BALANCES.get(account, 0)}"
        case ["POST", account, amount] if amount.lstrip("-").isdigit() and (
            account in BALANCES or len(BALANCES) < 1000
        ):
            BALANCES[account] = BALANCES.get(account, 0) + int(amount)
            return f"OK {BALANCES[account]}"
    return "ERROR say BALANCE account or POST account amount"


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(answer(line.decode("ascii", "replace")).encode() + b"\n")
            await writer.drain()
    except (ConnectionError, ValueError):
        pass  # the caller went away, or sent a line longer than asyncio keeps
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
