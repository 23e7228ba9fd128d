"""What rules may say of a request beyond port, method and path holds on real connections, in each version of HTTP, with
and without a tunnel; beside each call that passes, the neighbour that does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from ringfence.kit.clock import SystemClock
from ringfence.policy.model import (
    Allowlist,
    Denylist,
    GrpcMethod,
    HeaderMatch,
    NarrowedCallers,
    PolicySet,
    Rule,
    UnauthenticatedCallers,
)
from ringfence.snapshot import PortMode, Protocol
from tests.data_path import HTTP_PORT, TCP_PORT, WEB, HttpClient, Mesh, echo_app, http_app, rule, serving, until
from tests.direct_callers import direct_http
from tests.integration.test_call_deadlines import H2App, H2Client
from tests.integration.test_grpc_calls import Echo, channel, grpc_app

Header = tuple[str, str]


class Shifted(SystemClock):
    """The machine's clock, set ahead by as much as the test says."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.now = lambda: time.time() + self.ahead  # type: ignore[method-assign,misc]

    __slots__ = ("ahead", "now")


@dataclass
class Site:
    """A mesh, and a client of either version of HTTP."""

    mesh: Mesh
    client: HttpClient | H2Client

    async def ask(self, path: str = "/a", *headers: Header, host: str = "api") -> tuple[int, str]:
        """The status and the reason for which it is not 200."""
        if isinstance(self.client, HttpClient):
            lines = "".join(f"{name}: {value}\r\n" for name, value in (("host", host), *headers))
            self.client.writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            reply = await self.client.reply()
            return reply.status, reply.json()["reason"] if reply.status != 200 else ""
        client = self.client
        stream_id = client.end.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", host), *headers]
        client.end.send_headers(stream_id, fields, end_stream=True)
        client.writer.write(client.end.data_to_send())
        await client.ended(stream_id)
        head = client.heads[stream_id]
        return int(head[":status"]), self.mesh.api.log("request denied")[-1]["reason"] if head[
            ":status"
        ] != "200" else ""


@pytest.fixture(params=["http1", "http2", "http1-direct"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """``web`` calls ``api``; ``direct``: without a sidecar of its own."""
    if request.param == "http2":
        app = H2App()
        app_of = serving(app.serve)
        app._answer = whole  # type: ignore[method-assign]
        mesh = Mesh
        async with app_of as port, Mesh(http_app=port, http=Protocol.HTTP2) as made:
            client = H2Client(*await asyncio.open_connection("127.0.0.1", made.http_listen))
            yield Site(made, client)
            client.writer.close()
        return
    direct = request.param == "http1-direct"
    async with http_app() as port, Mesh(http_app=port, intercept=direct) as mesh:
        made_client = await direct_http(mesh) if direct else await HttpClient.to(mesh.http_listen)
        yield Site(mesh, made_client)
        made_client.close()


def whole(end: Any, event: Any) -> None:
    end.send_headers(event.stream_id, [(":status", "200")], end_stream=True)


def allow(*rules: Rule, **parts: Any) -> PolicySet:
    return PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=rules),), **parts)


def deny(*rules: Rule) -> tuple[Denylist, ...]:
    return (Denylist(namespace="shop", name="never", rules=rules),)


ALL = rule("all")


async def answers(site: Site, *asked: Sequence[Any]) -> list[str]:
    """What each call (path, headers…) comes to: its status, or the reason of its refusal."""
    found = []
    for path, *headers in asked:
        status, reason = await site.ask(path, *headers)
        found.append(reason or str(status))
    return found


async def test_a_header_must_be_there_once_with_one_of_its_values(site: Site) -> None:
    site.mesh.put(allow(rule("team", headers=[HeaderMatch(name="x-team", values=("a", "b"))])))
    no = "header_not_allowed"
    assert await answers(
        site,
        ("/a", ("x-team", "a")),
        ("/a", ("x-team", "b"), ("x-other", "c")),
        ("/a", ("x-team", "c")),
        ("/a",),
        ("/a", ("x-team", "a"), ("x-team", "a")),
        ("/a", ("x-team", "A")),
        ("/a", ("x-teams", "a")),
        ("/a", ("x-team", "a")),
    ) == ["200", "200", no, no, no, no, no, "200"]


async def test_a_header_that_only_a_sidecar_may_set_is_never_seen(site: Site) -> None:
    name = "x-forwarded-client-cert"
    site.mesh.put(allow(rule("forged", headers=[HeaderMatch(name=name)])))
    assert await answers(site, ("/a", (name, f"URI={WEB}"))) == ["header_not_allowed"]
    site.mesh.put(allow(rule("without", headers=[HeaderMatch(name=name, present=False)])))
    assert await answers(site, ("/a", (name, f"URI={WEB}"))) == ["200"]


