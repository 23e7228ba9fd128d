"""Key sets that are kept: fetched, renewed, kept through outages and restarts, never made up."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.metrics import ControlPlaneMetrics
from controlplane.tokens.fetch import FetchError
from controlplane.tokens.keeper import KeyKeeper
from controlplane.tokens.store import HeldKeys, KeyStore, StoreDamagedError
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.tokens import KeySet, read_key_set
from tests.jwts import ec_key, key_set
from tests.waiting import until

URL = "https://login.example.org/keys"
FIRST, SECOND = read_key_set(key_set(ec_key())), read_key_set(key_set(ec_key("ec-2")))
OFTEN = TokenIssuerRules(refresh_seconds=0.01)


class Issuers:
    """What each URL answers; a URL without an answer fails."""

    def __init__(self) -> None:
        self.answers: dict[str, KeySet] = {}
        self.asked: list[str] = []
        self.told: list[dict[str, str]] = []
        self.takes = True
        self.log = io.StringIO()

    async def fetch(self, url: str, _: TokenIssuerRules) -> KeySet:
        self.asked.append(url)
        if url not in self.answers:
            raise FetchError("unreachable", "nobody is there")
        return self.answers[url]

    def keeper(self, path: Path) -> KeyKeeper:
        async def changed() -> bool:
            self.told.append(dict(keeper.keys))
            return self.takes

        keeper = KeyKeeper(
            fetch=self.fetch,
            store=KeyStore(path / "token-issuers.json"),
            changed=changed,
            metrics=ControlPlaneMetrics(dict),
            log=Logger("test", stream=self.log),
            clock=SystemClock(),
            random=lambda: 0.0,
        )
        keeper.load()
        return keeper

    @asynccontextmanager
    async def running(self, path: Path) -> AsyncIterator[KeyKeeper]:
        keeper = self.keeper(path)
        task = asyncio.create_task(keeper.run())
        try:
            yield keeper
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_wanted_keys_are_fetched_and_told(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], TokenIssuerRules())
        await until(lambda: issuers.told)
        assert issuers.told == [{URL: FIRST.text}]
        assert issuers.asked == [URL]


async def test_new_keys_are_told_and_the_same_ones_are_not(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], OFTEN)
        await until(lambda: len(issuers.asked) > 3)
        assert len(issuers.told) == 1
        issuers.answers[URL] = SECOND
        await until(lambda: len(issuers.told) > 1)
        assert issuers.told[-1] == {URL: SECOND.text}


async def test_an_issuer_that_never_answered_has_no_keys(tmp_path: Path) -> None:
    issuers = Issuers()
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], OFTEN)
        await until(lambda: keeper.listed()[0]["problem"])
        assert keeper.keys == {}
        assert issuers.told == []
        assert "its tokens are refused" in issuers.log.getvalue()


async def test_keys_are_kept_through_an_outage_and_a_restart(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], OFTEN)
        await until(lambda: issuers.told)
        issuers.answers.clear()
        await until(lambda: keeper.listed()[0]["problem"])
        assert keeper.keys == {URL: FIRST.text}
    again = issuers.keeper(tmp_path)
    assert again.keys == {URL: FIRST.text}
    again.want([URL], OFTEN)
    age = again.listed()[0]["age_seconds"]
    assert isinstance(age, int)
    assert age >= 0


async def test_keys_that_could_not_be_put_in_force_are_told_again(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    issuers.takes = False
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], TokenIssuerRules())
        await until(lambda: issuers.told)
        issuers.takes = True
        await until(lambda: len(issuers.told) > 1)
        assert issuers.asked == [URL]


async def test_what_is_not_wanted_any_more_is_not_kept(tmp_path: Path) -> None:
    issuers = Issuers()
    other = "https://other.example.org/keys"
    issuers.answers |= {URL: FIRST, other: SECOND}
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL, other], OFTEN)
        await until(lambda: len(keeper.keys) == 2)
        keeper.want([other], OFTEN)
        await until(lambda: set(KeyStore(tmp_path / "token-issuers.json").load()) == {other})


async def test_a_refresh_asks_at_once(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    async with issuers.running(tmp_path) as keeper:
        keeper.want([URL], TokenIssuerRules())
        await until(lambda: issuers.told)
        issuers.answers[URL] = SECOND
        keeper.refresh()
        await until(lambda: len(issuers.told) > 1)


def test_the_store_is_private_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "token-issuers.json")
    held = {URL: HeldKeys(text=FIRST.text, fetched_at=7.5)}
    store.save(held)
    assert store.load() == held
    assert store.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"version": 2, "issuers": {}}).encode(),
        json.dumps({"version": 1, "issuers": []}).encode(),
        json.dumps({"version": 1, "issuers": {URL: {"keys": FIRST.text}}}).encode(),
    ],
)
def test_a_store_that_cannot_be_believed_gives_no_keys(tmp_path: Path, content: bytes) -> None:
    store = KeyStore(tmp_path / "token-issuers.json")
    store.path.write_bytes(content)
    with pytest.raises(StoreDamagedError):
        store.load()
    issuers = Issuers()
    assert issuers.keeper(tmp_path).keys == {}
    assert "cannot be believed" in issuers.log.getvalue()


def test_of_a_store_only_sets_that_are_lawful_now_are_taken(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "token-issuers.json")
    other = "https://other.example.org/keys"
    store.save({URL: HeldKeys(text=key_set(), fetched_at=1.0), other: HeldKeys(text=FIRST.text, fetched_at=1.0)})
    assert set(store.load()) == {other}


async def test_an_issuer_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    issuers = Issuers()
    issuers.answers[URL] = FIRST
    hangs = asyncio.Event()
    slow = "https://slow.example.org/keys"
    real = issuers.fetch

    async def fetch(url: str, rules: TokenIssuerRules) -> KeySet:
        if url == slow:
            await hangs.wait()
        return await real(url, rules)

    issuers.fetch = fetch  # type: ignore[method-assign]
    async with issuers.running(tmp_path) as keeper:
        keeper.want([slow, URL], TokenIssuerRules())
        await until(lambda: issuers.told)
        assert issuers.told == [{URL: FIRST.text}]
