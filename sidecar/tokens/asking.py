"""One question to an authorization server: one TLS connection, one POST, one answer. Adapter.

The host's name and its certificate are verified by the standard library's ``ssl``, which asyncio has loaded anyway: the
TLS of the data path knows SPIFFE IDs and no host names. The authorities are the system's, or those of
``SSL_CERT_FILE``. The connection goes to an address that was checked: an issuer that the mesh allows may be inside, but
no name leads to the credentials of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from base64 import b64encode
from typing import Final
from urllib.parse import quote_plus, urlsplit

import httptools

from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import question
from ringfence.policy.tokens.introspection import ANSWER_LIMIT_BYTES
from sidecar.tokens.introspector import AskError

_HEAD_LIMIT_BYTES: Final = 32 * 1024
_CHUNK_BYTES: Final = 16 * 1024
_ADDRESSES: Final = 4
_NEVER: Final = tuple(ipaddress.ip_network(one) for one in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"))
_NAT64: Final = ipaddress.ip_network("64:ff9b::/32")  # RFC 6052, and RFC 8215


class HttpsAsking:
    """An ``Ask``; deadlines are the caller's."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    async def __call__(self, issuer: TokenIssuer, token: str) -> bytes:
        """The body of a 200; raises AskError."""
        introspection = issuer.introspection
        assert introspection is not None
        url = urlsplit(introspection.url)
        host, secure = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if secure else 80)
        try:
            if secure and self._context is None:
                # Reads the system's authorities from a file.
                self._context = await asyncio.to_thread(ssl.create_default_context)
            addresses = await _checked_addresses(host, port, loopback=not secure)
            reader, writer = await self._connected(addresses, port, host if secure else None)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise AskError(f"{host}:{port}: {error}") from error
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            writer.write(_request(url.netloc, target, introspection, token))
            return await _answer(reader)
        except (OSError, httptools.HttpParserError) as error:
            raise AskError(f"{host}:{port}: {error}") from error
        finally:
            writer.transport.abort()

    async def _connected(
        self, addresses: list[str], port: int, name: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first that takes the connection; ``name``: of the certificate, None without TLS."""
        context = self._context if name is not None else None
        for address in addresses[:-1]:
            with contextlib.suppress(ConnectionError):
                return await asyncio.open_connection(
                    address, port, ssl=context, server_hostname=name, limit=_CHUNK_BYTES
                )
        return await asyncio.open_connection(addresses[-1], port, ssl=context, server_hostname=name, limit=_CHUNK_BYTES)


def _request(authority: str, target: str, introspection: Introspection, token: str) -> bytes:
    """As RFC 7662 section 2.1 has it, the client by RFC 6749 section 2.3.1."""
    client = f"{quote_plus(introspection.client_id)}:{quote_plus(introspection.secret)}"
    form = question(token)
    head = (
        f"POST {target} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Basic {b64encode(client.encode()).decode()}\r\n"
        "content-type: application/x-www-form-urlencoded\r\naccept: application/json\r\naccept-encoding: identity\r\n"
        f"content-length: {len(form)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + form


class _Answer:
    """What httptools reads of the response."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


async def _answer(reader: asyncio.StreamReader) -> bytes:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    size = 0
    while not answer.complete:
        piece = await reader.read(_CHUNK_BYTES)
        if not piece:
            raise AskError("the answer is cut short")
        size += len(piece)
        if size > _HEAD_LIMIT_BYTES + ANSWER_LIMIT_BYTES or len(answer.body) > ANSWER_LIMIT_BYTES:
            raise AskError(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")
        parser.feed_data(piece)
    status = parser.get_status_code()
    if status != 200:
        raise AskError(f"answered {status}")  # redirects among them: the secret is for this URL
    return bytes(answer.body)


async def _checked_addresses(host: str, port: int, *, loopback: bool) -> list[str]:
    """The addresses of ``host`` that may be connected to, at least one; raises AskError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    taken: list[str] = []
    for *_, address in found:
        parsed = _true_target(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        never = any(parsed.version == one.version and parsed in one for one in _NEVER)
        if never or parsed.is_multicast or parsed.is_unspecified or (loopback and not parsed.is_loopback):
            continue
        taken.append(str(address[0]))
    if not taken:
        raise AskError(f"host {host} has no address that may be asked")
    return taken[:_ADDRESSES]


def _true_target(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does: as such, through a gateway, or by 6to4."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
