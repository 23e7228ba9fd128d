"""What people and peers write as text: documents, SPIFFE IDs, paths, header values, requests for a sidecar's pages."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Final

from controlplane.mesh.document import read_mesh
from ringfence.kit.addresses import AddressError, parse_socket_address
from ringfence.kit.log import Logger
from ringfence.policy import documents as policies
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.envelope import KindReader, read_kinds
from ringfence.policy.paths import TemplateError, judged_path, parse_template
from ringfence.policy.problems import Problem
from ringfence.policy.written import AllowlistDocument, DenylistDocument, PolicyDocument
from ringfence.routing.documents import RouteDocument, read_route
from ringfence.spiffe import SpiffeId, SpiffeIdError
from ringfence.wire.policies import policy_to_wire, read_policy
from ringfence.wire.routes import limits_to_wire, read_limits, route_to_wire
from ringfence.wire.routes import read_route as read_route_told
from sidecar.local_http import Asked, LocalHttp, Page, Verbs, plain_page
from sidecar.refusal import parse_refusal
from sidecar.settings_values import parse_duration, parse_fingerprint, parse_host_port, parse_share
from sidecar.trace_context import parse_traceparent, traceparent
from tests.fake_transports import FakeTransport
from tests.fuzz.target import Target, expect, in_pieces
from tests.policy_documents import NOW, OWN, SERVICES


def _told(problems: list[Problem]) -> None:
    """Each problem is one line that names its place."""
    for problem in problems:
        line = str(problem)
        expect(line.startswith("f.yaml:") and "\n" not in line and problem.line >= 1 and problem.column >= 1, line)


def policy(data: bytes) -> None:
    """Documents of all kinds: read, or refused with places; one with something wrong permits nothing, and what is
    bound, or read of a route, means the same to a sidecar."""
    kinds: dict[str, KindReader[PolicyDocument | RouteDocument]] = {**policies.KINDS, "Route": read_route}
    documents, problems = read_kinds(data, "f.yaml", kinds)
    _told(problems)
    written = [document for document in documents if not isinstance(document, RouteDocument)]
    binding = bind(written, Surroundings(services=SERVICES, trust_domain=OWN, now=NOW))
    _told(list(binding.problems))
    for bound in binding.policies.values() if not problems else ():
        for policy_set in (bound.policy, bound.shadow):
            if policy_set is not None:
                message = policy_to_wire(policy_set)
                expect(read_policy("", message) == policy_set, f"told again it is another: {policy_set}")
    for document in () if problems else documents:
        if isinstance(document, AllowlistDocument | DenylistDocument):
            expect(all(rule.name and rule.callers for rule in document.rules), f"half a rule: {document}")
        if not isinstance(document, RouteDocument):
            continue
        told = route_to_wire(document.route)
        expect(told is not None and read_route_told("route", told, http=True) == document.route, f"{document.route}")
        limits = read_limits("limits", limits_to_wire(document.limits), http=True)
        expect(limits == document.limits, f"{document.limits}")


def mesh(data: bytes) -> None:
    found, problems = read_mesh(data, "f.yaml")
    _told(problems)
    expect((found is None) == bool(problems), "neither a mesh nor a problem, or both")


def spiffe_id(data: bytes) -> None:
    try:
        found = SpiffeId.parse(data.decode("latin-1"))
    except SpiffeIdError as error:
        expect("\n" not in str(error), "the error is no line")
        return
    expect(SpiffeId.parse(str(found)) == found, "told again it is another")
    expect(data.isascii() and "".join(f"/{part}" for part in found.segments) == found.path, "segments and path differ")


def path(data: bytes) -> None:
    """A judged path is its own judgement, has no dot segment, and a template that is told again is the same."""
    judged = judged_path(data)
    if judged is not None and judged != b"*":
        expect(judged_path(judged) == judged, f"judged again {judged!r} is another")
        segments = judged.split(b"/")
        expect(b"." not in segments and b".." not in segments and b"" not in segments[1:-1], f"{judged!r} was taken")
    try:
        template = parse_template(data.decode("latin-1"))
    except TemplateError:
        return
    expect(parse_template(str(template)) == template, f"told again {template} is another")


def values(data: bytes) -> None:
    """Header values and settings: a value, or the one error that its reader declares."""
    told = parse_refusal(data)
    expect(told is None or parse_refusal(told.header_value()) == told, "a refusal told again is another")
    context = parse_traceparent(data)
    if context is not None:
        again = parse_traceparent(traceparent(context.trace_id, context.parent_id))
        expect(again is not None and again.trace_id == context.trace_id, "a trace told again is another")
    text = data.decode("latin-1")
    readers: list[Callable[[str], object]] = [parse_duration, parse_fingerprint, parse_host_port, parse_share]
    for read in readers:
        try:
            found = read(text)
        except ValueError as error:
            expect("\n" not in str(error), f"{read.__name__}: the error is no line")
            continue
        if read is parse_host_port:
            expect(parse_host_port(str(found)) == found, f"{found} told again is another")
    try:
        address = parse_socket_address(text)
    except AddressError:
        return
    expect(parse_socket_address(str(address)) == address, f"{address} told again is another")


class _Pages:
    """The server of a sidecar's own pages: at most one answer, whatever the cuts, and no page for a bad request."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.asked: list[Asked] = []

    def judge(self, data: bytes) -> None:
        seen = [self._loop.run_until_complete(self._talk(data, size)) for size in (0, 1)]
        expect(seen[0] == seen[1], f"cuts show: {seen}")

    async def _talk(self, data: bytes, size: int) -> tuple[bytes, int, bool]:
        self.asked.clear()
        log = Logger("fuzz", stream=io.StringIO())
        server = LocalHttp({"/a": lambda: plain_page(200, "a"), "/b": Verbs(post=self._take)}, log=log)
        connection = server.protocol()
        transport = FakeTransport(connection)
        connection.connection_made(transport)
        for piece in in_pieces(data, size):
            if piece and not transport.closing:
                connection.data_received(piece)
        answer = transport.drain()
        connection.connection_lost(None)
        expect(answer.count(b"\r\nconnection: close\r\n") <= 1, "more than one answer")
        expect(server.connections == 0, "a connection was kept")
        return answer, len(self.asked), transport.closing

    def _take(self, asked: Asked) -> Page:
        self.asked.append(asked)
        return plain_page(200, "taken")


TARGETS: Final = (
    Target(name="policy", run=policy),
    Target(name="mesh", run=mesh),
    Target(name="spiffe_id", run=spiffe_id),
    Target(name="path", run=path),
    Target(name="values", run=values),
    Target(name="pages", run=_Pages().judge),
)
