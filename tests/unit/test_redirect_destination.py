"""Where a connection meant to go, from what the kernel answers."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

import pytest

from sidecar.redirect import original_destination

V4_ANSWER = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 443, socket.inet_aton("192.0.2.7"))


def v6_answer(host: str, port: int, scope: int = 0) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, packed) + struct.pack("=I", scope)


@dataclass
class FakeSocket:
    """A socket whose kernel answers one question as told."""

    family: int
    name: tuple[object, ...]
    answer: bytes | OSError
    asked: tuple[int, int, int] | None = None

    def getsockname(self) -> tuple[object, ...]:
        return self.name

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        self.asked = (level, option, size)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def test_ipv4() -> None:
    sock = FakeSocket(socket.AF_INET, ("127.0.0.1", 15001), V4_ANSWER)
    assert original_destination(sock) == ("192.0.2.7", 443)
    assert sock.asked == (socket.SOL_IP, 80, 16)


def test_ipv4_on_an_ipv6_listener_is_asked_and_told_as_ipv4() -> None:
    sock = FakeSocket(socket.AF_INET6, ("::ffff:127.0.0.1", 15001, 0, 0), V4_ANSWER)
    assert original_destination(sock) == ("192.0.2.7", 443)
    assert sock.asked == (socket.SOL_IP, 80, 16)


def test_ipv6() -> None:
    sock = FakeSocket(socket.AF_INET6, ("::1", 15001, 0, 0), v6_answer("2001:db8::7", 443))
    assert original_destination(sock) == ("2001:db8::7", 443)
    assert sock.asked == (41, 80, 28)


def test_a_link_local_address_comes_with_its_interface() -> None:
    sock = FakeSocket(socket.AF_INET6, ("fe80::1%eth0", 15006, 0, 2), v6_answer("fe80::1", 8080, scope=2))
    assert original_destination(sock) == ("fe80::1%2", 8080)


@pytest.mark.parametrize(
    "sock",
    [
        FakeSocket(socket.AF_INET, ("192.0.2.7", 443), V4_ANSWER),
        FakeSocket(socket.AF_INET6, ("::ffff:192.0.2.7", 443, 0, 0), V4_ANSWER),
        FakeSocket(socket.AF_INET6, ("2001:db8::7", 443, 0, 0), v6_answer("2001:db8::7", 443)),
        FakeSocket(socket.AF_INET6, ("fe80::1%eth0", 443, 0, 2), v6_answer("fe80::1", 443, scope=2)),
    ],
)
def test_the_sockets_own_address_is_no_destination(sock: FakeSocket) -> None:
    assert original_destination(sock) is None


def test_the_same_address_and_another_port_is_one() -> None:
    assert original_destination(FakeSocket(socket.AF_INET, ("192.0.2.7", 15006), V4_ANSWER)) == ("192.0.2.7", 443)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP])
def test_a_connection_that_the_kernel_does_not_track_was_not_redirected(number: int) -> None:
    for family, name in ((socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1, 0, 0))):
        assert original_destination(FakeSocket(family, name, OSError(number, "no"))) is None


def test_other_errors_are_the_callers() -> None:
    with pytest.raises(OSError, match="bad"):
        original_destination(FakeSocket(socket.AF_INET, ("127.0.0.1", 1), OSError(errno.EBADF, "bad")))


def test_an_answer_of_another_length_is_none() -> None:
    assert original_destination(FakeSocket(socket.AF_INET, ("127.0.0.1", 1), V4_ANSWER[:8])) is None


def test_a_unix_socket_has_no_destination() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert original_destination(left) is None


def test_a_real_connection_that_nobody_redirected_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert original_destination(accepted) is None
