"""Where a redirected connection was meant to go. For the proxy's listeners; light to import."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, Protocol

__all__ = ["SocketLike", "original_destination"]


# linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h; the socket module has neither.
_SO_ORIGINAL_DST: Final = 80
_IP6T_SO_ORIGINAL_DST: Final = 80
_SOL_IPV6: Final = 41

_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6: Final = struct.Struct("=H2s4x16sI")
_MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"

# No entry for this connection, no connection tracking in this kernel, no translation for this family.
_NOT_TRACKED: Final = frozenset({errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP})


class SocketLike(Protocol):
    """What ``transport.get_extra_info("socket")`` of asyncio and uvloop give, and a socket is."""

    @property
    def family(self) -> int: ...

    def getsockname(self) -> tuple[object, ...]: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def original_destination(sock: SocketLike) -> tuple[str, int] | None:
    """The address and port that the client of an accepted TCP connection dialled, before it was redirected here.

    None if nothing was redirected: the client dialled this very socket, whose own address must never be taken for a
    destination (a proxy that did would dial itself without end). An IPv4 connection on an IPv6 listener gives an IPv4
    address; a link-local IPv6 address comes with its interface, as ``fe80::1%2``. Raises OSError if the socket is
    closed. Source: Linux, ``SO_ORIGINAL_DST`` at SOL_IP and ``IP6T_SO_ORIGINAL_DST`` at SOL_IPV6.
    """
    name = sock.getsockname()
    if sock.family == socket.AF_INET:
        return _ipv4(sock, socket.inet_aton(str(name[0])), name[1])
    if sock.family != socket.AF_INET6:
        return None
    packed = socket.inet_pton(socket.AF_INET6, str(name[0]).partition("%")[0])
    if packed.startswith(_MAPPED_PREFIX):
        return _ipv4(sock, packed[len(_MAPPED_PREFIX) :], name[1])
    return _ipv6(sock, packed, name[1])


def _ipv4(sock: SocketLike, own_address: bytes, own_port: object) -> tuple[str, int] | None:
    answer = _ask(sock, socket.SOL_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
    if answer is None:
        return None
    _, port_bytes, address = _SOCKADDR_IN.unpack(answer)
    port = int.from_bytes(port_bytes, "big")
    if address == own_address and port == own_port:
        return None
    return socket.inet_ntoa(address), port


def _ipv6(sock: SocketLike, own_address: bytes, own_port: object) -> tuple[str, int] | None:
    answer = _ask(sock, _SOL_IPV6, _IP6T_SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
    if answer is None:
        return None
    _, port_bytes, address, scope = _SOCKADDR_IN6.unpack(answer)
    port = int.from_bytes(port_bytes, "big")
    if address == own_address and port == own_port:
        return None
    host = socket.inet_ntop(socket.AF_INET6, address)
    return f"{host}%{scope}" if scope else host, port


def _ask(sock: SocketLike, level: int, option: int, size: int) -> bytes | None:
    try:
        answer = sock.getsockopt(level, option, size)
    except OSError as error:
        if error.errno in _NOT_TRACKED:
            return None
        raise
    return answer if len(answer) == size else None
