"""Requests whose token only its issuer knows: they wait for its word, and nothing else of their connection does but
what must not overtake them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.log import Logger
from ringfence.policy.model import Allowlist, Introspection, PolicySet, Rule, TokenIssuer, TokenMatch
from ringfence.snapshot import Protocol
from sidecar.tokens.introspector import Introspector
from sidecar.tokens.requests import RequestTokens
from sidecar.tokens.tally import TokenTally
from tests.data_path import HttpClient, Mesh, http_app, rule, serving, until
from tests.integration.test_call_deadlines import H2App, H2Client
from tests.integration.test_policy_words import Shifted

OPAQUE = TokenIssuer(
    name="shop/opaque",
    issuer="https://opaque.example/",
    audiences=("api",),
    introspection=Introspection(url="https://opaque.example/i", client_id="c", secret="s", cache_seconds=60),
)


def guarded_rule(**parts: Any) -> Rule:
    """Asks for a token, whatever it says."""
    return replace(rule("guarded", **parts), token=TokenMatch())


class Issuer:
    """Answers when the test says so: each token that begins with ``good`` is active."""

    def __init__(self, mesh: Mesh, clock: Clock | None = None) -> None:
        self.clock = clock = clock or SystemClock()
        self.good = "good"
        tally = TokenTally(mesh.api.metrics, Logger("tokens", stream=mesh.api.lines), clock)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.tokens = RequestTokens(
            (OPAQUE,), introspector=Introspector(self._ask, tally=tally, clock=clock, seconds=20.0), tally=tally
        )
        free, guarded = rule("free", paths=["/free"]), guarded_rule(paths=["/a", "/b"])
        lists = (Allowlist(namespace="shop", name="api", rules=(free, guarded)),)
        mesh.put(PolicySet(allowlists=lists), tokens=self.tokens)

    async def _ask(self, issuer: TokenIssuer, token: str) -> bytes:
        self.asked.append(token)
        await self.open.wait()
        return json.dumps(
            {"active": token.startswith(self.good), "aud": "api", "exp": self.clock.now() + 3600}
        ).encode()

    async def was_asked(self, *tokens: str) -> None:
        await until(lambda: self.asked == list(tokens))


class Http1:
    """A mesh, its app, a client of HTTP/1.1."""

    def __init__(self, mesh: Mesh, client: HttpClient, seen: list[bytes]) -> None:
        self.mesh, self.client, self.seen = mesh, client, seen
        self.issuer = Issuer(mesh)

    def send(self, target: str, token: str = "", body: bytes = b"", method: str = "GET") -> None:
        bearer = f"authorization: Bearer {token}\r\n" if token else ""
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.client.writer.write(f"{method} {target} HTTP/1.1\r\nhost: api\r\n{bearer}{length}\r\n".encode() + body)


@pytest.fixture
async def site() -> AsyncIterator[Http1]:
    seen: list[bytes] = []
    async with http_app(seen) as port, Mesh(http_app=port) as mesh:
        client = await HttpClient.to(mesh.http_listen)
        made = Http1(mesh, client, seen)
        yield made
        made.issuer.open.set()
        client.close()


async def test_a_request_waits_for_the_word_of_its_tokens_issuer(site: Http1) -> None:
    site.send("/a", "good-1")
    await site.issuer.was_asked("good-1")
    assert site.seen == []
    site.issuer.open.set()
    assert (await site.client.reply()).status == 200
    assert len(site.seen) == 1
    site.send("/a", "good-1")
    assert (await site.client.reply()).status == 200
    assert site.issuer.asked == ["good-1"]


async def test_a_request_whose_token_is_not_active_never_reaches_the_app(site: Http1) -> None:
    site.send("/a", "bad", b"x" * 1000, "POST")
    await site.issuer.was_asked("bad")
    site.issuer.open.set()
    reply = await site.client.reply()
    assert (reply.status, reply.json()["reason"]) == (401, "token_invalid")
    assert site.seen == []
    site.send("/free")
    assert (await site.client.reply()).status == 200


async def test_requests_behind_one_that_waits_keep_their_order(site: Http1) -> None:
    site.send("/free")
    site.send("/a", "good-1", b"body" * 5000, "POST")
    site.send("/free")
    site.send("/b", "bad")
    site.send("/b", "good-2")
    await site.issuer.was_asked("good-1")
    assert (await site.client.reply()).status == 200
    site.issuer.open.set()
    assert [(await site.client.reply()).status for _ in range(4)] == [200, 200, 401, 200]
    assert [head.split()[1] for head in site.seen] == [b"/free", b"/a", b"/free", b"/b"]


async def test_a_request_that_no_token_is_asked_of_does_not_wait(site: Http1) -> None:
    site.send("/free", "good-1")
    assert (await site.client.reply()).status == 200
    assert site.issuer.asked == []


async def test_a_client_that_has_said_all_still_gets_its_answer(site: Http1) -> None:
    site.send("/a", "good-1")
    site.client.writer.write_eof()
    await site.issuer.was_asked("good-1")
    site.issuer.open.set()
    assert (await site.client.reply()).status == 200


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(site: Http1) -> None:
    site.send("/a", "good-1")
    await site.issuer.was_asked("good-1")
    site.client.writer.transport.abort()
    site.issuer.open.set()
    await until(lambda: not len(site.mesh.api.inbound.relays))
    again = await HttpClient.to(site.mesh.http_listen)
    assert (await again.ask("GET", "/free")).status == 200
    again.close()


async def test_streams_that_are_open_go_on_while_another_waits() -> None:
    app = H2App()
    async with (
        serving(app.serve) as port,
        Mesh(http_app=port, http=Protocol.HTTP2, rules=()) as mesh,
    ):
        issuer = Issuer(mesh)
        lists = (
            Allowlist(
                namespace="shop",
                name="api",
                rules=(
                    rule("free", paths=["/test/begun", "/test/never", "/test/whole"], methods=["POST"]),
                    guarded_rule(paths=["/test/whole"], methods=["GET"]),
                    replace(guarded_rule(paths=["/test/call"]), name="call"),
                ),
            ),
        )
        mesh.put(PolicySet(allowlists=lists), tokens=issuer.tokens)
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        open_one = client.ask("/test/begun")
        while open_one not in client.heads:
            await client._read()
        waiting = client.ask("/test/whole", ("authorization", "Bearer good-1"), grpc=False)
        behind = client.ask("/test/whole", ("x-new", "field"))
        refused = client.ask("/test/whole", ("authorization", "Bearer bad"), grpc=False)
        called = client.ask("/test/call", ("authorization", "Bearer bad"))
        without = client.ask("/test/call")
        await issuer.was_asked("good-1")
        # The open stream is ended by its client while the others wait: it must be heard of at the app.
        client.end.reset_stream(open_one, 8)
        client.writer.write(client.end.data_to_send())
        await until(lambda: app.resets == 1)
        assert app.asked == ["/test/begun"]
        issuer.open.set()
        for stream_id in (waiting, behind, refused, called, without):
            await client.ended(stream_id)
        assert [client.heads[one][":status"] for one in (waiting, behind, refused)] == ["200", "200", "401"]
        assert client.heads[refused]["www-authenticate"] == 'Bearer error="invalid_token"'
        for stream_id, challenge in ((called, 'Bearer error="invalid_token"'), (without, "Bearer")):
            told = client.heads[stream_id]
            assert (told[":status"], told["grpc-status"], told["www-authenticate"]) == ("200", "16", challenge)
        assert app.asked == ["/test/begun", "/test/whole", "/test/whole"]
        client.writer.close()


async def test_a_call_whose_token_is_asked_about_again_goes_on_until_there_is_an_answer() -> None:
    app, clock = H2App(), Shifted()
    policy = PolicySet(
        allowlists=(Allowlist(namespace="shop", name="api", rules=(guarded_rule(paths=["/test/begun"]),)),)
    )
    async with serving(app.serve) as port, Mesh(http_app=port, http=Protocol.GRPC, clock=clock) as mesh:
        issuer = Issuer(mesh, clock)
        mesh.put(policy, tokens=issuer.tokens)
        issuer.open.set()
        client = H2Client(*await asyncio.open_connection("127.0.0.1", mesh.http_listen))
        calls = [client.ask("/test/begun", ("authorization", f"Bearer good-{at}")) for at in (1, 2)]
        while not set(calls) <= client.heads.keys():
            await client._read()
        issuer.open.clear()
        clock.ahead = 61.0  # behind ``cache``
        await mesh.api.inbound.look_at_time()
        await until(lambda: len(issuer.asked) == 4)
        assert app.resets == 0
        issuer.good = "good-2"
        issuer.open.set()
        await client.ended(calls[0])
        assert client.trailers[calls[0]]["grpc-status"] == "16"
        await until(lambda: app.resets == 1)
        await mesh.api.inbound.look_at_time()
        assert calls[1] not in client.over
        client.writer.close()