async def test_a_header_that_apps_could_read_out_of_another_field_refuses_whatever_the_rules_say(site: Site) -> None:
    alike, no = ("x_team", "a"), "header_not_allowed"
    site.mesh.put(allow(rule("team", headers=[HeaderMatch(name="x-team")]), rule("open", paths=["/open"])))
    asked = (
        ("/a", ("x-team", "a")),
        ("/a", ("x-team", "a"), ("x_other", "a")),
        ("/a", ("x-team", "a"), alike),
        ("/a", alike),
        ("/open", alike),
    )
    assert await answers(site, *asked) == ["200", "200", no, no, "200"]
    none = rule("debug", headers=[HeaderMatch(name="x-debug")])
    site.mesh.put(allow(ALL, denylists=deny(none)))
    assert await answers(site, ("/a",), ("/a", ("x-debug", "")), ("/a", ("x_debug", ""))) == ["200", "denylisted", no]
    site.mesh.put(allow(rule("without", headers=[HeaderMatch(name="x-team", present=False)])))
    assert await answers(site, ("/a",), ("/a", alike)) == ["200", no]
    until_when = time.time() + 1e6
    site.mesh.put(allow(denylists=deny(none), observe_until=until_when))
    assert await answers(site, ("/a", alike), ("/a", ("x_debug", ""))) == ["200", no]


async def test_the_host_is_judged_without_its_port_and_case(site: Site) -> None:
    site.mesh.put(allow(rule("host", hosts=["api.shop", "*.wild.shop"])))
    good = ["api.shop", "API.shop:8080", "api.shop.", "a.wild.shop", "a.b.wild.shop"]
    bad = ["apis.shop", "api.shop.evil", "wild.shop", "awild.shop", "api"]
    assert [(await site.ask(host=host))[0] for host in good] == [200] * len(good)
    assert [(await site.ask(host=host))[1] for host in bad] == ["host_not_allowed"] * len(bad)


async def test_a_caller_is_narrowed_by_the_address_that_it_calls_from(site: Site) -> None:
    own = rule("x").callers[0]
    assert not isinstance(own, NarrowedCallers)

    def near(*cidrs: str) -> PolicySet:
        return allow(Rule(name="near", callers=(NarrowedCallers(callers=own, cidrs=cidrs),)))  # type: ignore[arg-type]

    site.mesh.put(near("127.0.0.0/8"))
    assert await answers(site, ("/a",)) == ["200"]
    site.mesh.put(near("10.0.0.0/8", "fd00::/8"))
    assert await answers(site, ("/a",)) == ["address_not_allowed"]
    site.mesh.put(near("10.0.0.0/8", "127.0.0.1/32"))
    assert await answers(site, ("/a",)) == ["200"]


async def test_a_condition_reads_the_request_and_the_caller(site: Site) -> None:
    words = 'request.headers["x-tier"] == "gold" && source.namespace == "shop" && request.path.startsWith("/a")'
    site.mesh.put(allow(Rule(name="gold", callers=ALL.callers, when=words)))
    no = "condition_not_met"
    assert await answers(
        site,
        ("/a/1", ("x-tier", "gold")),
        ("/a/1", ("x-tier", "tin")),
        ("/b", ("x-tier", "gold")),
        ("/a/1",),  # no such header: an error, which permits nothing
    ) == ["200", no, no, no]


async def test_a_condition_that_cannot_be_evaluated_is_counted_and_logged(site: Site) -> None:
    site.mesh.put(allow(Rule(name="gold", callers=ALL.callers, when='request.headers["x-tier"] == "gold"')))
    assert await answers(site, ("/a",)) == ["condition_not_met"]
    assert site.mesh.api.metrics.conditions_failed.at("shop/api/gold").value == 1
    [line] = site.mesh.api.log("condition cannot be evaluated")
    assert line["rule"] == "shop/api/gold"


async def test_a_denylist_beats_every_allowlist(site: Site) -> None:
    debug = rule("debug", headers=[HeaderMatch(name="x-debug")])
    site.mesh.put(allow(ALL, denylists=deny(debug, rule("admin", paths=["/admin/**"]))))
    assert await answers(site, ("/a",), ("/a", ("x-debug", "")), ("/admin/1",), ("/a",)) == [
        "200",
        "denylisted",
        "denylisted",
        "200",
    ]


