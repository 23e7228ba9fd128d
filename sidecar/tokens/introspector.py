"""Asks issuers of opaque tokens (RFC 7662), one question for all requests that carry the same token. Adapter.

Bounded in everything: questions under way at each issuer, those that wait for a place, the time of each. What fails is
a refusal, and is remembered for a second, so that an issuer that is down is not asked by each request; an answer is
remembered for as long as the document says, and no longer than the token lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ringfence.kit.clock import Clock
from ringfence.policy.facts import TokenRefused, VerifiedToken
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens import read_answer
from sidecar.tokens.memory import TokenMemory
from sidecar.tokens.tally import TokenTally

ASK_SECONDS: Final = 5.0
AT_ONCE: Final = 16
UNDER_WAY: Final = 256
_REMEMBERED_AT_LEAST_SECONDS: Final = 1.0  # so that whoever waited finds it
_INACTIVE_SECONDS: Final = 5.0  # a token that is not active now may become so, but hardly


class AskError(Exception):
    """There is no answer; the message is for the log."""


Ask = Callable[[TokenIssuer, str], Awaitable[bytes]]
"""Shows a token to its issuer; the body of its answer. Raises AskError."""


class Question:
    """One token that is being asked about."""

    __slots__ = ("_calls", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._calls: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """``call`` when there is an answer, or none will come."""
        self._calls.append(call)

    def end(self) -> None:
        """Tell all who wait, each in a turn of its own."""
        self.ended = True
        loop = asyncio.get_running_loop()
        for call in self._calls:
            loop.call_soon(call)
        self._calls.clear()


class _Lane:
    """What is under way at one issuer; one that hangs takes no place from the others."""

    __slots__ = ("places", "under_way")

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE)
        self.under_way = 0


class Introspector:
    """Of one process."""

    def __init__(self, ask: Ask, *, tally: TokenTally, clock: Clock, seconds: float = ASK_SECONDS) -> None:
        self._ask = ask
        self._tally = tally
        self._clock = clock
        self._seconds = seconds
        self._lanes: dict[str, _Lane] = {}
        self._questions: dict[tuple[str, bytes], Question] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, issuer: TokenIssuer, memory: TokenMemory, token: str, digest: bytes) -> Question | TokenRefused:
        """The question that will put what the issuer says into ``memory``; or why there is none."""
        key = (issuer.name, digest)
        question = self._questions.get(key)
        if question is not None:
            return question
        lane = self._lanes.get(issuer.name) or _Lane()
        if lane.under_way >= UNDER_WAY:
            self._tally.introspected(issuer.name, "crowded", f"{UNDER_WAY} questions are under way")
            return TokenRefused("too many tokens are being asked about")
        self._lanes[issuer.name] = lane
        lane.under_way += 1
        question = self._questions[key] = Question()
        task = asyncio.get_running_loop().create_task(
            self._answered(issuer, memory, token, digest, lane), name="introspection of a token"
        )
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._questions.pop(key, None)
            lane.under_way -= 1
            if not lane.under_way:
                self._lanes.pop(issuer.name, None)
            question.end()

        task.add_done_callback(ended)
        return question

    def close(self) -> None:
        """Ask no more; whoever waits is told."""
        for task in self._tasks:
            task.cancel()

    async def _answered(self, issuer: TokenIssuer, memory: TokenMemory, token: str, digest: bytes, lane: _Lane) -> None:
        found: VerifiedToken | TokenRefused
        outcome, detail, until = "failed", "", self._clock.now() + _REMEMBERED_AT_LEAST_SECONDS
        size = len(token)
        found = TokenRefused("its issuer could not be asked")
        try:
            async with asyncio.timeout(self._seconds), lane.places:
                body = await self._ask(issuer, token)
            now = self._clock.now()
            found = read_answer(issuer, body, now)
            if isinstance(found, VerifiedToken):
                size += len(body)  # the claims are kept
            until = max(now + _REMEMBERED_AT_LEAST_SECONDS, self._until(issuer, found, now))
            outcome = "active" if isinstance(found, VerifiedToken) else "inactive"
        except TimeoutError:
            detail = f"no answer in {self._seconds:g} s"
        except AskError as error:
            detail = str(error)
        except Exception as error:  # a border: whoever waits must get an answer
            detail = repr(error)
        memory.put(digest, found, until, size)
        self._tally.introspected(issuer.name, outcome, detail)

    @staticmethod
    def _until(issuer: TokenIssuer, found: VerifiedToken | TokenRefused, now: float) -> float:
        assert issuer.introspection is not None
        cache = issuer.introspection.cache_seconds
        if isinstance(found, VerifiedToken):
            return min(now + cache, found.expires)
        return now + min(cache, _INACTIVE_SECONDS)
