"""What is called: the words of ``to``. Pure.

to:                                            # all of them; what is absent is open
  ports: [8080]
  methods: [GET, POST]
  paths: [/orders, "/orders/{id}", "/reports/**"]
  hosts: [orders.shop.example, "*.shop.example"]
  headers:
    - {name: x-tenant, values: [blue, green]}
    - {name: x-debug, present: false}
  grpc: ["shop.Orders/Get", "shop.Ledger/*"]   # beside paths: either will do
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.policy.bounds import PORT_LIMIT
from ringfence.policy.lists import LIMIT_ITEMS, read_list, read_method, read_path, read_port
from ringfence.policy.literals import is_expression, is_host_expression
from ringfence.policy.model import GrpcMethod
from ringfence.policy.problems import shown
from ringfence.policy.reading.context import Context
from ringfence.policy.reading.headers import read_headers
from ringfence.policy.words import is_grpc_method, is_grpc_service
from ringfence.policy.written import Placed, Words
from ringfence.policy.yamlnodes import MappingReader, ValueReader

T = TypeVar("T")

FIELDS: Final = ("ports", "methods", "paths", "hosts", "headers", "grpc")
_OPEN: Final = "remove it to leave it open, or name what is permitted"


def read_calls(to: MappingReader, context: Context) -> Words:
    """The words of ``to``; those that it does not have are open."""
    words = Words(
        ports=_listed(to, "ports", read_port, context, limit=PORT_LIMIT),
        methods=_listed(to, "methods", read_method, context),
        paths=_listed(to, "paths", read_path, context),
        hosts=_listed(to, "hosts", read_host, context),
        headers=read_headers(to, context),
        grpc=_listed(to, "grpc", read_grpc, context),
    )
    _check_paths(words.paths, context)
    if words.grpc and words.methods and all(method.value != "POST" for method in words.methods):
        mend = "remove methods, or add POST: every gRPC call is one"
        to.problem("grpc beside methods without POST, which no call can be", mend, key="methods")
    return words


def _listed(
    to: MappingReader,
    key: str,
    read: Callable[[ValueReader], T | None],
    context: Context,
    *,
    limit: int = LIMIT_ITEMS,
) -> tuple[Placed[T], ...]:
    return tuple(
        Placed(value, place) for value, place in read_list(to, key, read, context.problems, _OPEN, limit=limit)
    )


def path_shape(path: str) -> str:
    """A path template without the names of its variables: two of one shape take exactly the same paths."""
    return "/" + "/".join("*" if word.startswith("{") else word for word in path[1:].split("/"))


def _check_paths(paths: tuple[Placed[str], ...], context: Context) -> None:
    """Tell templates of one list that take the same paths under two spellings."""
    seen: dict[str, Placed[str]] = {}
    for path in paths:
        first = seen.setdefault(path_shape(path.value), path)
        if first.value != path.value:
            mend = f"first on line {first.place.line}: remove one"
            message = f"path {shown(path.value)} takes the same paths as {shown(first.value)}"
            context.problems.append(path.place.problem(message, mend))


def read_host(item: ValueReader) -> str | None:
    """A host name in lower case, or ``*.`` and one."""
    text = item.text()
    if not text:
        return None
    if is_host_expression(text):
        mend = "write the name out, or *.NAME for every name below it"
        item.problem(f"regular expression where a host name is meant: {shown(text)}", mend)
        return None
    name, colon, port = text.partition(":")
    if colon and port.isdigit() and port.isascii():
        item.problem(f"port in the host {shown(text)}", f"write {name}, and the port under ports"[:120])
        return None
    try:
        return parse_host_pattern(text)
    except HostPatternError as error:
        # The words of egress, where a list of networks stands beside that of hosts.
        mend = "callers ask for a service by name: write the name" if "address" in error.message else error.mend
        item.problem(error.message, mend)
        return None


def read_grpc(item: ValueReader) -> GrpcMethod | None:
    """``package.Service/Method``, or ``package.Service/*`` for each of its methods."""
    text = item.text()
    if not text:
        return None
    service, slash, method = text.partition("/")
    if text.startswith("/"):
        item.problem(f"{shown(text)} begins with '/'", f"write {text[1:]}"[:120])
    elif not slash:
        item.problem(f"{shown(text)} names no method", f"write {text}/METHOD, or {text}/* for each"[:160])
    elif not is_grpc_service(service) or not (method == "*" or is_grpc_method(method)):
        what = "regular expression where a gRPC method is meant" if is_expression(text) else "not a gRPC method"
        item.problem(f"{what}: {shown(text)}", "write it like shop.Orders/Get or shop.Orders/*")
    else:
        return GrpcMethod(service=service, method=None if method == "*" else method)
    return None
