"""Callers without identity on their way into the mesh: on a permissive port of a service that is only observed, they
pass, each is told, and the end of the observation ends them. A strict port refuses them whatever is observed."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from ringfence.policy.model import Allowlist, Denylist, PolicySet, Rule
from ringfence.snapshot import PortMode, Protocol
from sidecar.flows.reports import take_reports
from tests.data_path import HTTP_PORT, TCP_PORT, HttpClient, Mesh, echo_app, http_app, plaintext_rule, rule, until

HTTPS = (Protocol.HTTP, Protocol.AUTO)
OPAQUE = (Protocol.TCP, Protocol.AUTO)
FOR_WEB = rule("web")


def observed(*rules: Rule, seconds: float = 1000.0, denied: tuple[Rule, ...] = ()) -> PolicySet:
    lists = (Allowlist(namespace="shop", name="api", rules=rules),) if rules else ()
    refusing = (Denylist(namespace="shop", name="never", rules=denied),) if denied else ()
    return PolicySet(allowlists=lists, denylists=refusing, observe_until=time.time() + seconds)


def told(mesh: Mesh) -> list[tuple[str, str, str]]:
    """Of each call that passed only for being observed: who, where from, why it would be refused."""
    return [(line["peer"], line["remote"].split(":")[0], line["would_deny"]) for line in mesh.api.log("would deny")]


@pytest.mark.parametrize("rules", [(), (FOR_WEB,)], ids=["no policy", "policy for the mesh"])
@pytest.mark.parametrize("protocol", HTTPS)
async def test_requests_in_plaintext_pass_and_are_told(protocol: Protocol, rules: tuple[Rule, ...]) -> None:
    seen: list[bytes] = []
    async with (
        http_app(seen) as app,
        Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE, http=protocol) as mesh,
    ):
        mesh.put(observed(*rules))
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        for number in range(2):
            reply = await client.ask("POST", f"/orders/{number}", headers="x-forwarded-client-cert: URI=forged\r\n")
            assert reply.status == 200
        assert b"forged" not in seen[0]
        assert told(mesh) == [("", "127.0.0.1", "unauthenticated")] * 2
        counted = mesh.api.metrics.would_deny.at("", "shop/api", str(HTTP_PORT), "unauthenticated")
        assert counted.value == 2
        [flow] = [flow for report in take_reports(mesh.api.recorder.flows) for flow in report.flows]
        assert (flow.caller, flow.address, flow.verdict, flow.count) == ("", "127.0.0.1", "would_deny", 2)
        mesh.put(PolicySet(allowlists=observed(FOR_WEB).allowlists))
        assert (await client.ask("GET", "/orders/3")).json()["reason"] == "unauthenticated"
        client.close()


@pytest.mark.parametrize("protocol", OPAQUE)
@pytest.mark.parametrize("greeting", [b"", b"220 ready\r\n"], ids=["client first", "server first"])
async def test_opaque_plaintext_passes_and_is_told(protocol: Protocol, greeting: bytes) -> None:
    async with (
        echo_app(greeting=greeting) as app,
        Mesh(tcp_app=app, intercept=True, mode=PortMode.PERMISSIVE, tcp=protocol) as mesh,
    ):
        mesh.put(observed(FOR_WEB))
        reader, writer = await mesh.arrive(TCP_PORT)
        if greeting:
            assert await asyncio.wait_for(reader.readline(), 20) == greeting
        writer.write(b"\x00\x01ping")
        assert await asyncio.wait_for(reader.readexactly(6), 20) == b"\x00\x01ping"
        assert told(mesh) == [("", "127.0.0.1", "unauthenticated")]
        [flow] = [flow for report in take_reports(mesh.api.recorder.flows) for flow in report.flows]
        assert (flow.caller, flow.address, flow.protocol, flow.count) == ("", "127.0.0.1", "tcp", 1)
        mesh.put(PolicySet(allowlists=observed(FOR_WEB).allowlists))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await until(lambda: len(mesh.api.log("connection denied")) == 1)


async def test_a_strict_port_refuses_plaintext_although_it_is_observed() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True) as mesh:
        mesh.put(observed())
        reader, writer = await mesh.arrive(HTTP_PORT)
        writer.write(b"GET /orders/1 HTTP/1.1\r\nhost: api\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 20)
        writer.close()
        assert not told(mesh)


async def test_a_denylist_holds_for_plaintext_although_it_is_observed() -> None:
    async with http_app() as app, Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE) as mesh:
        mesh.put(observed(denied=(plaintext_rule("admin", paths=["/admin/**"]),)))
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        assert (await client.ask("GET", "/admin/1")).status == 403
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
