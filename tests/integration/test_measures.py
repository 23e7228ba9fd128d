"""What the data path counts and times while it works, and that gauges return to nothing."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from ringfence.snapshot import Protocol
from sidecar.exposition import exposition
from sidecar.gauges import declare_traffic_gauges
from sidecar.http2 import frames as h2
from tests.data_path import API, TCP_PORT, WEB, HttpClient, Mesh, Side, echo_app, http_app, serving, until
from tests.direct_callers import direct
from tests.raw_peer import RawPeer


def gauges(side: Side) -> dict[str, float]:
    """The gauges of one data path, as they are scraped now."""
    text = exposition(side.metrics.collect()).decode()
    return {family.name: family.samples[0].value for family in text_string_to_metric_families(text) if family.samples}


def declare(mesh: Mesh) -> None:
    for side in (mesh.web, mesh.api):
        declare_traffic_gauges(side.metrics, lambda side=side: (side.inbound, side.outbound))  # type: ignore[misc]


async def test_what_lives_is_shown_on_both_sides_and_gone_when_it_is() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp) as mesh:
        declare(mesh)
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        web, api = gauges(mesh.web), gauges(mesh.api)
        assert (web["ringfence_connections_open_outbound"], web["ringfence_connections_open_inbound"]) == (1, 0)
        assert (api["ringfence_connections_open_outbound"], api["ringfence_connections_open_inbound"]) == (0, 1)
        for told in (web, api):
            assert (told["ringfence_tunnels_open"], told["ringfence_tunnel_streams_open"]) == (1, 1)
            assert told["ringfence_connections_waiting"] == told["ringfence_tunnel_received_bytes_held"] == 0
        writer.close()
        await until(lambda: gauges(mesh.api)["ringfence_tunnel_streams_open"] == 0)
        await until(lambda: gauges(mesh.web)["ringfence_connections_open_outbound"] == 0)


async def test_what_waits_for_a_handshake_is_shown() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with Mesh() as mesh, serving(silent) as port:
        declare(mesh)
        mesh.lead_to(port)
        _, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        await until(lambda: gauges(mesh.web)["ringfence_connections_waiting"] == 1)
        writer.close()


async def test_what_a_slow_app_has_not_taken_is_shown_as_held() -> None:
    stay = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stay.wait()
        writer.close()

    async with serving(deaf) as app, Mesh(tcp_app=app) as mesh:
        declare(mesh)
        _, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)

        def held() -> float:
            return gauges(mesh.api)["ringfence_tunnel_received_bytes_held"]

        def kept() -> float:
            return gauges(mesh.web)["ringfence_tunnel_sending_bytes_kept"]

        writer.write(bytes(64 << 20))
        await until(lambda: held() > 0)
        writer.transport.abort()
        stay.set()
        await until(lambda: held() == kept() == 0)


async def test_handshakes_are_timed_by_direction_and_failed_ones_are_not() -> None:
    async with echo_app() as tcp, Mesh(tcp_app=tcp, intercept=True) as mesh:

        def timed(side: Side) -> dict[str, int]:
            table = side.metrics.handshakes.table
            return {direction: sum(histogram.buckets) for (direction,), histogram in table.items()}

        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.tcp_listen)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        writer.close()
        assert (timed(mesh.web), timed(mesh.api)) == ({"outbound": 1}, {"inbound": 1})
        rogue = await RawPeer.dial(mesh.mesh_port, None, hello=b"")
        await rogue.ended()
        rogue.close()
        client = await direct(mesh, TCP_PORT)
        client.close()
        await until(lambda: timed(mesh.api) == {"inbound": 2})
        assert len(mesh.api.failures) == 1
        assert all(histogram.sum_seconds > 0 for histogram in mesh.api.metrics.handshakes.table.values())


async def test_a_response_that_is_cut_short_is_a_reset_on_both_sides_and_a_whole_one_is_none() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with serving(serve) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        await until(lambda: not len(mesh.web.outbound.relays) and not len(mesh.api.inbound.relays))
        client.close()
        assert mesh.web.metrics.resets.at("outbound", str(API), "shop/api").value == 1
        assert mesh.api.metrics.resets.at("inbound", str(WEB), "shop/api").value == 1
    async with http_app() as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        await until(lambda: not len(mesh.api.inbound.relays))
        assert mesh.api.metrics.resets.at("inbound", str(WEB), "shop/api").value == 0


async def test_a_flood_of_http2_is_counted_by_the_limit_that_it_met() -> None:
    async with echo_app() as app, Mesh(http_app=app, http=Protocol.HTTP2) as mesh:
        for frame, reason in (
            (h2.ping(bytes(8)), "ping_flood"),
            (h2.frame(h2.PRIORITY, 0, 1, bytes(5)), "priority_flood"),
            (h2.frame(0x77, 0, 0, b""), "unknown_flood"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
            writer.write(h2.PREFACE + h2.settings({}) + frame * 3000)
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
            broken = mesh.web.metrics.violations.at("outbound", "http2", "client", reason)
            await until(lambda broken=broken: broken.value == 1)  # type: ignore[misc]
