"""A copy says what the server says, never less than it said before, and comes back after every kind of loss."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from k8s.client import connection as connection_module
from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.resources import PODS
from ringfence.kit.backoff import Backoff
from ringfence.kit.log import Logger
from tests.fake_api_server import FakeApiServer, serving, status_response
from tests.waiting import until

_FAST = Backoff(first_seconds=0.001, cap_seconds=0.01)


@dataclass(frozen=True)
class _Pod:
    phase: str


def _read(item: dict[str, Any]) -> _Pod | None:
    phase = item["status"]["phase"]
    if phase == "Unreadable":
        raise ValueError("no phase")
    return None if phase == "Succeeded" else _Pod(phase)


def _pod(name: str, phase: str = "Running", namespace: str = "shop") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "status": {"phase": phase}}


class _Kept:
    """A copy that is kept, and the state of it at each change."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.seen: list[dict[str, str]] = []
        wanted = Wanted(resource=PODS, read=_read)
        self.copy = Copy(
            connection, wanted, self._changed, log=Logger("test"), random=random.Random(1).random, backoff=_FAST
        )
        self.task = asyncio.create_task(self.copy.run())

    def _changed(self) -> None:
        self.seen.append(self.names())

    def names(self) -> dict[str, str]:
        return {name: pod.phase for (_, name), pod in self.copy.objects.items()}

    async def shows(self, **names: str) -> None:
        await until(lambda: self.names() == names)

    async def watches(self) -> None:
        await until(lambda: self.fake.watching == 1 and not self.copy.lost)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[_Kept]:
    async with serving(tmp_path) as (fake, connection):
        fake.put(PODS, _pod("a"))
        fake.put(PODS, _pod("b"))
        kept = _Kept(fake, connection)
        await kept.copy.wait_complete()
        await kept.watches()
        try:
            yield kept
        finally:
            kept.task.cancel()
            with suppress(asyncio.CancelledError):
                await kept.task


async def test_it_lists_and_then_follows_each_change(kept: _Kept) -> None:
    await kept.shows(a="Running", b="Running")
    kept.fake.put(PODS, _pod("c", "Pending"))
    kept.fake.put(PODS, _pod("c", "Running"))
    kept.fake.remove(PODS, "a", "shop")
    await kept.shows(b="Running", c="Running")
    assert kept.copy.listed == 1


async def test_a_change_of_nothing_that_is_kept_is_no_change(kept: _Kept) -> None:
    before = len(kept.seen)
    kept.fake.put(PODS, {**_pod("a"), "spec": {"nodeName": "elsewhere"}})
    kept.fake.put(PODS, _pod("d"))
    await kept.shows(a="Running", b="Running", d="Running")
    assert len(kept.seen) == before + 1


async def test_what_is_read_as_nothing_or_not_at_all_leaves_the_copy(kept: _Kept) -> None:
    kept.fake.put(PODS, _pod("a", "Succeeded"))
    kept.fake.put(PODS, _pod("b", "Unreadable"))
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(c="Running")


def _deep_pod(name: str) -> str:
    """Deeper than Python's own reader goes."""
    return json.dumps({**_pod(name), "spec": "HERE"}).replace('"HERE"', "[" * 5_000 + "]" * 5_000)


async def test_an_object_as_deep_as_anybody_likes_costs_no_other_anything(kept: _Kept) -> None:
    kept.fake.send(f'{{"type": "ADDED", "object": {_deep_pod("deep")}}}')
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(a="Running", b="Running", c="Running", deep="Running")
    assert kept.copy.listed == 1
    kept.fake.listed_texts.append(_deep_pod("deep"))
    kept.fake.forget()
    await until(lambda: kept.copy.listed == 2)
    await kept.shows(a="Running", b="Running", c="Running", deep="Running")


async def test_objects_too_large_for_a_page_are_listed_by_smaller_ones(
    kept: _Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "ANSWER_LIMIT_BYTES", 4_000)
    for number in range(20):
        kept.fake.put(PODS, {**_pod(f"large{number}"), "spec": {"args": ["<" * 1_000]}})
    kept.fake.forget()
    await until(lambda: kept.copy.listed == 2)
    assert len(kept.names()) == 22
    kept.fake.put(PODS, _pod("c"))
    await until(lambda: len(kept.names()) == 23)


