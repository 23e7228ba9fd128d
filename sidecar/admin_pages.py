"""What the admin socket tells and takes beyond the configuration: identities, connections, log level, drain, taps.

Works from what is in the process, so all of it answers while the control plane is away. No page shows a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl

from ringfence.kit.addresses import SocketAddress
from ringfence.kit.log import LEVELS, Logger
from ringfence.policy.decide import Deny, Permit
from ringfence.snapshot import Snapshot
from ringfence.spiffe import TrustBundle, X509Svid, fingerprint
from sidecar.local_http import Asked, BadRequestError, Page, json_page, plain_page
from sidecar.relay import Relay, RelayFacts
from sidecar.tap import TAPS_LIMIT, Tap, TapFilterError, Taps, read_filter

if TYPE_CHECKING:
    from sidecar.balance import Member
    from sidecar.serving import Serving
    from sidecar.target import Target
    from sidecar.tunnel.link import Link

CONNECTIONS_SHOWN: Final = 1_000  # the loop stands still while a page is made: the full list must be asked for
CONNECTIONS_LIMIT: Final = 10_000
_ID_QUERY: Final = re.compile(r"id=([0-9a-f]{1,64})")
_SINCE_QUERY: Final = re.compile(r"since=([0-9]{1,7})(?:&limit=([0-9]{1,4}))?")
STORIES_SHOWN: Final = 20
STORIES_LIMIT: Final = 1_000


class HeldIdentity(Protocol):
    """The own SVID, and how long it lives by the more cautious clock."""

    @property
    def svid(self) -> X509Svid | None: ...

    @property
    def left_seconds(self) -> float: ...


def certs_document(
    svid: X509Svid | None, left_seconds: float, bundles: Sequence[TrustBundle], now: float
) -> dict[str, object]:
    """The own SVID and the trust bundles; ``left_seconds`` by the more cautious clock, times in RFC 3339."""
    own = None
    if svid is not None:
        own = {
            "spiffe_id": str(svid.spiffe_id),
            "serial": svid.serial,
            "not_before": _stamp(svid.not_before),
            "not_after": _stamp(svid.not_after),
            "left_seconds": round(left_seconds, 1),
            "chain": [fingerprint(der) for der in svid.chain],
        }
    return {
        "now": _stamp(now),
        "svid": own,
        "bundles": [
            {"trust_domain": str(bundle.trust_domain), "roots": [fingerprint(root) for root in bundle.roots]}
            for bundle in bundles
        ],
    }


def status_document(
    version: str, revision: int, waiting_for: Sequence[str], held: HeldIdentity, now: float
) -> dict[str, object]:
    """All that tells at a glance how the sidecar fares; ``revision``: of the snapshot in force, 0 for none."""
    svid = held.svid
    return {
        "now": _stamp(now),
        "version": version,
        "ready": not waiting_for,
        "waiting_for": list(waiting_for),
        "revision": revision,
        "spiffe_id": str(svid.spiffe_id) if svid is not None else None,
        "svid_not_after": _stamp(svid.not_after) if svid is not None else None,
        "svid_left_seconds": round(held.left_seconds, 1) if svid is not None else None,
    }


def read_limit(query: str) -> int:
    """How many connections to show: ``limit=N`` or nothing. Raises BadRequestError."""
    if not query:
        return CONNECTIONS_SHOWN
    try:
        [(name, value)] = parse_qsl(query, keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise BadRequestError("give nothing but limit=N") from error
    if name != "limit" or not (value.isascii() and value.isdigit() and len(value) < 9):
        raise BadRequestError(f"{name[:80]}: {value[:80]!r} (give nothing but limit=N, a number)")
    if not 1 <= int(value) <= CONNECTIONS_LIMIT:
        raise BadRequestError(f"limit: {value} (give 1 to {CONNECTIONS_LIMIT})")
    return int(value)


def connections_document(
    relays: Iterable[Relay],
    links: Iterable[tuple[str, Link]],
    targets: Iterable[Target] = (),
    *,
    monotonic: float,
    limit: int,
) -> dict[str, object]:
    """Relays and links that live and the endpoints of ``targets``, at most ``limit`` of each, and how many more there
    are; ``links``: with direction."""
    relays, links = list(relays), list(links)
    endpoints = [(target, member) for target in targets for member in target.balancer]
    return {
        "connections": [_connection(relay.facts, monotonic) for relay in islice(relays, limit)],
        "connections_left_out": max(0, len(relays) - limit),
        "links": [_link(direction, link) for direction, link in islice(links, limit)],
        "links_left_out": max(0, len(links) - limit),
        "endpoints": [_endpoint(target, member, monotonic) for target, member in islice(endpoints, limit)],
        "endpoints_left_out": max(0, len(endpoints) - limit),
    }


def _connection(facts: RelayFacts, monotonic: float) -> dict[str, object]:
    shown: dict[str, object] = {
        "direction": facts.direction,
        "peer": facts.peer,
        "service": facts.service,
        "port": facts.port,
        "protocol": str(facts.protocol),
        "age_seconds": round(monotonic - facts.started, 3),
        "bytes_from_app": facts.bytes_from_app,
        "bytes_to_app": facts.bytes_to_app,
        "requests": facts.requests,
    }
    # On a port of HTTP each request is judged, and the connection is not.
    if isinstance(facts.decision, Permit):
        shown.update(decision="permit", policy=facts.decision.policy, rule=facts.decision.rule)
        if facts.decision.would_deny is not None:
            shown["reason"] = str(facts.decision.would_deny)
    elif isinstance(facts.decision, Deny):
        shown.update(decision="deny", reason=str(facts.decision.reason))
    if facts.would_deny:
        shown["would_deny"] = facts.would_deny
    if facts.remote:
        shown["remote"] = facts.remote
    if facts.destination:
        shown["destination"] = facts.destination
    if facts.sni:
        shown["sni"] = facts.sni
    if facts.alpn:
        shown["alpn"] = facts.alpn
    return shown


def _link(direction: str, link: Link) -> dict[str, object]:
    peer = link.peer
    return {
        "direction": direction,
        "peer": str(peer.spiffe_id) if peer is not None else "",
        "remote": link.remote_address,
        "state": "draining" if link.machine.going_away else "ready" if link.ready else "handshake",
        "streams": len(link.machine.streams),
        "peer_not_after": _stamp(peer.not_after) if peer is not None else None,
        "peer_serial": peer.serial if peer is not None else None,
    }


def _endpoint(target: Target, member: Member, monotonic: float) -> dict[str, object]:
    """What the balancer knows of one endpoint; it counts no calls where there is nothing to choose."""
    endpoint = member.endpoint
    left_out = max(0.0, member.ejected_until - monotonic)
    return {
        "service": target.service,
        "port": target.upstream.port,
        "route": target.route.name,
        "peer": str(endpoint.spiffe_id),
        "endpoint": str(SocketAddress(endpoint.mesh_host, endpoint.mesh_port)),
        "state": "left out" if left_out else "ready" if endpoint.ready else "not ready",
        "left_out_seconds": round(left_out, 1),
        "connections": member.connections,
        "calls": member.outstanding,
        "latency_ms": round(member.latency_seconds * 1000, 3),
        "failures": member.failures,
        "panic": target.balancer.panicking,
    }


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LogLevelPage:
    """``GET /loglevel`` and ``POST /loglevel {"level": "debug"}``, for the whole sidecar until it ends.

    ``changed`` is told the level, for the processes that have logs of their own.
    """

    def __init__(self, log: Logger, changed: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._changed = changed

    def get(self, _: Asked) -> Page:
        return json_page({"level": self._log.level})

    def post(self, asked: Asked) -> Page:
        try:
            given = json.loads(asked.body)
        except (ValueError, RecursionError) as error:
            raise BadRequestError('the body is no JSON (give {"level": "debug"})') from error
        if not isinstance(given, dict) or given.keys() != {"level"}:
            raise BadRequestError('the body has other fields than one "level" (give {"level": "debug"})')
        level = given["level"]
        if not isinstance(level, str) or level not in LEVELS:
            raise BadRequestError(f"level: {str(level)[:80]!r} (give one of {', '.join(LEVELS)})")
        before = self._log.level
        self._log.set_level(level)
        self._changed(level)
        self._log.log(level, "log level changed", {"before": before, "after": level})
        return json_page({"level": level, "before": before})


class WhyPage:
    """``GET /why?id=…``: what is noted of the call with this request id, and what policy has to say of it now:
    ``{"call": null}`` where nothing is noted, or no more. ``GET /why?since=SECONDS&limit=N``: of the latest calls,
    ``{"calls": […]}``, the latest first.
    """

    def __init__(self, serving: Serving, snapshot: Callable[[], Snapshot | None], now: Callable[[], float]) -> None:
        self._serving = serving
        self._snapshot = snapshot
        self._now = now

    async def get(self, asked: Asked) -> Page:
        from sidecar.why import why_document  # of those that never ask, none pays for it

        if found := _ID_QUERY.fullmatch(asked.query):
            call = await self._serving.noted(found[1])
            return json_page({"call": why_document(call, self._snapshot()) if call is not None else None})
        if (latest := _SINCE_QUERY.fullmatch(asked.query)) is None:
            raise BadRequestError("give id=ID, the hexadecimal request id of a call, or since=SECONDS")
        limit = int(latest[2] or STORIES_SHOWN)
        if not 1 <= limit <= STORIES_LIMIT:
            raise BadRequestError(f"limit: {limit} (give 1 to {STORIES_LIMIT})")
        calls = await self._serving.noted_since(self._now() - int(latest[1]), limit)
        snapshot = self._snapshot()
        return json_page({"calls": [why_document(one, snapshot) for one in calls]})


class DrainPage:
    """``POST /drain``: what one SIGTERM does; asking again changes nothing."""

    def __init__(self, drain: Callable[[], bool], log: Logger) -> None:
        self._drain = drain
        self._log = log

    def post(self, asked: Asked) -> Page:
        if asked.body:
            raise BadRequestError("a drain has no body")
        first = self._drain()
        if first:
            self._log.info("drain asked for")
        return json_page({"draining": True, "already": not first})


class TapPage:
    """``GET /tap?denied=1&would_deny=1&shadow=1&from=…&to=…``: JSON lines until either side closes."""

    def __init__(self, taps: Taps, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._taps = taps
        self._schedule = schedule

    def get(self, asked: Asked) -> Page:
        try:
            wanted = read_filter(asked.query)
        except TapFilterError as error:
            raise BadRequestError(str(error)) from error
        if len(self._taps) >= TAPS_LIMIT:
            return plain_page(503, f"{TAPS_LIMIT} taps are open already (close one)")
        return Page(200, "application/x-ndjson", b"", Tap(self._taps, wanted, self._schedule))
