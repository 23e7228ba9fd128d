"""What an HTTP app is told of where a request comes from, whatever the caller claims."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest

from ringfence.snapshot import ForwardedFor, PortMode, Protocol
from tests.data_path import HTTP_PORT, HttpClient, Mesh, http_app, plaintext_rule, rule
from tests.direct_callers import direct_http
from tests.integration.test_grpc_calls import Echo, grpc_app

PLAIN = plaintext_rule("plain", ports=[HTTP_PORT])
EVERYBODY = (rule("web", ports=[HTTP_PORT]), PLAIN)
SPOOFED = (
    "X-Forwarded-For: 203.0.113.9\r\n"
    "x_forwarded_for: 203.0.113.10\r\n"
    "Forwarded: for=203.0.113.11\r\n"
    "X-Real-IP: 203.0.113.12\r\n"
)
LISTED = "X-Forwarded-For: 203.0.113.9, 198.51.100.1\r\naccept: */*\r\nx-forwarded-for:198.51.100.2\r\n"


def setting(mesh: Mesh, value: ForwardedFor) -> None:
    mesh.workload = replace(
        mesh.workload, ports=tuple(replace(port, forwarded_for=value) for port in mesh.workload.ports)
    )
    mesh.enforce(*mesh.rules)


def told(head: bytes) -> list[bytes]:
    """The values of the field in a request head, in order."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip() for name, _, value in lines if name.lower() == b"x-forwarded-for"]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_through_a_tunnel_it_is_the_address_of_the_callers_sidecar_and_no_claim_of_the_callers(
    protocol: Protocol,
) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app, http=protocol) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SPOOFED)).status == 200
        assert (await client.ask("GET", "/orders/2")).status == 200
        client.close()
        assert [told(head) for head in seen] == [[b"127.0.0.1"]] * 2
        assert b"203.0.113" not in seen[0]


@pytest.mark.parametrize("plaintext", [False, True])
async def test_of_a_direct_caller_it_is_the_address_that_it_calls_from(plaintext: bool) -> None:
    seen: list[bytes] = []
    async with (
        http_app(seen) as app,
        Mesh(http_app=app, intercept=True, mode=PortMode.PERMISSIVE, rules=EVERYBODY) as mesh,
    ):
        client = HttpClient(*await mesh.arrive(HTTP_PORT)) if plaintext else await direct_http(mesh)
        assert (await client.ask("GET", "/orders/1", headers=SPOOFED)).status == 200
        client.close()
        [head] = seen
        assert told(head) == [b"127.0.0.1"]
        assert b"203.0.113" not in head
        assert (b"x-forwarded-client-cert" in head) is not plaintext


async def test_appended_it_stands_behind_all_that_the_caller_lists() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        setting(mesh, ForwardedFor.APPEND)
        client = await HttpClient.to(mesh.http_listen)
        for headers in (LISTED, "", SPOOFED):
            assert (await client.ask("GET", "/orders/1", headers=headers)).status == 200
        client.close()
        assert [told(head) for head in seen] == [
            [b"203.0.113.9, 198.51.100.1, 198.51.100.2, 127.0.0.1"],
            [b"127.0.0.1"],
            [b"203.0.113.9, 127.0.0.1"],
        ]
        assert b"203.0.113.10" not in seen[2]  # the list in another spelling, which a gateway would take for it
        assert b"accept: */*" in seen[0]


async def test_off_it_is_what_the_caller_says() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        setting(mesh, ForwardedFor.OFF)
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/orders/1", headers=SPOOFED)).status == 200
        assert (await client.ask("GET", "/orders/1")).status == 200
        client.close()
        assert [told(head) for head in seen] == [[b"203.0.113.9"], []]
        assert SPOOFED.encode() in seen[0]


async def test_a_connection_cannot_have_the_field_taken_out_behind_us() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        reply = await client.ask("GET", "/orders/1", headers="connection: x-forwarded-for\r\n")
        assert reply.status == 400
        client.close()
        assert not seen


class Told(Echo):
    """Remembers the whole list that each call bears."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[list[str]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self.lists.append([str(value) for name, value in details.invocation_metadata if name == "x-forwarded-for"])
        return super().service(details)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ForwardedFor.REPLACE, [["127.0.0.1"], ["127.0.0.1"]]),
        (ForwardedFor.APPEND, [["203.0.113.9, 198.51.100.1, 127.0.0.1"], ["127.0.0.1"]]),
        (ForwardedFor.OFF, [["203.0.113.9, 198.51.100.1"], []]),
    ],
)
async def test_calls_of_http_2_are_told_the_same(value: ForwardedFor, expected: list[list[str]]) -> None:
    app = Told()
    claimed = (("x-forwarded-for", "203.0.113.9, 198.51.100.1"), ("x-real-ip", "203.0.113.12"))
    async with (
        grpc_app(app) as port,
        Mesh(http=Protocol.GRPC, http_app=port, rules=EVERYBODY) as mesh,
        grpc.aio.insecure_channel(f"127.0.0.1:{mesh.http_listen}") as to,
    ):
        setting(mesh, value)
        assert await to.unary_unary("/test.Echo/One")(b"abc", metadata=claimed, timeout=20) == b"cba"
        assert await to.unary_unary("/test.Echo/One")(b"abc", timeout=20) == b"cba"
    assert app.lists == expected


async def test_pipelined_requests_of_any_cut_are_each_told_once() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as app, Mesh(http_app=app) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.http_listen)
        request = f"GET /orders/1 HTTP/1.1\r\nhost: api\r\n{SPOOFED}\r\n".encode()
        for at in range(0, 3 * len(request), 7):
            writer.write((3 * request)[at : at + 7])
            await writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(10):
                while len(seen) < 3:
                    await reader.read(65536)
        writer.close()
        assert [told(head) for head in seen] == [[b"127.0.0.1"]] * 3
