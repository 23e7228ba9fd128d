"""The app is told claims by header fields that no caller may send, in either version of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from hashlib import sha256
from typing import Any

import h2.exceptions
import pytest

from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.model import (
    Allowlist,
    HeaderMatch,
    PolicySet,
    Rule,
    TokenIssuer,
    TokenMatch,
    UnauthenticatedCallers,
)
from ringfence.policy.tokens import thumbprint
from ringfence.snapshot import ForwardedFor, PortMode, Protocol
from sidecar.tokens import NO_TOKENS
from sidecar.tokens.opening import TokenReaders
from sidecar.tokens.reader import TokenReader
from tests.data_path import HTTP_PORT, HttpClient, Mesh, http_app, rule, serving, until
from tests.integration.test_call_deadlines import H2App, H2Client
from tests.integration.test_policy_words import Shifted
from tests.jwts import AUDIENCE, ISSUER, Signer, ec_key, key_set

BY = Signer(key=ec_key())
LOGIN = TokenIssuer(
    name="shop/login", issuer=ISSUER, audiences=(AUDIENCE,), keys=key_set(ec_key()), claim_headers=(("x-user", "sub"),)
)
OPEN = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(rule("open"),)),))


def reader(mesh: Mesh) -> TokenReader:
    clock = SystemClock()
    made = TokenReaders(mesh.api.metrics, Logger("tokens", stream=mesh.api.lines), clock).made((LOGIN,))
    assert made is not NO_TOKENS
    return made


def bearer() -> str:
    return BY.token(exp=4_000_000_000)


@pytest.mark.parametrize("forwarded", list(ForwardedFor), ids=str)
async def test_http1(forwarded: ForwardedFor) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as port, Mesh(http_app=port) as mesh:
        ports = tuple(replace(one, forwarded_for=forwarded) for one in mesh.workload.ports)
        mesh.workload = replace(mesh.workload, ports=ports)
        mesh.put(OPEN)
        client = await HttpClient.to(mesh.http_listen)
        forged = "x-user: mallory\r\nX_uSer: mallory\r\nx-users: kept\r\n"
        assert (await client.ask("GET", "/a", headers=forged)).status == 200
        assert seen[-1].lower().count(b"mallory") == 2
        mesh.put(OPEN, tokens=reader(mesh))
        # On the same connection: what it sent before has been remembered.
        assert (await client.ask("GET", "/a", headers=forged)).status == 200
        assert b"mallory" not in seen[-1]
        assert b"x-users: kept" in seen[-1]
        assert (await client.ask("GET", "/a", headers=f"{forged}authorization: Bearer {bearer()}\r\n")).status == 200
        assert b"mallory" not in seen[-1]
        assert seen[-1].count(b"x-user: alice") == 1
        assert (await client.ask("GET", "/a", headers=forged)).status == 200
        assert b"x-user:" not in seen[-1]
        mesh.put(OPEN)
        assert (await client.ask("GET", "/a", headers=forged)).status == 200
        assert seen[-1].lower().count(b"mallory") == 2
        assert b"alice" not in seen[-1]
        client.close()


async def test_a_rule_never_sees_what_a_caller_claims() -> None:
    guarded = replace(rule("user"), headers=(HeaderMatch(name="x-user"),))
    async with http_app() as port, Mesh(http_app=port) as mesh:
        mesh.put(
            PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(guarded,)),)), tokens=reader(mesh)
        )
        client = await HttpClient.to(mesh.http_listen)
        assert (await client.ask("GET", "/a", headers="x-user: mallory\r\n")).status == 403
        client.close()


async def test_a_bound_token_is_good_for_the_client_that_shows_its_certificate_alone() -> None:
    guarded = replace(rule("token"), token=TokenMatch())
    async with http_app() as port, Mesh(http_app=port) as mesh:
        mesh.put(
            PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(guarded,)),)), tokens=reader(mesh)
        )
        client = await HttpClient.to(mesh.http_listen)
        own = sha256(mesh.web.context.svid.chain[0]).hexdigest()
        for leaf, status in ((own, 200), ("ab" * 32, 401)):
            token = BY.token(exp=4_000_000_000, cnf={"x5t#S256": thumbprint(leaf)})
            assert (await client.ask("GET", "/a", headers=f"authorization: Bearer {token}\r\n")).status == status
        client.close()


class ToldApp(H2App):
    """Keeps what it was told of the user."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[tuple[str, str]]] = []

    def _answer(self, end: Any, event: Any) -> None:
        fields = [(str(name), str(value)) for name, value in event.headers]
        self.told.append([(name, value) for name, value in fields if "user" in name])
        end.send_headers(event.stream_id, [(":status", "200")], end_stream=True)


async def test_http2() -> None:
    app = ToldApp()
    async with serving(app.serve) as port, Mesh(http_app=port, http=Protocol.HTTP2) as mesh:
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        mesh.put(OPEN)

        async def ask(*fields: tuple[str, str]) -> list[tuple[str, str]]:
            stream_id = client.ask("/a", ("x-user", "mallory"), ("x_user", "mallory"), *fields, grpc=False)
            await client.ended(stream_id)
            assert client.heads[stream_id][":status"] == "200"
            return app.told[-1]

        assert len(await ask()) == 2
        mesh.put(OPEN, tokens=reader(mesh))
        assert await ask() == []
        token = ("authorization", f"Bearer {bearer()}")
        assert await ask(token) == [("x-user", "alice")]
        assert await ask(token) == [("x-user", "alice")]
        assert await ask(("authorization", "Bearer a.b.c")) == []
        mesh.put(OPEN)
        assert len(await ask()) == 2
        client.writer.close()


