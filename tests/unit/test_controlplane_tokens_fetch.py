"""Key sets over the network: one that is taken, and all that must not be."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.tokens.fetch import FetchError, KeyFetcher
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.tokens import KeySet
from tests.issuers import LocalIssuer, local_issuer, never
from tests.jwts import ec_key, key_set, public
from tests.ports import free_port


def rules(issuer: LocalIssuer, **changed: Any) -> TokenIssuerRules:
    allowed: dict[str, Any] = {
        "hosts": ("localhost",),
        "private_networks": ("127.0.0.0/8",),
        "ca_file": str(issuer.ca_file),
        **changed,
    }
    return TokenIssuerRules(**allowed)


async def fetch_keys(url: str, by: TokenIssuerRules, **options: Any) -> KeySet:
    fetcher = KeyFetcher(**options)
    try:
        return await fetcher.fetch(url, by)
    finally:
        fetcher.close()


async def reason(url: str, by: TokenIssuerRules, **options: Any) -> str:
    with pytest.raises(FetchError) as caught:
        await fetch_keys(url, by, **options)
    return caught.value.reason


async def test_a_key_set_is_fetched_over_tls(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(ec_key())
        found = await fetch_keys(issuer.url, rules(issuer))
        assert [key.kid for key in found.keys] == ["ec-1"]


async def test_redirects_to_metadata_are_not_followed(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        for status in (301, 302, 303, 307, 308):
            for where in ("http://169.254.169.254/latest/meta-data/", issuer.url, "/keys"):

                async def away(_: web.Request, status: int = status, where: str = where) -> web.StreamResponse:
                    return web.Response(status=status, headers={"location": where})

                issuer.answer = away
                assert await reason(issuer.url, rules(issuer)) == "redirect"
        assert len(issuer.asked) == 15


async def test_a_name_that_stands_for_a_private_address_is_not_connected_to(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(ec_key())
        assert await reason(issuer.url, rules(issuer, private_networks=())) == "not_allowed"
        assert await reason(issuer.url, rules(issuer, hosts=("login.example.org",))) == "not_allowed"
        for inside in ("169.254.169.254", "10.0.0.1", "::1", "fe80::1%1", "::ffff:169.254.169.254"):
            asked: list[str] = []

            def rebound(host: str, port: int, inside: str = inside, asked: list[str] = asked, **_: object) -> list[Any]:
                asked.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (inside, port))]

            assert await reason("https://localhost/keys", rules(issuer), resolve=rebound) == "not_allowed"
            assert asked == ["localhost"]
        assert issuer.asked == []


async def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path) -> None:
    """A name that stands for another address at each question is asked once, and never again by the connection."""
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(ec_key())
        answers = ["127.0.0.1", "169.254.169.254"]

        def changing(host: str, port: int, **_: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

        await fetch_keys(issuer.url, rules(issuer), resolve=changing)
        assert answers == ["169.254.169.254"]


async def test_a_resolver_that_hangs_is_given_up(tmp_path: Path) -> None:
    let_go = threading.Event()

    def hangs(*_: object, **__: object) -> list[Any]:
        let_go.wait()
        return []

    async with local_issuer(tmp_path) as issuer:
        assert await reason(issuer.url, rules(issuer), resolve=hangs, seconds=0.2) == "timeout"
    let_go.set()


async def test_a_certificate_of_nobody_or_of_another_host_is_refused(tmp_path: Path) -> None:
    other, mine = tmp_path / "other", tmp_path / "mine"
    other.mkdir()
    mine.mkdir()
    async with local_issuer(mine) as issuer, local_issuer(other, host="login.example.org") as stranger:
        issuer.keys = stranger.keys = key_set(ec_key())
        assert await reason(issuer.url, rules(stranger)) == "tls"
        assert await reason(issuer.url, rules(issuer, ca_file="")) == "tls"
        assert await reason(stranger.url, rules(stranger)) == "tls"


async def test_plain_http_is_refused_unless_the_mesh_file_says_so(tmp_path: Path) -> None:
    async with local_issuer(tmp_path, tls=False) as issuer:
        issuer.keys = key_set(ec_key())
        url = issuer.url.replace("https", "http")
        assert await reason(url, rules(issuer)) == "not_allowed"
        assert await fetch_keys(url, rules(issuer, plain_http=True))


async def test_a_huge_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:

        async def large(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(64):
                await response.write(b" " * 65_536)
                await asyncio.sleep(0)
            return response

        issuer.answer = large
        assert await reason(issuer.url, rules(issuer)) == "too_large"


async def test_a_key_set_of_ten_thousand_keys_is_refused(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(*[public(ec_key(), kid=str(at)) for at in range(10_000)])
        assert await reason(issuer.url, rules(issuer)) == "too_large"
        issuer.keys = '{"keys": [' + ",".join(["{}"] * 10_000) + "]}"
        assert await reason(issuer.url, rules(issuer)) == "bad_keys"


async def test_what_is_no_key_set_is_refused(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        for body in ("", "<html>", key_set(), key_set(ec_key().as_dict(private=True))):
            issuer.keys = body
            assert await reason(issuer.url, rules(issuer)) == "bad_keys"
        for status in (204, 404, 500, 503):

            async def failed(_: web.Request, status: int = status) -> web.StreamResponse:
                return web.Response(status=status)

            issuer.answer = failed
            assert await reason(issuer.url, rules(issuer)) == "status"


async def test_a_silent_issuer_is_given_up(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        issuer.answer = never
        assert await reason(issuer.url, rules(issuer), seconds=0.2) == "timeout"
        assert await reason(f"https://localhost:{free_port()}/keys", rules(issuer)) == "unreachable"


async def test_a_compressed_answer_is_not_unpacked(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:

        async def packed(_: web.Request) -> web.StreamResponse:
            response = web.Response(body=key_set(ec_key()).encode())
            response.enable_compression(web.ContentCoding.gzip)
            return response

        issuer.answer = packed
        assert await reason(issuer.url, rules(issuer)) in ("bad_keys", "unreachable")
