"""Several endpoints and a route: what fails over, what is never repeated, what is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ringfence.routing.model import (
    CircuitBreaker,
    Outliers,
    RequestTimeouts,
    Retries,
    RetryOn,
    Route,
    RouteMatch,
    Timeouts,
)
from sidecar.admin_pages import connections_document
from tests.data_path import HttpClient, Reply, echo_app, free_port, serving, until
from tests.fleet import Fleet, NamedApp, answer, named_apps, reset, silent, unwell

REPEATING = Retries(
    attempts=2, on=(*Retries().on, RetryOn.RESET_BEFORE_RESPONSE, RetryOn.GATEWAY_ERROR), idempotent=True
)


async def once(fleet: Fleet, method: str = "GET", target: str = "/x", body: bytes = b"") -> Reply:
    """One request on a connection of its own."""
    client = await HttpClient.to(fleet.http_listen)
    try:
        return await client.ask(method, target, body)
    finally:
        client.close()


async def names(fleet: Fleet, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(count):
        reply = await once(fleet)
        found[f"{reply.status} {reply.body.decode() if reply.status == 200 else reply.json()['reason']}"] += 1
    return found


async def reached(app: NamedApp) -> AsyncIterator[None]:
    """Turns of a loop: eight, and as many more as it takes until chance has led one to this app."""
    number = 0
    while number < 8 or not app.seen:
        yield
        number += 1


async def test_connections_are_spread_over_the_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.balance.member.FLOOR_SECONDS", 60.0)  # of a busy machine, more is noise
    async with named_apps(3) as (_, ports), Fleet(ports) as fleet:
        clients = [await HttpClient.to(fleet.http_listen) for _ in range(30)]
        found = Counter([(await client.ask("GET", "/x")).body for client in clients])
        assert set(found) == {b"a", b"b", b"c"}
        assert max(found.values()) - min(found.values()) <= 3
        for client in clients:
            client.close()
        await until(lambda: not fleet.web.outbound.relays)


async def test_a_dead_endpoint_fails_no_request() -> None:
    async with named_apps(3) as (_, ports), Fleet(ports) as fleet:
        await fleet.replicas[0].stop()
        replies = await asyncio.gather(*(once(fleet, "POST", body=b"once") for _ in range(40)))  # nobody had seen them
        assert {(reply.status, reply.body) for reply in replies} == {(200, b"b"), (200, b"c")}
        assert fleet.counted("retries", "shop/api", "connect_failure") >= 1
        assert set(await names(fleet, 20)) <= {"200 b", "200 c"}


async def test_an_app_that_is_not_there_fails_no_request_not_even_a_post() -> None:
    async with named_apps(1) as (apps, ports), Fleet([free_port(), *ports]) as fleet:
        for number in range(20):
            assert (await once(fleet, "POST", f"/{number}", b"x")).status == 200
        assert len(apps[0].seen) == 20
        assert fleet.counted("retries", "shop/api", "connect_failure") >= 1


async def test_opaque_connections_go_round_a_dead_endpoint_with_the_bytes_they_had_sent() -> None:
    async with echo_app() as alive, Fleet([1, 2], tcp_apps=[free_port(), alive]) as fleet:
        for number in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
            writer.write(b"%d" % number)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b"%d" % number
            writer.close()


async def test_with_all_endpoints_dead_the_answer_is_502_and_a_reason() -> None:
    async with named_apps(2) as (_, ports), Fleet(ports) as fleet:
        for replica in fleet.replicas:
            await replica.stop()
        reply = await once(fleet)
        assert (reply.status, reply.json()["reason"]) == (502, "upstream_unreachable")


async def test_an_app_connection_stays_when_its_endpoint_drains_and_its_requests_move() -> None:
    async with named_apps(2) as (_, ports), Fleet(ports) as fleet:
        client = await HttpClient.to(fleet.http_listen)
        first = (await client.ask("GET", "/x")).body.decode()
        await fleet.replicas["ab".index(first)].stop(5.0)
        for _ in range(5):
            reply = await client.ask("POST", "/x", b"y")
            assert (reply.status, reply.body.decode()) == (200, "ba"["ab".index(first)])
        client.close()


async def test_an_app_connection_leaves_an_endpoint_that_is_no_longer_ready_and_one_that_is_gone() -> None:
    async with named_apps(3) as (_, ports), Fleet(ports) as fleet:
        client = await HttpClient.to(fleet.http_listen)
        first = "abc".index((await client.ask("GET", "/x")).body.decode())
        fleet.enforce(*(number != first for number in range(3)))
        second = "abc".index((await client.ask("GET", "/x")).body.decode())
        assert second != first
        fleet.upstreams = tuple(replace(up, endpoints=(up.endpoints[first],)) for up in fleet.upstreams)
        fleet.enforce()
        assert "abc".index((await client.ask("GET", "/x")).body.decode()) == first
        client.close()


async def test_a_link_that_reaches_its_age_is_left_between_requests() -> None:
    async with named_apps(1) as (_, ports), Fleet(ports, route=Route(name="r", max_age_seconds=3.0)) as fleet:
        client = await HttpClient.to(fleet.http_listen)
        assert (await client.ask("GET", "/x")).status == 200
        (old,) = fleet.web.links
        await until(lambda: old.closed)
        assert (await client.ask("GET", "/x")).status == 200
        assert old not in fleet.web.links
        client.close()


# -- what an app may have seen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_an_idempotent_request_whose_connection_breaks_goes_elsewhere_where_the_route_says_so(
    method: str,
) -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        apps[0].act = reset
        async for _ in reached(apps[0]):
            reply = await (once(fleet, method) if method != "HEAD" else head(fleet))
            assert reply.status == 200
        assert fleet.counted("retries", "shop/api", "reset_before_response") == len(apps[0].seen)


async def head(fleet: Fleet) -> Reply:
    client = await HttpClient.to(fleet.http_listen)
    client.writer.write(b"HEAD /x HTTP/1.1\r\nhost: api\r\n\r\n")
    status = (await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10)).split()[1]
    client.close()
    return Reply(int(status), {}, b"")


async def test_without_the_routes_word_a_request_that_an_app_had_is_not_repeated() -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports) as fleet:
        for app in apps:
            app.act = reset
        reply = await once(fleet)
        assert (reply.status, reply.json()["reason"]) == (502, "app_unreachable")
        assert len(apps[0].seen) + len(apps[1].seen) == 1


async def test_a_post_that_an_app_had_is_never_repeated_whatever_the_route_says() -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        for app in apps:
            app.act = reset
        for number in range(6):
            assert (await once(fleet, "POST", f"/{number}", b"order")).status == 502
        seen = apps[0].seen + apps[1].seen
        assert sorted(seen) == [b"POST /%d HTTP/1.1 order" % number for number in range(6)]


async def test_a_put_goes_again_with_its_whole_body_and_a_large_one_does_not() -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        apps[0].act = reset
        small, large = b"s" * 60_000, b"l" * 70_000
        async for _ in reached(apps[0]):
            assert (await once(fleet, "PUT", "/small", small)).status == 200
        assert set(apps[0].seen + apps[1].seen) == {b"PUT /small HTTP/1.1 " + small}
        apps[1].act = reset
        fleet.web.metrics.retries.table.clear()
        assert (await once(fleet, "PUT", "/large", large)).status == 502
        assert sum(b"/large" in line for line in apps[0].seen + apps[1].seen) == 1


async def test_a_503_is_tried_elsewhere_and_the_app_sees_nothing_of_it() -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        apps[0].act = unwell
        async for _ in reached(apps[0]):
            assert set(await names(fleet, 1)) == {"200 b"}
        apps[1].act = unwell
        client = await HttpClient.to(fleet.http_listen)
        reply = await client.ask("GET", "/x")
        assert (reply.status, reply.body) == (503, b"unwell")  # the last answer is the app's
        reply = await client.ask("POST", "/x", b"y")
        assert (reply.status, reply.body) == (503, b"unwell")
        client.close()


async def test_a_request_that_was_held_back_behind_an_upgrade_offered_goes_elsewhere_whole() -> None:
    async def once_well(line: bytes, writer: asyncio.StreamWriter) -> bool:
        return await answer(writer, 200, "declined") if b"/first" in line else await unwell(line, writer)

    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.http_listen)
        for app in apps:
            app.act = once_well
        writer.write(b"GET /first HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        writer.write(b"GET /second HTTP/1.1\r\nhost: api\r\n\r\n")
        assert b"declined" in await asyncio.wait_for(reader.readuntil(b"declined"), 10)
        assert b"unwell" in await asyncio.wait_for(reader.readuntil(b"unwell"), 10)
        assert [sum(b"/second" in line for line in app.seen) for app in apps] == [1, 1]
        writer.close()


async def test_a_response_that_has_begun_is_never_repeated() -> None:
    async def half(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()
        return True

    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        for app in apps:
            app.act = half
        client = await HttpClient.to(fleet.http_listen)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await client.ask("GET", "/x")
        client.close()
        assert len(apps[0].seen) + len(apps[1].seen) == 1


async def test_a_status_line_in_pieces_is_judged_whole() -> None:
    async def pieces(_: bytes, writer: asyncio.StreamWriter) -> bool:
        for piece in (b"HTT", b"P/1.1 2", b"00 OK\r\ncontent-le", b"ngth: 2\r\n\r\nok"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return True

    async with named_apps(1) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        apps[0].act = pieces
        client = await HttpClient.to(fleet.http_listen)
        for _ in range(3):
            reply = await client.ask("GET", "/x")
            assert (reply.status, reply.body) == (200, b"ok")
        client.close()


async def test_pipelined_requests_are_not_repeated_and_answered_in_order() -> None:
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=REPEATING)) as fleet:
        client = await HttpClient.to(fleet.http_listen)
        client.writer.write(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        first, second = await client.reply(), await client.reply()
        assert (first.status, second.status, first.body) == (200, 200, second.body)
        assert apps["ab".index(first.body.decode())].seen == [b"GET /1 HTTP/1.1", b"GET /2 HTTP/1.1"]
        client.close()


async def test_retries_stop_at_their_budget() -> None:
    retries = Retries(attempts=1, on=REPEATING.on, idempotent=True, budget_percent=10)
    route = Route(name="r", retries=retries, outliers=Outliers(max_ejected_percent=0))
    async with named_apps(2) as (apps, ports), Fleet(ports, route=route) as fleet:
        for app in apps:
            app.act = reset
        for _ in range(100):
            assert (await once(fleet)).status == 502
        retried = fleet.counted("retries", "shop/api", "reset_before_response")
        assert len(apps[0].seen) + len(apps[1].seen) == 100 + retried
        # A tenth of all calls, the tries among them, the reserve, and one for each second that this took.
        assert 10 <= retried <= 60
        assert fleet.counted("retries_withheld", "shop/api") == 100 - retried


# -- outliers ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_resets_is_left_out_and_comes_back() -> None:
    route = Route(name="r", outliers=Outliers(consecutive=3, ejection_seconds=6.0))
    async with named_apps(2) as (apps, ports), Fleet(ports, route=route) as fleet:
        held = [await HttpClient.to(fleet.http_listen) for _ in range(16)]
        first = [(await client.ask("GET", "/x")).body for client in held]
        apps[0].act, before = reset, len(apps[0].seen)
        there = [client for client, name in zip(held, first, strict=True) if name == b"a"]
        assert {(await client.ask("GET", "/x")).status for client in there[:3]} == {502}
        assert fleet.target.balancer.ejections == 1
        assert len(apps[0].seen) == before + 3
        assert set(await names(fleet, 5)) == {"200 b"}
        apps[0].act, before = None, len(apps[0].seen)
        async with asyncio.timeout(20):
            while len(apps[0].seen) == before:
                assert (await once(fleet)).status == 200
        assert fleet.counted("ejections", "shop/api") == 1
        for client in held:
            client.close()


async def test_an_idle_app_connection_leaves_an_endpoint_that_was_left_out() -> None:
    route = Route(name="r", outliers=Outliers(consecutive=1, ejection_seconds=600))
    async with named_apps(2) as (apps, ports), Fleet(ports, route=route) as fleet:
        held = [await HttpClient.to(fleet.http_listen) for _ in range(4)]
        assert {(await client.ask("GET", "/x")).body for client in held} == {b"a", b"b"}
        apps[0].act = unwell
        async with asyncio.timeout(20):
            while not fleet.target.balancer.ejections:
                await once(fleet)
        apps[0].act = None
        assert {(await client.ask("GET", "/x")).body for client in held} == {b"b"}
        for client in held:
            client.close()


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeouts", "kind"),
    [
        (Timeouts(request_seconds=3.0), "request"),
        (Timeouts(response_head_seconds=3.0), "response_head"),
        (Timeouts(response_head_seconds=3.0, request_seconds=60), "response_head"),
    ],
)
async def test_a_request_that_is_never_answered_gets_504(timeouts: Timeouts, kind: str) -> None:
    async with named_apps(1) as (apps, ports), Fleet(ports, route=Route(name="r", timeouts=timeouts)) as fleet:
        assert (await once(fleet)).status == 200
        apps[0].act = silent
        reply = await once(fleet, "POST", body=b"x")
        assert (reply.status, reply.json()["reason"]) == (504, "request_timeout")
        assert fleet.counted("timeouts", "shop/api", kind) == 1
        await until(lambda: not fleet.replicas[0].side.inbound.relays)  # the app is let go, too


async def test_a_request_timeout_covers_the_last_byte_and_a_head_timeout_does_not() -> None:
    gate = asyncio.Event()

    async def slow_body(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        await gate.wait()
        writer.write(b"lf")
        return True

    route = Route(name="r", timeouts=Timeouts(response_head_seconds=3.0))
    async with named_apps(1) as (apps, ports), Fleet(ports, route=route) as fleet:
        apps[0].act = slow_body
        asked = asyncio.ensure_future(once(fleet))
        await until(lambda: len(apps[0].seen) == 1)
        await asyncio.wait([asked], timeout=4)
        assert not asked.done()
        gate.set()
        assert (await asked).body == b"half"
        gate.clear()
        fleet.enforce(route=Route(name="r", timeouts=Timeouts(request_seconds=3.0)))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await once(fleet)
        assert fleet.counted("timeouts", "shop/api", "request") == 1


async def test_another_timeout_holds_for_the_requests_that_a_match_names() -> None:
    quick = RouteMatch(name="quick", paths=("/quick/**",), timeouts=RequestTimeouts(request_seconds=0.2))
    route = Route(name="r", timeouts=Timeouts(request_seconds=60), matches=(quick,))
    async with named_apps(1) as (apps, ports), Fleet(ports, route=route) as fleet:
        client = await HttpClient.to(fleet.http_listen)
        assert (await client.ask("GET", "/slow")).status == 200  # arms the timer for a minute
        apps[0].act = silent
        reply = await client.ask("GET", "/quick/1")
        assert reply.json()["reason"] == "request_timeout"
        client.close()


async def test_a_slow_try_is_given_up_for_another() -> None:
    retries = Retries(attempts=1, on=REPEATING.on, idempotent=True, per_try_seconds=3.0)
    async with named_apps(2) as (apps, ports), Fleet(ports, route=Route(name="r", retries=retries)) as fleet:
        apps[0].act = silent
        async for _ in reached(apps[0]):
            assert set(await names(fleet, 1)) == {"200 b"}
        assert fleet.counted("timeouts", "shop/api", "try") == len(apps[0].seen)
        apps[1].act = silent
        reply = await once(fleet, "POST", body=b"x")  # has no second try
        assert (reply.status, reply.json()["reason"]) == (504, "request_timeout")


async def test_an_app_that_never_answers_is_given_up_without_any_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.routed_relay.RESPONSE_HEAD_SECONDS", 60.0)
    async with named_apps(1) as (apps, ports), Fleet(ports) as fleet:
        apps[0].act = silent
        client = await HttpClient.to(fleet.http_listen)
        asked = asyncio.ensure_future(client.ask("GET", "/x"))
        await until(lambda: bool(apps[0].seen))
        await until(lambda: [relay.replied for relay, _ in fleet.web.outbound.relays] == [True])  # to CONNECT
        fleet.web.outbound.relays.sweep(1000.0)
        fleet.web.outbound.relays.sweep(1059.0)
        await asyncio.sleep(0)
        assert not asked.done()
        fleet.web.outbound.relays.sweep(1060.0)
        reply = await asked
        assert (reply.status, reply.json()["reason"]) == (504, "request_timeout")
        client.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    route = Route(name="r", timeouts=Timeouts(idle_seconds=10))
    async with named_apps(1) as (apps, ports), echo_app() as tcp, Fleet(ports, route=route, tcp_apps=[tcp]) as fleet:
        apps[0].act = silent
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        busy = await HttpClient.to(fleet.http_listen)
        asked = asyncio.ensure_future(busy.ask("GET", "/x"))
        await until(lambda: bool(apps[0].seen))
        idle = await HttpClient.to(fleet.http_listen)
        await until(lambda: len(fleet.web.outbound.relays) == 3)
        await until(lambda: sum(relay.replied for relay, _ in fleet.web.outbound.relays) == 2)  # to CONNECT
        for now in (1000.0, 1009.0):
            fleet.web.outbound.relays.sweep(now)
        assert len(fleet.web.outbound.relays) == 3
        fleet.web.outbound.relays.sweep(1010.0)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert await asyncio.wait_for(idle.reader.read(), 10) == b""
        assert len(fleet.web.outbound.relays) == 1
        assert not asked.done()
        asked.cancel()
        for one in (writer, busy.writer, idle.writer):
            one.close()


async def test_a_link_without_streams_goes_when_it_has_been_idle_and_comes_again() -> None:
    route = Route(name="r", timeouts=Timeouts(idle_seconds=1.0))
    async with named_apps(1) as (_, ports), Fleet(ports, route=route) as fleet:
        held = await HttpClient.to(fleet.http_listen)
        assert (await held.ask("GET", "/x")).status == 200
        (link,) = fleet.web.links
        await asyncio.wait([asyncio.ensure_future(held.reader.read())], timeout=2.5)
        assert not link.closed  # it has a stream
        held.close()
        await until(lambda: link.closed)
        assert (await once(fleet)).status == 200


async def test_connecting_takes_no_longer_than_the_route_permits() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):  # a TLS handshake that is never answered
            pass
        writer.close()

    async with serving(mute) as dead, named_apps(1) as (_, ports):
        route = Route(name="r", timeouts=Timeouts(connect_seconds=4.0), retries=Retries(budget_percent=0))
        fleet = Fleet([1, *ports], route=route)
        replaced = fleet.replicas[0]
        async with fleet:
            await replaced.stop()
            first, second = fleet.upstreams[0].endpoints
            broken = replace(first, mesh_port=dead)
            fleet.upstreams = tuple(replace(up, endpoints=(broken, second)) for up in fleet.upstreams)
            fleet.enforce()
            # Many at once, and not one of them needs a budget.
            replies = await asyncio.gather(*(once(fleet, "POST", body=b"x") for _ in range(80)))
            assert {reply.status for reply in replies} == {200}
            assert fleet.counted("retries", "shop/api", "connect_failure") >= 1
            assert fleet.counted("timeouts", "shop/api", "connect") >= 1


# -- circuit ----------------------------------------------------------------------------------------------------------


async def test_above_the_limit_of_requests_the_circuit_opens_with_503_and_closes_again() -> None:
    gate = asyncio.Event()

    async def wait(_: bytes, writer: asyncio.StreamWriter) -> bool:
        await gate.wait()
        return await answer(writer, 200, "late")

    route = Route(name="r", circuit_breaker=CircuitBreaker(requests=2))
    async with named_apps(1) as (apps, ports), Fleet(ports, route=route) as fleet:
        apps[0].act = wait
        clients = [await HttpClient.to(fleet.http_listen) for _ in range(3)]
        asked = [asyncio.ensure_future(client.ask("GET", "/x")) for client in clients[:2]]
        await until(lambda: len(apps[0].seen) == 2)
        reply = await clients[2].ask("GET", "/x")
        assert (reply.status, reply.json()["reason"]) == (503, "circuit_open")
        assert len(apps[0].seen) == 2
        gate.set()
        assert [one.status for one in await asyncio.gather(*asked)] == [200, 200]
        assert (await clients[2].ask("GET", "/x")).status == 200  # the same connection
        assert fleet.counted("circuit_open", "shop/api", "requests") == 1
        for client in clients:
            client.close()


async def test_above_the_limit_of_connections_requests_get_503_and_opaque_ones_a_reset() -> None:
    route = Route(name="r", circuit_breaker=CircuitBreaker(connections=1))
    async with named_apps(1) as (_, ports), echo_app() as tcp, Fleet(ports, route=route, tcp_apps=[tcp]) as fleet:
        first = await HttpClient.to(fleet.http_listen)
        assert (await first.ask("GET", "/x")).status == 200
        reply = await once(fleet)
        assert (reply.status, reply.json()["reason"]) == (503, "circuit_open")
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        other_reader, other = await asyncio.open_connection("127.0.0.1", fleet.tcp_listen)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(other_reader.read(), 10) == b""
        assert fleet.counted("circuit_open", "shop/api", "connections") == 2
        first.close()
        await until(lambda: fleet.target.balancer.circuit.connections == 0)
        assert (await once(fleet)).status == 200
        writer.close()
        other.close()


async def test_above_the_limit_of_waiters_a_request_gets_503() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    async with serving(mute) as dead:
        fleet = Fleet([1], route=Route(name="r", circuit_breaker=CircuitBreaker(pending=1)))
        async with fleet:
            await fleet.replicas[0].stop()
            first = fleet.upstreams[0].endpoints[0]
            mute_end = replace(first, mesh_port=dead)
            fleet.upstreams = tuple(replace(up, endpoints=(mute_end,)) for up in fleet.upstreams)
            fleet.enforce()
            waiting = await HttpClient.to(fleet.http_listen)
            asked = asyncio.ensure_future(waiting.ask("GET", "/x"))
            await until(lambda: fleet.target.balancer.circuit.pending == 1)
            reply = await once(fleet)
            assert (reply.status, reply.json()["reason"]) == (503, "circuit_open")
            assert fleet.counted("circuit_open", "shop/api", "pending") == 1
            asked.cancel()
            waiting.close()


async def test_without_a_route_and_with_one_endpoint_nothing_is_counted_a_request() -> None:
    async with named_apps(1) as (_, ports), Fleet(ports) as fleet:
        assert fleet.target.plain
        assert (await once(fleet)).status == 200
        assert fleet.target.balancer.calls == 0


async def test_what_the_balancer_knows_can_be_looked_at() -> None:
    route = Route(name="shop/r", outliers=Outliers(consecutive=1, ejection_seconds=600))
    async with named_apps(2) as (apps, ports), Fleet(ports, route=route) as fleet:
        apps[0].act = unwell
        async with asyncio.timeout(20):
            while not fleet.target.balancer.ejections:
                await once(fleet)
        held = await HttpClient.to(fleet.http_listen)
        for _ in range(4):  # the first answers tell how cold it was
            await held.ask("GET", "/x")
        page: Any = connections_document([], [], [fleet.target], monotonic=fleet.web.clock.monotonic(), limit=10)
        bad, good = page["endpoints"]
        assert (bad["state"], good["state"]) == ("left out", "ready")
        assert 0 < bad["left_out_seconds"] <= 600
        assert (good["connections"], good["calls"], good["service"], good["route"]) == (1, 0, "shop/api", "shop/r")
        assert good["endpoint"] == f"127.0.0.1:{fleet.replicas[1].mesh_port}"
        assert good["latency_ms"] > 0
        held.close()