async def test_an_event_too_large_to_be_read_is_gone_round_by_a_list(
    kept: _Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINE_LIMIT_BYTES", 1_000)
    kept.fake.put(PODS, {**_pod("large"), "spec": {"args": ["<" * 1_000_000]}})
    await kept.shows(a="Running", b="Running", large="Running")
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(a="Running", b="Running", c="Running", large="Running")


async def test_a_watch_that_is_cut_goes_on_without_a_list(kept: _Kept) -> None:
    kept.fake.cut()
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(a="Running", b="Running", c="Running")
    assert kept.copy.listed == 1


async def test_an_expired_version_lists_anew_and_finds_what_went_away_meanwhile(kept: _Kept) -> None:
    kept.fake.remove(PODS, "a", "shop")
    kept.fake.put(PODS, _pod("c"))
    kept.fake.forget()
    await kept.shows(b="Running", c="Running")
    await until(lambda: kept.copy.listed >= 2)


async def test_an_expired_version_told_in_the_stream_lists_anew(kept: _Kept) -> None:
    kept.fake.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
    await until(lambda: kept.copy.listed == 2)
    await kept.shows(a="Running", b="Running")


async def test_a_bookmark_moves_the_version_and_keeps_it_from_expiring(kept: _Kept) -> None:
    kept.fake.forget()
    await until(lambda: kept.copy.listed == 2)
    await kept.watches()
    version = kept.fake.put(PODS, {**_pod("a"), "spec": {}})["metadata"]["resourceVersion"]
    kept.fake.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}})
    await until(lambda: kept.copy._version == version)
    assert kept.names() == {"a": "Running", "b": "Running"}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ADDED"},
        {"type": "RENAMED", "object": {}},
        {"type": "ADDED", "object": {"metadata": {}}},
        {"type": "ADDED", "object": {"metadata": {"name": 7}}},
        ["ADDED"],
    ],
)
async def test_an_event_that_is_none_lists_anew_and_loses_nothing(kept: _Kept, event: Any) -> None:
    kept.fake.send(event)
    await until(lambda: kept.copy.listed == 2)
    await kept.shows(a="Running", b="Running")


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
async def test_while_the_server_answers_with_errors_the_old_copy_stands(kept: _Kept, code: int) -> None:
    asked = 0

    def fail(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return status_response(code, "Broken", "not now")

    kept.fake.fail = fail
    kept.fake.cut()
    await until(lambda: asked >= 4)
    assert kept.names() == {"a": "Running", "b": "Running"}
    assert kept.copy.lost
    kept.fake.fail = lambda request: None
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(a="Running", b="Running", c="Running")
    assert not kept.copy.lost


async def test_a_list_that_breaks_off_between_pages_leaves_the_old_copy(kept: _Kept) -> None:
    kept.fake.page_limit = 1
    broken = 0

    def fail(request: web.Request) -> web.StreamResponse | None:
        nonlocal broken
        if "continue" in request.query and broken < 3:
            broken += 1
            return status_response(410, "Expired", "the continue token is too old")
        return None

    kept.fake.fail = fail
    kept.fake.put(PODS, _pod("c"))
    await kept.shows(a="Running", b="Running", c="Running")
    kept.fake.forget()
    await until(lambda: kept.copy.listed == 2)
    assert broken == 3
    assert all(len(names) >= 2 for names in kept.seen), "no change ever showed a part of a list"


async def test_a_kind_that_is_not_served_is_not_a_kind_of_which_there_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fake, connection):
        asked = 0

        def fail(request: web.Request) -> web.StreamResponse:
            nonlocal asked
            asked += 1
            return status_response(404, "NotFound", "the server could not find the requested resource")

        fake.fail = fail
        kept = _Kept(fake, connection)
        await until(lambda: asked >= 3)
        assert not kept.copy.complete
        fake.fail = lambda request: None
        await kept.copy.wait_complete()
        kept.task.cancel()
        with suppress(asyncio.CancelledError):
            await kept.task


async def test_a_server_that_expires_every_version_is_not_asked_in_a_storm(kept: _Kept) -> None:
    kept.copy._backoff = Backoff(first_seconds=0.001, cap_seconds=3600.0)

    def fail(request: web.Request) -> web.StreamResponse | None:
        return status_response(410, "Expired", "too old") if "watch" in request.query else None

    kept.fake.fail = fail
    kept.fake.cut()
    attempts: list[int] = []

    class _Counting(Backoff):
        def delay(self, attempt: int, random: Any) -> float:
            attempts.append(attempt)
            return 0.001

    kept.copy._backoff = _Counting()
    await until(lambda: len(attempts) > 6)
    assert attempts[-1] >= 5
    assert kept.names() == {"a": "Running", "b": "Running"}
