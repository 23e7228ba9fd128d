"""The issuing line: takes each petition through the stages of issuing, many to one transaction, off the event loop.

Theory of operation. Petitions wait in a bounded queue. One thread takes all that wait. It lets each examine its
caller's proof, which gives an order; for each order it prepares the template, signs it and validates the output. What
arrived meanwhile it takes through the same stages, in a round of its own, until nothing waits or the batch is full;
then it records them all together, which flushes the disk once; and only then hands them out. No timer decides anything,
so the line is as quick as it can be for a lone petition and as cheap as it can be for a thousand. Each round looks the
proofs up anew: a token may be minted and shown while the round before is signed. A petition fails alone; if the
database cannot be read or written, the whole batch fails, and every SVID in it is dropped unseen.

One thread, because SQLite has one writer and Python's signing holds the interpreter lock: more would only take turns,
and handing a request from thread to thread was measured to cost as much as signing it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from ca.errors import CaError, Overloaded, Refused, StoreUnavailable
from ca.issue import IssuedSvid, Issuer
from ca.settings import IssuingLimits
from ca.store.database import Database
from ca.store.issued import prune
from ca.store.look_ups import LookUps
from ca.store.record import Claim, Entry, record
from ca.template import LeafTemplate, new_serial, prepare_template
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId

_PRUNE_EVERY_SECONDS = 600.0
_PRUNE_AGAIN_SECONDS = 1.0
_PRUNE_ROWS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One SVID to issue: for whom, on which public key, and on what claim. ``lifetime_seconds`` is granted already."""

    spiffe_id: SpiffeId
    public_key: ec.EllipticCurvePublicKey
    claim: Claim
    lifetime_seconds: int
    request_id: str
    dns_names: tuple[str, ...] = ()


