"""What rules ask of tokens is told in each protocol's words; what lives by a token ends with it, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import grpc
import pytest

from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.model import Allowlist, PolicySet, Rule, TokenMatch
from ringfence.snapshot import Protocol
from sidecar.tokens import TokenRequest
from tests.data_path import HTTP_PORT, HttpClient, Mesh, rule, serving, until
from tests.direct_callers import direct_http
from tests.integration.test_call_deadlines import H2App, H2Client
from tests.integration.test_grpc_calls import Echo, channel, grpc_app
from tests.integration.test_policy_words import Shifted

OWN = rule("x").callers
TOKEN = Rule(name="token", callers=OWN, paths=("/token/**", "/test.Echo/*"), token=TokenMatch(scopes=("read",)))
STEP_UP = Rule(name="mfa", callers=OWN, paths=("/mfa",), token=TokenMatch(acr=("phr",), max_age_seconds=900))
OPEN = Rule(name="open", callers=OWN, paths=("/open",))
POLICY = PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=(TOKEN, STEP_UP, OPEN)),))


class Reader:
    """``Bearer SCOPE SECONDS``: a good token with this scope that ends so long after the tests began."""

    own_fields: frozenset[bytes] = frozenset()

    def __init__(self) -> None:
        self.began = time.time()

    def told(self, token: VerifiedToken) -> Sequence[tuple[bytes, bytes]]:
        return ()

    def token(self, request: TokenRequest) -> Token:
        values = request.header(b"authorization")
        if not values:
            return None
        kind, _, rest = values[0].decode().partition(" ")
        scope, _, seconds = rest.partition(" ")
        expires = self.began + float(seconds or 0)
        if kind != "Bearer" or request.now >= expires:
            return TokenRefused("it has ended")
        return VerifiedToken(issuer="shop/main", claims={"scope": scope}, expires=expires)


def bearer(scope: str, seconds: int = 10_000) -> str:
    return f"authorization: Bearer {scope} {seconds}\r\n"


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers, but of ``held`` requests only the beginning."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no" + (b"" if b"/held" in head else b"k"))
    writer.close()


@pytest.mark.parametrize("direct", [False, True])
async def test_the_words_for_a_token_are_those_of_oauth_and_tell_nothing_of_the_policy(direct: bool) -> None:
    async with serving(hold) as port, Mesh(http_app=port, intercept=direct) as mesh:
        mesh.put(POLICY, tokens=Reader())
        client = await direct_http(mesh) if direct else await HttpClient.to(mesh.http_listen)
        for target, headers, status, reason, challenge in [
            ("/token/a", bearer("read"), 200, "", None),
            ("/open", "", 200, "", None),
            ("/token/a", "", 401, "token_missing", "Bearer"),
            ("/token/a", bearer("read", 0), 401, "token_invalid", 'Bearer error="invalid_token"'),
            ("/token/a", bearer("write"), 403, "token_insufficient", 'Bearer error="insufficient_scope"'),
            ("/other", "", 403, "path_not_allowed", None),
            (
                "/mfa",
                bearer("read"),
                401,
                "step_up_required",
                'Bearer error="insufficient_user_authentication", acr_values="phr", max_age="900"',
            ),
            ("/token/b", bearer("read"), 200, "", None),
        ]:
            reply = await client.ask("GET", target, headers=headers)
            assert (reply.status, reply.headers.get("www-authenticate")) == (status, challenge), target
            assert not reason or reply.json()["reason"] == reason
            assert "shop/" not in str(reply.headers.get("www-authenticate")) + str(reply.body)
        assert all("Bearer" not in str(line) for line in mesh.api.log("request denied"))
        client.close()


async def test_a_grpc_call_without_a_token_is_unauthenticated_and_with_too_little_denied() -> None:
    async with grpc_app(Echo()) as port, Mesh(http=Protocol.GRPC, http_app=port) as mesh, channel(mesh) as to:
        mesh.put(POLICY, tokens=Reader())
        call = to.unary_unary("/test.Echo/One")
        assert await call(b"ab", metadata=(("authorization", "Bearer read 10000"),), timeout=10) == b"ba"
        for metadata, code in [
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer read 0"),), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer write 10000"),), grpc.StatusCode.PERMISSION_DENIED),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"ab", metadata=metadata, timeout=10)
            assert caught.value.code() is code
            assert "shop/api" not in str(caught.value.details())


async def test_streams_end_with_their_tokens_and_exactly_those() -> None:
    clock = Shifted()
    async with (
        grpc_app(Echo()) as port,
        Mesh(http=Protocol.GRPC, http_app=port, clock=clock) as mesh,
        channel(mesh) as to,
    ):
        mesh.put(POLICY, tokens=Reader())
        gate = asyncio.Event()

        async def words() -> object:
            yield b"first"
            await gate.wait()
            yield b"last"

        chat = to.stream_stream("/test.Echo/Chat")
        short, long = (
            chat(words(), metadata=(("authorization", f"Bearer read {seconds}"),), timeout=60)
            for seconds in (1_000, 100_000)
        )
        assert [await short.read(), await long.read()] == [b"FIRST", b"FIRST"]
        await mesh.api.inbound.look_at_time()
        clock.ahead = 2_000.0
        await mesh.api.inbound.look_at_time()
        assert await asyncio.wait_for(short.code(), 10) is grpc.StatusCode.UNAUTHENTICATED
        gate.set()
        assert await long.read() == b"LAST"
        [line] = mesh.api.log("request denied")
        assert line["reason"] == "token_invalid"


async def test_http1_requests_end_with_their_tokens_and_exactly_those() -> None:
    clock = Shifted()
    async with serving(hold) as port, Mesh(http_app=port, clock=clock) as mesh:
        mesh.put(POLICY, tokens=Reader())
        ends = [await HttpClient.to(mesh.http_listen) for _ in range(3)]
        for client, seconds in zip(ends[:2], (1_000, 100_000), strict=True):
            client.writer.write(f"GET /token/held HTTP/1.1\r\nhost: api\r\n{bearer('read', seconds)}\r\n".encode())
            await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\no"), 10)
        assert (await ends[2].ask("GET", "/token/a", headers=bearer("read", 1_000))).status == 200
        clock.ahead = 2_000.0
        await mesh.api.inbound.look_at_time()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(ends[0].reader.read(), 10) == b""
        # Of these one lives by another token, and the other has no request under way.
        assert (await ends[2].ask("GET", "/open")).status == 200
        await until(lambda: len(mesh.api.inbound.relays) == 2)
        [line] = mesh.api.log("connection denied")
        assert (line["reason"], line["detail"]) == ("token_invalid", "its time is over")
        for client in ends:
            client.close()


async def test_http2_requests_end_with_their_tokens_and_the_others_of_the_connection_live() -> None:
    clock, app = Shifted(), H2App()
    async with serving(app.serve) as port, Mesh(http_app=port, http=Protocol.HTTP2, clock=clock) as mesh:
        rules = (Rule(name="token", callers=OWN, ports=(HTTP_PORT,), token=TokenMatch()),)
        mesh.put(PolicySet(allowlists=(Allowlist(namespace="shop", name="api", rules=rules),)), tokens=Reader())
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        short, long = (
            client.ask("/test/begun", ("authorization", f"Bearer read {seconds}"), grpc=False)
            for seconds in (1_000, 100_000)
        )
        await until(lambda: len(app.asked) == 2)
        clock.ahead = 2_000.0
        await mesh.api.inbound.look_at_time()
        await client.ended(short)
        assert long not in client.over
        whole = client.ask("/test/whole", ("authorization", "Bearer read 100000"), grpc=False)
        await client.ended(whole)
        assert client.heads[whole][":status"] == "200"
        client.writer.close()
