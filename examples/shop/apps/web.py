"""The shop's front: what a browser would call. It knows orders only, by the local port of its sidecar."""

import os

from jsonhttp import call, serve

ORDERS = os.environ["ORDERS"]


def orders(request):
    return 200, call(ORDERS, "GET", "/orders")


def checkout(request):
    """Places an order, which orders has paid, which payments has booked."""
    return 201, call(ORDERS, "POST", "/orders", {"item": request.body.get("item", "tea"), "price": 12})


serve({("GET", "/"): orders, ("POST", "/checkout"): checkout})
