"""One key set from one URL, by aiohttp: bounded in time and size, no redirects, no proxies. Adapter.

The connection goes to an address that was checked, and to no other: the resolver gives aiohttp only such, and a URL
with an address in the place of a name, which would pass the resolver by, is refused by ``guard``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from controlplane.tokens.guard import AllowedUrl, UrlRefusedError, allowed_url, refused_address
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.tokens import KeySet, KeySetError, read_key_set
from ringfence.policy.tokens.keys import KEY_SET_LIMIT_BYTES

FETCH_SECONDS: Final = 10.0
_CHUNK_BYTES: Final = 16 * 1024
_RESOLVERS: Final = 4
REASONS: Final = ("not_allowed", "unreachable", "tls", "timeout", "redirect", "status", "too_large", "bad_keys")

Resolve = Callable[..., list[Any]]
"""As ``socket.getaddrinfo``."""
Addresses = Callable[[str, int], Awaitable[list[tuple[socket.AddressFamily, int, str]]]]


class FetchError(Exception):
    """There are no keys; ``reason`` is one of ``REASONS``, ``detail`` for the log."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class KeyFetcher:
    """Fetches key sets. Names are resolved in threads of its own: a resolver that hangs must not hold up what else the
    process does in threads, as recording revisions."""

    def __init__(self, *, seconds: float = FETCH_SECONDS, resolve: Resolve = socket.getaddrinfo) -> None:
        self._seconds = seconds
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolver")

    def close(self) -> None:
        """Resolve no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, url: str, rules: TokenIssuerRules) -> KeySet:
        """The key set at ``url``; raises FetchError."""
        try:
            allowed = allowed_url(url, rules)
        except UrlRefusedError as error:
            raise FetchError("not_allowed", str(error)) from None
        async with _told():
            async with asyncio.timeout(self._seconds):
                body = await _body(allowed, rules, self._addresses)
                # Some milliseconds of arithmetic for a large set.
                return await asyncio.to_thread(read_key_set, body)

    async def _addresses(self, host: str, port: int) -> list[tuple[socket.AddressFamily, int, str]]:
        """Family, protocol and address of each that ``host`` stands for."""
        loop = asyncio.get_running_loop()
        ask = partial(self._resolve, host, port, type=socket.SOCK_STREAM)
        found = await loop.run_in_executor(self._threads, ask)
        return [(family, protocol, str(address[0])) for family, _, protocol, _, address in found]


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Maps what can go wrong, once."""
    try:
        yield
    except KeySetError as error:
        raise FetchError("bad_keys", str(error)) from None
    except TimeoutError:
        raise FetchError("timeout", "no key set in time") from None
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise FetchError("tls", _words(error)) from error
    except _AddressRefusedError as error:
        raise FetchError("not_allowed", str(error)) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError("unreachable", _words(error)) from error


async def _body(allowed: AllowedUrl, rules: TokenIssuerRules, addresses: Addresses) -> bytes:
    context = await asyncio.to_thread(_tls, rules.ca_file) if allowed.tls else False
    resolver = _CheckedResolver(rules, addresses, tls=allowed.tls)
    connector = aiohttp.TCPConnector(resolver=resolver, ssl=context or True, use_dns_cache=False, force_close=True)
    headers = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
    async with (
        aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session,
        session.get(allowed.url, allow_redirects=False) as response,
    ):
        if 300 <= response.status < 400:
            raise FetchError("redirect", f"answered {response.status}, and redirects are not followed")
        if response.status != 200:
            raise FetchError("status", f"answered {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > KEY_SET_LIMIT_BYTES:
                raise FetchError("too_large", f"more than {KEY_SET_LIMIT_BYTES} bytes")
        return bytes(body)


def _tls(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _AddressRefusedError(Exception):
    """Every address of a host is refused. Not an OSError, which aiohttp would take for a failure of the resolver."""


class _CheckedResolver(AbstractResolver):
    """Resolves, but for addresses that may not be connected to."""

    def __init__(self, rules: TokenIssuerRules, addresses: Addresses, *, tls: bool) -> None:
        self._rules = rules
        self._addresses = addresses
        self._tls = tls

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        taken: list[ResolveResult] = []
        refused: list[str] = []
        for address_family, protocol, text in await self._addresses(host, port):
            why = refused_address(text, self._rules, tls=self._tls)
            if why:
                refused.append(f"{text} is {why}")
                continue
            taken.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=address_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not taken:
            raise _AddressRefusedError(f"host {host} may not be asked: {'; '.join(refused[:4])}")
        return taken

    async def close(self) -> None:
        """Nothing is held."""


def _words(error: Exception) -> str:
    """What an error of another library says, in one bounded line."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)