async def test_what_is_observed_passes_is_told_as_would_deny_and_ends_with_the_posture(site: Site) -> None:
    mesh = site.mesh
    mesh.put(allow(rule("one", paths=["/a"]), denylists=deny(rule("b", paths=["/b"])), observe_until=time.time() + 1e6))
    assert await answers(site, ("/a",), ("/c",), ("/b",), ("/a/../c",)) == [
        "200",
        "200",
        "denylisted",
        "path_ambiguous",
    ]
    counts = {key: count.value for key, count in mesh.api.metrics.would_deny.table.items()}
    assert counts == {(str(WEB), "shop/api", str(HTTP_PORT), "path_not_allowed"): 1}
    [line] = mesh.api.log("would deny")
    assert (line["would_deny"], line["nearest"], line["target"]) == ("path_not_allowed", "shop/api/one", "/c")
    [(relay, _)] = list(mesh.api.inbound.relays)
    assert relay.facts.would_deny == 1
    mesh.put(allow(rule("one", paths=["/a"]), observe_until=time.time() - 1))
    assert await answers(site, ("/c",)) == ["path_not_allowed"]


async def test_a_shadow_is_counted_on_each_call_and_never_enforced(site: Site) -> None:
    mesh = site.mesh
    mesh.put(allow(rule("a", paths=["/a", "/b"])), allow(rule("next", headers=[HeaderMatch(name="x-team")])))
    asked = (("/a", ("x-team", "1")), ("/a",), ("/c", ("x-team", "1")), ("/c",))
    assert await answers(site, *asked) == ["200", "200", "path_not_allowed", "path_not_allowed"]
    counts = {(key[0], key[3]): count.value for key, count in mesh.api.metrics.shadow_verdicts.table.items()}
    assert counts == {
        ("agree", ""): 2,
        ("would_deny", "header_not_allowed"): 1,
        ("would_permit", "path_not_allowed"): 1,
    }
    assert {(line["shadow"], line["target"]) for line in mesh.api.log("shadow disagrees")} == {
        ("would_deny", "/a"),
        ("would_permit", "/c"),
    }
    mesh.put(allow(rule("a", paths=["/a", "/b"])))
    assert await answers(site, ("/a",)) == ["200"]
    assert sum(count.value for count in mesh.api.metrics.shadow_verdicts.table.values()) == 4


async def test_a_grpc_rule_permits_its_methods_alone_and_only_by_post() -> None:
    own = rule("x").callers
    one = Rule(name="one", callers=own, grpc=(GrpcMethod(service="test.Echo", method="One"),))
    async with grpc_app(Echo()) as port, Mesh(http=Protocol.GRPC, http_app=port) as mesh, channel(mesh) as to:
        mesh.put(allow(one))
        assert await to.unary_unary("/test.Echo/One")(b"ab", timeout=10) == b"ba"
        for method in ("/test.Echo/Many", "/test.Echoes/One", "/test/Echo/One"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await to.unary_unary(method)(b"ab", timeout=10)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        get = client.ask("/test.Echo/One", grpc=False)
        await client.ended(get)
        assert client.heads[get][":status"] == "403"
        client.writer.close()


# -- opaque bytes, and what lives -------------------------------------------------------------------------------------


async def lives(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        writer.write(b"ping")
        return await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
    return False


async def test_a_denylist_ends_exactly_what_lives_and_is_denied() -> None:
    async with echo_app() as tcp, http_app() as http, Mesh(tcp_app=tcp, http_app=http) as mesh:
        mesh.put(allow(ALL))
        opaque = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        client = await HttpClient.to(mesh.http_listen)
        assert await lives(*opaque)
        assert (await client.ask("GET", "/a")).status == 200
        mesh.put(allow(ALL, denylists=deny(rule("ledger", ports=[TCP_PORT]))))
        assert await asyncio.wait_for(opaque[0].read(), 10) == b""
        assert (await client.ask("GET", "/a")).status == 200
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["nearest"]) == ("denylisted", "shop/never/ledger")
        opaque[1].close()
        client.close()


async def test_opaque_bytes_are_observed_and_shadowed_once_a_connection() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        mesh.put(allow(rule("http", ports=[HTTP_PORT]), observe_until=time.time() + 1e6), allow())
        ends = [await asyncio.open_connection("127.0.0.1", mesh.tcp_listen) for _ in range(3)]
        assert all([await lives(*end) for end in ends])
        counts = {key[2:]: count.value for key, count in mesh.api.metrics.would_deny.table.items()}
        assert counts == {(str(TCP_PORT), "port_not_allowed"): 3}
        [(labels, count)] = mesh.api.metrics.shadow_verdicts.table.items()
        assert (labels[0], count.value) == ("would_deny", 3)
        for _, writer in ends:
            writer.close()


async def test_what_lives_by_observation_alone_ends_at_its_moment_and_nothing_else() -> None:
    clock = Shifted()
    until_when = time.time() + 1_000.0
    async with echo_app() as tcp, http_app() as http, Mesh(tcp_app=tcp, http_app=http, clock=clock) as mesh:
        mesh.put(allow(rule("http", ports=[HTTP_PORT]), observe_until=until_when))
        opaque = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        client = await HttpClient.to(mesh.http_listen)
        assert await lives(*opaque)
        assert (await client.ask("GET", "/a")).status == 200
        assert mesh.api.inbound.changes_at() == until_when
        mesh.api.inbound.time_passed()
        assert await lives(*opaque)
        clock.ahead = 1_001.0
        mesh.api.inbound.time_passed()
        assert await asyncio.wait_for(opaque[0].read(), 10) == b""
        assert (await client.ask("GET", "/a")).status == 200
        assert mesh.api.inbound.changes_at() is None
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["detail"]) == ("port_not_allowed", "its time is over")
        opaque[1].close()
        client.close()


