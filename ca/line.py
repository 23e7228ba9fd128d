"""The issuing line: takes each order through the five stages, many orders to one transaction, off the event loop.

Theory of operation. Orders wait in a bounded queue. One thread takes all that wait (up to a batch), and for each of
them prepares the template, signs it and validates the output; then records them together, which flushes the disk
once; and only then hands them out. While it is busy the next batch gathers by itself, so the line is as quick as it
can be for a lone order and as cheap as it can be for a thousand. An order fails alone; if the database cannot record,
the whole batch fails and every SVID in it is dropped unseen.

One thread, because SQLite has one writer and Python's signing holds the interpreter lock: more would only take turns.
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
        self._waiting: queue.Queue[tuple[Order, Future[IssuedSvid]] | None] = queue.Queue(2 * limits.in_flight + 8)
        self._closed = False
        self._door = threading.Lock()
        self._next_prune = clock.monotonic() + _PRUNE_EVERY_SECONDS
        self._thread = threading.Thread(target=self._run, name="ca-issuing", daemon=True)
        self._thread.start()

    def place(self, order: Order) -> Future[IssuedSvid]:
        """Queue an order. The future fails with Refused, StoreUnavailable, IssuerExpired or OutputRefused.

        An order whose future is cancelled while queued is dropped, and spends nothing. Overloaded if the queue is full.
        """
        future: Future[IssuedSvid] = Future()
        with self._door:
            if self._closed:
                raise StoreUnavailable("the authority is closed")
            try:
                self._waiting.put_nowait((order, future))
            except queue.Full:
                raise Overloaded("too many orders wait for the authority") from None
        return future

    def close(self) -> None:
        """Finish what was placed, then stop. Safe to call twice."""
        with self._door:
            first, self._closed = not self._closed, True
        if first:
            self._waiting.put(None)  # behind the last order, as the door is shut
        self._thread.join()

    def _run(self) -> None:
        open_for_business = True
        while open_for_business:
            first = self._waiting.get()
            batch = [first] if first is not None else []
            open_for_business = first is not None
            while open_for_business and len(batch) < self._limits.batch:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    open_for_business = False
                else:
                    batch.append(more)
            wanted = [(order, future) for order, future in batch if future.set_running_or_notify_cancel()]
            try:
                self._process(wanted)
            except Exception as problem:  # the thread's border: nobody else would ever learn of it
                self._log.error("issuing failed", error=f"{type(problem).__name__}: {problem}", orders=len(wanted))
                _fail([future for _, future in wanted], lambda: CaError("issuing failed"))
            self._prune_if_due()

    def _process(self, batch: list[tuple[Order, Future[IssuedSvid]]]) -> None:
        now = self._clock.now()
        signed: list[_Signed] = []
        for order, future in batch:
            try:
                template = self._prepare(order, now)
                svid = self._issuer.validate(template, self._issuer.sign(template), now)
            except CaError as problem:
                future.set_exception(problem)
            else:
                signed.append(_Signed(order, future, svid))
        if not signed:
            return
        try:
            outcomes = record(self._database, [_entry(item) for item in signed], now)
        except StoreUnavailable as problem:
            text = str(problem)
            _fail([item.future for item in signed], lambda: StoreUnavailable(text))
            return
        for item, refusal in zip(signed, outcomes, strict=True):
            if refusal is None:
                item.future.set_result(item.svid)
            else:
                item.future.set_exception(Refused(refusal))

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
        except StoreUnavailable as problem:
            self._log.warning("old records not pruned", error=str(problem))
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


def _fail(futures: list[Future[IssuedSvid]], problem: Callable[[], CaError]) -> None:
    """Fail each with an exception of its own: one shared would gather the tracebacks of all."""
    for future in futures:
        if not future.done():
            future.set_exception(problem())