async def test_nothing_is_let_through_where_there_is_nothing_to_put_in() -> None:
    """A caller in plaintext has no identity to be told, and the port tells no address: still its claim goes."""
    seen: list[bytes] = []
    anybody = Rule(name="anybody", callers=(UnauthenticatedCallers(),))
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(anybody,)),))
    async with http_app(seen) as port, Mesh(http_app=port, intercept=True, mode=PortMode.PERMISSIVE) as mesh:
        ports = tuple(replace(one, forwarded_for=ForwardedFor.OFF) for one in mesh.workload.ports)
        mesh.workload = replace(mesh.workload, ports=ports)
        mesh.put(policy, tokens=reader(mesh))
        client = HttpClient(*await mesh.arrive(HTTP_PORT))
        for _ in range(2):
            assert (await client.ask("GET", "/a", headers="x-user: mallory\r\n")).status == 200
            assert b"mallory" not in seen[-1]
        client.close()


@pytest.mark.parametrize("trailer", ["x-user: mallory", "X_User: mallory"])
async def test_no_trailer_claims_what_no_header_may(trailer: str) -> None:
    seen: list[bytes] = []
    async with http_app(seen) as port, Mesh(http_app=port) as mesh:
        mesh.put(OPEN, tokens=reader(mesh))
        client = await HttpClient.to(mesh.http_listen)
        head = (
            f"POST /a HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {bearer()}\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        client.writer.write(f"{head}1\r\na\r\n0\r\n{trailer}\r\n\r\n".encode())
        assert (await client.reply()).status == 400
        client.close()


class PatientApp(ToldApp):
    """May be too late to answer."""

    def _answer(self, end: Any, event: Any) -> None:
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            super()._answer(end, event)


async def test_no_trailer_of_http2_claims_what_no_header_may() -> None:
    app = PatientApp()
    async with serving(app.serve) as port, Mesh(http_app=port, http=Protocol.HTTP2) as mesh:
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        mesh.put(OPEN, tokens=reader(mesh))
        for name, refused in (("x-users", False), ("x-user", True), ("x_user", True)):
            stream_id = client.ask("/a")
            client.end.send_headers(stream_id, [(name, "mallory")], end_stream=True)
            client.writer.write(client.end.data_to_send())
            await client.ended(stream_id)
            assert (stream_id in client.resets) is refused, name
        client.writer.close()


async def test_no_connection_option_takes_out_what_the_app_is_told() -> None:
    seen: list[bytes] = []
    async with http_app(seen) as port, Mesh(http_app=port) as mesh:
        mesh.put(OPEN, tokens=reader(mesh))
        client = await HttpClient.to(mesh.http_listen)
        token = f"authorization: Bearer {bearer()}\r\n"
        assert (await client.ask("GET", "/a", headers=f"{token}connection: x-users\r\n")).status == 200
        assert (await client.ask("GET", "/a", headers=f"{token}connection: X-User\r\n")).status == 403
        client.close()


async def test_the_token_of_a_call_that_is_refused_anyway_is_not_looked_at() -> None:
    """Else whoever may do nothing could have issuers asked about tokens of their making."""
    nobody = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(rule("one", paths=("/only",)),)),))
    async with http_app() as port, Mesh(http_app=port) as mesh:
        mesh.put(nobody, tokens=reader(mesh))
        client = await HttpClient.to(mesh.http_listen)
        headers = f"authorization: Bearer {bearer()}\r\n"
        assert (await client.ask("GET", "/a", headers=headers)).status == 403
        assert mesh.api.metrics.tokens.at("verified").value == 0
        assert (await client.ask("GET", "/only", headers=headers)).status == 200
        assert mesh.api.metrics.tokens.at("verified").value == 1
        client.close()


async def test_a_call_ends_with_its_token_and_one_whose_token_lives_goes_on() -> None:
    app, clock = H2App(), Shifted()
    guarded = replace(rule("token", paths=["/test/begun"]), token=TokenMatch())
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(guarded,)),))
    async with serving(app.serve) as port, Mesh(http_app=port, http=Protocol.GRPC, clock=clock) as mesh:
        mesh.put(policy, tokens=reader(mesh))
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        short, long = (BY.token(exp=clock.now() + seconds) for seconds in (100, 10_000))
        ends, lives = (client.ask("/test/begun", ("authorization", f"Bearer {token}")) for token in (short, long))
        while not {ends, lives} <= client.heads.keys():
            await client._read()
        clock.ahead = 129.0
        await mesh.api.inbound.look_at_time()
        clock.ahead = 131.0  # behind the leeway
        await mesh.api.inbound.look_at_time()
        await client.ended(ends)
        assert client.trailers[ends]["grpc-status"] == "16"
        assert client.trailers[ends]["grpc-message"].startswith("token_invalid")
        await until(lambda: app.resets == 1)
        assert lives not in client.over
        client.writer.close()


@pytest.mark.parametrize("trailer", ["x-debug: 1", "X_Debug: 1", "x-other: 1"])
async def test_no_trailer_says_what_a_rule_looks_for_in_headers(trailer: str) -> None:
    quiet = replace(rule("quiet"), headers=(HeaderMatch(name="x-debug", present=False),))
    policy = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(quiet,)),))
    async with http_app() as port, Mesh(http_app=port) as mesh:
        mesh.put(policy)
        client = await HttpClient.to(mesh.http_listen)
        client.writer.write(b"POST /a HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        client.writer.write(f"0\r\n{trailer}\r\n\r\n".encode())
        if trailer.startswith("x-other"):
            async with asyncio.timeout(60):
                assert b"200" in await client.reader.readuntil(b"\r\n")
        else:
            assert (await client.reply()).status == 400
        client.close()