async def test_what_lives_by_a_condition_on_the_time_ends_when_it_is_false() -> None:
    clock = Shifted()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1_000))
    timed = Rule(name="timed", callers=ALL.callers, ports=(TCP_PORT,), when=f'now < timestamp("{at}")')
    async with echo_app() as tcp, Mesh(tcp_app=tcp, clock=clock) as mesh:
        mesh.put(allow(timed))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        assert await lives(reader, writer)
        await mesh.api.inbound.look_at_time()
        assert await lives(reader, writer)
        clock.ahead = 1_001.0
        await mesh.api.inbound.look_at_time()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        [line] = mesh.api.log("connection denied")
        assert line["reason"] == "condition_not_met"
        writer.close()


async def test_a_websocket_that_lives_by_observation_is_told_in_its_own_words_that_its_time_is_over() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    clock = Shifted()
    async with serving(serve) as app, Mesh(http_app=app, clock=clock) as mesh:
        mesh.put(allow(observe_until=time.time() + 1_000.0))
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(
            b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        assert b" 101 " in await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10)
        clock.ahead = 1_001.0
        mesh.api.inbound.time_passed()
        told = await asyncio.wait_for(client.reader.read(), 10)
        assert told == b"\x88\x12\x03\xf0its time is over"
        [line] = mesh.api.log("connection denied")
        assert line["reason"] == "caller_not_allowed"
        client.close()


async def test_callers_in_plaintext_are_narrowed_by_address_and_observed() -> None:
    def anybody(*cidrs: str) -> Rule:
        return Rule(name="near", callers=(NarrowedCallers(callers=UnauthenticatedCallers(), cidrs=cidrs),))

    async with http_app() as port, Mesh(http_app=port, intercept=True, mode=PortMode.PERMISSIVE) as mesh:
        reader, writer = await mesh.arrive(HTTP_PORT)
        client = HttpClient(reader, writer)
        mesh.put(allow(anybody("127.0.0.0/8")))
        assert (await client.ask("GET", "/a")).status == 200
        mesh.put(allow(anybody("10.0.0.0/8")))
        refused = await client.ask("GET", "/a")
        assert (refused.status, refused.json()["reason"]) == (403, "address_not_allowed")
        mesh.put(allow(ALL, observe_until=time.time() + 1e6))
        assert (await client.ask("GET", "/a")).status == 200
        await until(lambda: mesh.api.log("would deny"))
        assert mesh.api.log("would deny")[0]["would_deny"] == "unauthenticated"
        client.close()


async def test_a_connection_of_which_the_protocol_is_found_out_is_judged_by_the_same_words() -> None:
    async with http_app() as port, Mesh(http_app=port, http=Protocol.AUTO) as mesh:
        mesh.put(allow(rule("team", headers=[HeaderMatch(name="x-team", values=("a",))])))
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/a", headers="x-team: a\r\n")).status == 200
        refused = await client.ask("GET", "/a", headers="x-team: b\r\n")
        assert (refused.status, refused.json()["reason"]) == (403, "header_not_allowed")
        client.close()


@pytest.mark.parametrize("observed", [False, True])
async def test_nobody_evades_a_denylist_of_requests_by_bytes_that_are_none(observed: bool) -> None:
    until_when = time.time() + 1e6 if observed else None
    rules = () if observed else (ALL,)
    admin = deny(rule("admin", ports=[TCP_PORT], paths=["/admin/**"]))
    async with http_app() as port, Mesh(tcp_app=port, tcp=Protocol.AUTO) as mesh:
        mesh.put(allow(*rules, observe_until=until_when))
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"\x00\x01no request")
        await until(lambda: [relay.facts.decision for relay, _ in mesh.api.inbound.relays] not in ([], [None]))
        assert mesh.api.log("connection denied") == []
        mesh.put(allow(*rules, observe_until=until_when, denylists=admin))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        client = await HttpClient.to(mesh.tcp_listen)
        assert (await client.ask("GET", "/a")).status == 200
        assert (await client.ask("GET", "/admin/1")).json()["reason"] == "denylisted"
        client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"\x00\x01no request")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        denied = mesh.api.log("connection denied")
        assert [(line["reason"], line["nearest"]) for line in denied] == [("not_http", "shop/never/admin")] * 2
