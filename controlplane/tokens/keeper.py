"""Keeps the key sets of token issuers: fetched when they are wanted, again from time to time, kept through outages.

An issuer that answered once keeps the keys that it said last, however long it is away: what it signed is still its
word, and a mesh must not fall because a login page does. One that never answered has none, and every token of it is
refused; keys are never made up. A set that is refused changes nothing either.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.metrics import ControlPlaneMetrics
from controlplane.tokens.fetch import FetchError
from controlplane.tokens.store import HeldKeys, KeyStore, StoreDamagedError
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.tokens import KeySet

_AT_ONCE: Final = 16
_IDLE_SECONDS: Final = 3600.0
_BACKOFF: Final = Backoff(first_seconds=1.0, cap_seconds=60.0)

Fetch = Callable[[str, TokenIssuerRules], Awaitable[KeySet]]


@dataclass(slots=True, kw_only=True)
class _Wanted:
    """One URL; ``due`` by the monotonic clock."""

    due: float
    failures: int = 0
    problem: str = ""


class KeyKeeper:
    """One task runs ``run``; the rest may be called at any time on its loop."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        store: KeyStore,
        changed: Callable[[], Awaitable[bool]],
        metrics: ControlPlaneMetrics,
        log: Logger,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        """``changed`` puts new keys in force; False to be called again."""
        self._fetch = fetch
        self._store = store
        self._changed = changed
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._random = random
        self._rules = TokenIssuerRules()
        self._wanted: dict[str, _Wanted] = {}
        self._held: dict[str, HeldKeys] = {}
        self._untold = False
        self._woken = asyncio.Event()

    def load(self) -> None:
        """Take what was kept on disk; blocking. What cannot be believed is not taken, and said."""
        try:
            self._held = self._store.load()
        except (StoreDamagedError, OSError) as error:
            self._log.warning("kept key sets cannot be believed, asking for new ones", error=str(error))

    @property
    def keys(self) -> Mapping[str, str]:
        """URL -> key set, of those that ever gave one."""
        return {url: held.text for url, held in self._held.items()}

    def want(self, urls: Collection[str], rules: TokenIssuerRules) -> None:
        """These are to be kept from now on, and no others."""
        now = self._clock.monotonic()
        if rules != self._rules:
            self._rules = rules
            for wanted in self._wanted.values():
                wanted.due = now
        self._wanted = {url: self._wanted.get(url) or _Wanted(due=now) for url in urls}
        self._show()
        self._woken.set()

    def refresh(self) -> None:
        """Ask every issuer now."""
        for wanted in self._wanted.values():
            wanted.due = self._clock.monotonic()
        self._woken.set()

    def listed(self) -> list[dict[str, object]]:
        """What is known of each issuer, for whoever asks."""
        now = self._clock.now()
        return [
            {
                "url": url,
                "age_seconds": round(now - held.fetched_at) if (held := self._held.get(url)) is not None else None,
                "problem": wanted.problem,
            }
            for url, wanted in sorted(self._wanted.items())
        ]

    async def run(self) -> None:
        """For ever."""
        while True:
            self._woken.clear()
            now = self._clock.monotonic()
            due = [url for url, wanted in self._wanted.items() if wanted.due <= now]
            if due:
                await self._fetch_all(due)
            if self._untold:
                self._untold = not await self._changed()
            pause = min((wanted.due for wanted in self._wanted.values()), default=now + _IDLE_SECONDS) - now
            if self._untold:
                pause = _BACKOFF.delay(0, self._random)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._woken.wait()

    async def _fetch_all(self, urls: list[str]) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(url: str) -> bool:
            async with places:
                return await self._fetch_one(url)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(url), name="key set of an issuer") for url in urls]
            for done in asyncio.as_completed(tasks):
                if await done or self._untold:  # at once: others may keep us waiting
                    self._untold = not await self._changed()
        if any(self._wanted[url].failures == 0 for url in urls if url in self._wanted):
            await self._keep()
        self._show()

    async def _fetch_one(self, url: str) -> bool:
        """Ask one issuer; whether its keys are others now."""
        try:
            found = await self._fetch(url, self._rules)
        except FetchError as error:
            self._failed(url, error)
            return False
        self._metrics.issuer_fetches.labels("done").inc()
        before = self._held.get(url)
        self._held[url] = HeldKeys(text=found.text, fetched_at=self._clock.now())
        wanted = self._wanted.get(url)
        if wanted is not None:
            if wanted.failures:
                self._log.info("issuer answers again", url=url, after_failures=wanted.failures)
            wanted.failures, wanted.problem = 0, ""
            wanted.due = self._clock.monotonic() + self._rules.refresh_seconds * (0.8 + 0.2 * self._random())
        changed = before is None or before.text != found.text
        if changed:
            kids = [key.kid[:64] for key in found.keys]
            self._log.info("new keys of an issuer", url=url, kids=kids, left_out=found.left_out)
        return changed

    def _failed(self, url: str, error: FetchError) -> None:
        self._metrics.issuer_fetches.labels(error.reason).inc()
        held, wanted = self._held.get(url), self._wanted.get(url)
        if wanted is None:
            return
        pause = min(_BACKOFF.delay(wanted.failures, self._random), self._rules.refresh_seconds)
        wanted.due = self._clock.monotonic() + pause
        wanted.failures += 1
        wanted.problem = f"{error.reason}: {error.detail}"
        age = round(self._clock.now() - held.fetched_at) if held is not None else None
        kept = "older keys stay" if held is not None else "it has no keys, so its tokens are refused"
        self._log.warning("issuer gave no keys", url=url, reason=error.reason, detail=error.detail, kept=kept, age=age)

    async def _keep(self) -> None:
        held = {url: keys for url, keys in self._held.items() if url in self._wanted}
        try:
            await asyncio.to_thread(self._store.save, held)
        except OSError as error:
            self._log.error("key sets cannot be kept", path=str(self._store.path), detail=error.strerror or str(error))

    def _show(self) -> None:
        ages = [self._clock.now() - self._held[url].fetched_at for url in self._wanted if url in self._held]
        self._metrics.issuers_without_keys.set(len(self._wanted) - len(ages))
        self._metrics.issuer_keys_age_seconds.set(max(ages, default=0.0))
