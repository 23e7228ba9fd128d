"""How a pod's namespace is found, and how often the API server is asked for one."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from k8s.admission.namespaces import APART_SECONDS, NamespaceFinder
from k8s.objects.namespaces import Namespace
from tests.waiting import until

SHOP = Namespace(name="shop", labels={"a": "held"})


class Server:
    """An API server that answers when it is let, in a time that goes on only where somebody waits for it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked: list[tuple[str, float]] = []
        self.open = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.finder = NamespaceFinder({"shop": SHOP}.get, self.ask, monotonic=lambda: self.now, pause=self.pause)

    async def ask(self, name: str) -> Namespace | None:
        self.asked.append((name, self.now))
        self.open += 1
        assert self.open == 1
        await self.answering.wait()
        self.open -= 1
        if name == "broken":
            raise ConnectionResetError
        return Namespace(name=name)

    async def pause(self, seconds: float) -> None:
        self.now += seconds


async def test_one_that_the_watch_has_is_not_asked_for_unless_it_must_be_fresh() -> None:
    server = Server()
    assert await server.finder("shop", fresh=False) is SHOP and not server.asked
    assert await server.finder("shop", fresh=True) == Namespace(name="shop")
    assert [name for name, _ in server.asked] == ["shop"]


async def test_one_that_the_watch_has_not_is_asked_for_each_time() -> None:
    server = Server()
    for _ in range(3):
        assert await server.finder("young", fresh=False) == Namespace(name="young")
    assert len(server.asked) == 3


@pytest.mark.parametrize("name", ["", "..", "../secrets", "a/b", "A", "a" * 64, "a.b", "a\n"])
async def test_what_is_no_name_of_a_namespace_is_not_asked_for(name: str) -> None:
    server = Server()
    assert await server.finder(name, fresh=True) is None and not server.asked


async def test_the_api_server_is_asked_one_at_a_time_with_a_moment_between() -> None:
    server = Server()
    server.answering.clear()
    waiting = [asyncio.create_task(server.finder(f"n{number}", fresh=True)) for number in range(20)]
    await until(lambda: server.asked)
    server.answering.set()
    await asyncio.gather(*waiting)
    assert [name for name, _ in server.asked] == [f"n{number}" for number in range(20)]
    moments = [at for _, at in server.asked]
    assert all(later - sooner >= APART_SECONDS * 0.999 for sooner, later in itertools.pairwise(moments))


async def test_what_the_watch_has_waits_for_nobody() -> None:
    server = Server()
    server.answering.clear()
    waiting = asyncio.create_task(server.finder("young", fresh=True))
    await until(lambda: server.asked)
    assert await server.finder("shop", fresh=False) is SHOP
    server.answering.set()
    await waiting


async def test_who_waits_no_more_and_what_fails_keeps_nobody_from_asking() -> None:
    server = Server()
    with pytest.raises(ConnectionResetError):
        await server.finder("broken", fresh=True)
    server.answering.clear()
    gone = asyncio.create_task(server.finder("gone", fresh=True))
    await until(lambda: len(server.asked) == 2)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    server.open = 0
    server.answering.set()
    assert await server.finder("young", fresh=True) == Namespace(name="young")