Petition = Callable[[LookUps], Order]
"""Examines a caller's proof, blocking: the order that it justifies, or a CaError for this caller alone."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    petition: Petition
    future: Future[IssuedSvid]


@dataclass(frozen=True, slots=True)
class _Signed:
    order: Order
    future: Future[IssuedSvid]
    svid: IssuedSvid


class IssuingLine:
    """Owns the thread ``ca-issuing`` from construction until ``close``."""

    def __init__(
        self,
        *,
        issuer: Issuer,
        database: Database,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        limits: IssuingLimits,
        backdate_seconds: int,
        log: Logger,
    ) -> None:
        self._issuer = issuer
        self._database = database
        self._clock = clock
        self._random_bytes = random_bytes
        self._limits = limits
        self._backdate_seconds = backdate_seconds
        self._log = log
        # Joining and renewal each admit ``in_flight`` requests; the authority's own orders come on top.
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(2 * limits.in_flight + 8)
        self._closed = False
        self._open_for_business = True  # the thread's own
        self._door = threading.Lock()
        self._next_prune = clock.monotonic() + _PRUNE_EVERY_SECONDS
        self._thread = threading.Thread(target=self._run, name="ca-issuing", daemon=True)
        self._thread.start()

    def place(self, petition: Petition) -> Future[IssuedSvid]:
        """Queue a petition; Overloaded if the queue is full.

        The future fails with what the petition raises, Refused, StoreUnavailable, IssuerExpired or OutputRefused. If it
        is cancelled while queued, the petition is dropped, and nothing is spent.
        """
        future: Future[IssuedSvid] = Future()
        with self._door:
            if self._closed:
                raise StoreUnavailable("the authority is closed")
            try:
                self._waiting.put_nowait(_Waiting(petition, future))
            except queue.Full:
                raise Overloaded("too many petitions wait for the authority") from None
        return future

    def close(self) -> None:
        """Answer what was placed, then stop. Safe to call twice."""
        with self._door:
            first, self._closed = not self._closed, True
        if first:
            self._waiting.put(None)  # behind the last order, as the door is shut
        self._thread.join()

    def _run(self) -> None:
        while self._open_for_business:
            taken: list[_Waiting] = []
            try:
                self._process(taken)
            except StoreUnavailable as problem:
                _fail(taken, StoreUnavailable, str(problem))
            except BaseException as problem:  # the thread's border, and a panic of native code is no Exception
                self._log.error("issuing failed", error=f"{type(problem).__name__}: {problem}", orders=len(taken))
                _fail(taken, CaError, "issuing failed")
            self._prune_if_due()

    def _process(self, taken: list[_Waiting]) -> None:
        """Issue one batch; ``taken`` gets every petition as it is taken, so that all can be told if the batch fails."""
        signed: list[_Signed] = []
        while arrived := self._arrived(self._limits.batch - len(taken), wait=not taken):
            taken += arrived
            now = self._clock.now()
            examined = self._examine(arrived, now)
            signed += [item for order, future in examined if (item := self._sign(order, future, now))]
        if not signed:
            return
        outcomes = record(self._database, [_entry(item) for item in signed], self._clock.now())
        for item, refusal in zip(signed, outcomes, strict=True):
            if refusal is None:
                item.future.set_result(item.svid)
            else:
                item.future.set_exception(Refused(refusal))

    def _arrived(self, limit: int, *, wait: bool) -> list[_Waiting]:
        """Up to ``limit`` petitions that wait and whose callers still do; ``wait`` for the first, if there is none."""
        found: list[_Waiting] = []
        for _ in range(limit):
            try:
                item = self._waiting.get(block=wait)
            except queue.Empty:
                break
            wait = False
            if item is None:
                self._open_for_business = False
                break
            if item.future.set_running_or_notify_cancel():
                found.append(item)
        return found

    def _examine(self, batch: list[_Waiting], now: float) -> list[tuple[Order, Future[IssuedSvid]]]:
        """The orders of those whose proof holds so far; StoreUnavailable fails them all, or each would wait for it."""
        orders = []
        with LookUps(self._database, now) as look_ups:
            for item in batch:
                try:
                    orders.append((item.petition(look_ups), item.future))
                except StoreUnavailable:
                    raise
                except BaseException as problem:
                    self._fail_alone(item.future, problem)
        return orders

    def _sign(self, order: Order, future: Future[IssuedSvid], now: float) -> _Signed | None:
        try:
            template = self._prepare(order, now)
            svid = self._issuer.validate(template, self._issuer.sign(template), now)
        except BaseException as problem:
            self._fail_alone(future, problem)
            return None
        return _Signed(order, future, svid)

    def _fail_alone(self, future: Future[IssuedSvid], problem: BaseException) -> None:
        """End one petition. What a stranger's bytes set off, a bug or a panic of native code, must not end others'."""
        if isinstance(problem, CaError):
            future.set_exception(problem)
            return
        self._log.error("issuing failed", error=f"{type(problem).__name__}: {problem}", orders=1)
        future.set_exception(CaError("issuing failed"))

    def _prepare(self, order: Order, now: float) -> LeafTemplate:
        return prepare_template(
            order.spiffe_id,
            order.public_key,
            lifetime_seconds=order.lifetime_seconds,
            backdate_seconds=self._backdate_seconds,
            now=now,
            issuer=self._issuer.span,
            serial=new_serial(self._random_bytes),
            dns_names=order.dns_names,
        )

    def _prune_if_due(self) -> None:
        if self._clock.monotonic() < self._next_prune:
            return
        pause = _PRUNE_EVERY_SECONDS
        try:
            deleted = prune(
                self._database,
                now=self._clock.now(),
                keep_expired_seconds=self._limits.keep_expired_seconds,
                limit=_PRUNE_ROWS,
            )
            if deleted >= _PRUNE_ROWS:
                pause = _PRUNE_AGAIN_SECONDS
        except Exception as problem:  # not worth the thread: whoever waits for an SVID needs it
            self._log.warning("old records not pruned", error=f"{type(problem).__name__}: {problem}")
        self._next_prune = self._clock.monotonic() + pause


def _entry(item: _Signed) -> Entry:
    return Entry(
        claim=item.order.claim,
        serial=item.svid.serial,
        spiffe_id=str(item.svid.spiffe_id),
        not_before=item.svid.not_before,
        not_after=item.svid.not_after,
        leaf_sha256=sha256(item.svid.chain[0]).hexdigest(),
        request_id=item.order.request_id,
    )


def _fail(batch: list[_Waiting], kind: type[CaError], text: str) -> None:
    """Fail each with an exception of its own: one shared would gather the tracebacks of all."""
    for item in batch:
        if not item.future.done():
            item.future.set_exception(kind(text))
