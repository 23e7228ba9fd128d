from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks import brief_app, connecting
from benchmarks.works import BenchmarkError


def accept_each(answer: bytes) -> Callable[[socket.socket], None]:
    """An app that reads a request and ends the connection behind ``answer``."""

    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    return serve


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of an app in a thread, which ends when its listener is shut down."""

    def until_shut_down() -> None:
        with contextlib.suppress(OSError):
            serve(listener)

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=until_shut_down)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
    assert not thread.is_alive()


def test_each_connection_is_asked_once_answered_and_counted() -> None:
    accepted = []

    def counting(listener: socket.socket) -> None:
        while True:
            connection, remote = listener.accept()
            with connection:
                accepted.append(remote)
                connection.recv(4096)
                connection.sendall(brief_app.ANSWER)

    with serving(counting) as port:
        found = connecting.run(port, 8, 50)

    assert found.connections == len(accepted) == len(set(accepted)) == 50
    assert found.rate_per_second > 0
    assert 0 < found.p50_milliseconds <= found.p99_milliseconds


def test_fewer_connections_than_may_be_open_are_all_that_are_opened() -> None:
    with serving(brief_app.serve) as port:
        assert connecting.run(port, 32, 3).connections == 3


def test_the_app_outlives_whoever_says_nothing() -> None:
    with serving(brief_app.serve) as port:
        socket.create_connection(("127.0.0.1", port), 5).close()

        assert connecting.run(port, 4, 10).connections == 10


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", b""])
def test_a_single_connection_that_is_not_answered_by_a_200_spoils_the_run(answer: bytes) -> None:
    with serving(accept_each(answer)) as port, pytest.raises(BenchmarkError, match="answered by"):
        connecting.run(port, 1, 2)


def test_a_client_that_fails_spoils_the_run_with_its_words() -> None:
    with (
        serving(accept_each(b"HTTP/1.1 503 -\r\n\r\n")) as port,
        pytest.raises(BenchmarkError, match=r"answered by .* 503"),
    ):
        connecting.run_apart(port, 1, 1, "/", 30)
