"""App connections whose requests are read, whichever version of HTTP carries them: counted, refused, ended. Adapter.

The relay is the judge that its machine (``sidecar.http1``, ``sidecar.http2``, ``sidecar.split``) asks in the middle of
parsing. No task, future or closure is made for a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from ringfence.policy.decide import Decision, Deny
from sidecar import refusal
from sidecar.flows.table import CallerFlows
from sidecar.http2.frames import NO_ERROR
from sidecar.recording import Recorder, RequestSeries, new_request_id
from sidecar.refusal import Refusal
from sidecar.relay import Relay
from sidecar.trace_context import Traced, trace_id_of

_NO_SUCH_THING: Final = frozenset((404, 405, 501))


class JudgedRequest(Traced, Protocol):
    """An exchange of either version of HTTP, as far as it is recorded."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...

    @property
    def host(self) -> bytes: ...

    @property
    def started(self) -> float: ...

    @property
    def decision(self) -> object: ...

    @property
    def status(self) -> int: ...

    @property
    def cut(self) -> bool: ...

    @property
    def local(self) -> object: ...

    @property
    def refusal(self) -> bytes | None: ...


class RequestMachine(Protocol):
    """What stands between client and server."""

    @property
    def idle(self) -> bool: ...

    def cut(self) -> None: ...


class RequestRelay(Relay):
    """See the module's docstring. Two directions inherit it along with relays of other kinds, hence no ``__init__``."""

    inspector: RequestMachine
    _recorder: Recorder
    _own_id: str
    _series: RequestSeries
    _monotonic: Callable[[], float]
    _flows: CallerFlows | None = None
    _in_hand: object = 0  # requests of which ``finish`` wants to know, or their number

    def record_with(self, recorder: Recorder, own_id: str) -> None:
        """Part of the second half of ``__init__``."""
        self._recorder = recorder
        self._own_id = own_id
        self._series = recorder.series(self.facts.direction, self.facts.peer, self.facts.service)
        self._monotonic = recorder.monotonic
        self._flows = recorder.flows_of(self.facts, self.facts.protocol)

    def _attend(self) -> None:
        """Do what the machine wants beyond the bytes that it returned."""
        raise NotImplementedError

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _defect(self, error: Exception) -> None:
        self.owner.relay_failed(self, error)
        self.end("reset", "defect", abort=True)

    def end(self, reason: str, detail: str = "", *, abort: bool = False, code: int = NO_ERROR) -> None:
        if not self.ended:
            self.inspector.cut()
        super().end(reason, detail, abort=abort, code=code)

    def on_reset(self, code: int) -> None:
        if code == NO_ERROR and self.inspector.idle:
            self.end("closed")
        else:
            super().on_reset(code)

    # -- recording ----------------------------------------------------------------------------------------------------

    def done(self, exchange: JudgedRequest) -> None:
        """A request has ended, however it did."""
        if self._in_hand:
            self.finish(exchange)
        seconds = self._monotonic() - exchange.started
        self.facts.requests += 1
        series = self._series
        decision: Decision | None = exchange.decision  # type: ignore[assignment]
        status = exchange.status or self.status_counted(exchange)
        series.ended(decision, status, seconds)
        if status > 403 and status in _NO_SUCH_THING and self._flows is not None:
            self._missed(exchange)
        if exchange.cut:
            series.resets.value += 1
        if self._recorder.every_request:
            self._recorder.request_done(
                self.facts,
                decision,
                method=exchange.method,
                target=exchange.target,
                status=status,
                seconds=seconds,
                told=refusal.is_told(exchange.local, exchange.refusal),
                trace_id=trace_id_of(exchange),
            )

    def _missed(self, exchange: JudgedRequest) -> None:
        assert self._flows is not None
        self._flows.missed(exchange.method, exchange.target)

    @staticmethod
    def status_counted(exchange: Any) -> int:
        """The status the client saw: the server's, or that of the answer made here; 0 if it saw none."""
        raise NotImplementedError

    def finish(self, exchange: Any) -> None:
        """A request has ended, while some were in hand."""

    def _telling(self, reason: str) -> Refusal:
        return Refusal(
            reason=reason,
            request_id=new_request_id(),
            origin=self._own_id,
            retry_after_seconds=self.retry_after_seconds,
        )

    def _refused_by(
        self, told: Refusal, decision: Deny | None, exchange: JudgedRequest | None, detail: str = ""
    ) -> None:
        """Record a refusal, ours or another sidecar's; ``exchange`` None: of what was no request, or of many."""
        self._recorder.request_refused(
            self.facts,
            decision,
            told,
            method=exchange.method if exchange is not None else b"",
            target=exchange.target if exchange is not None else b"",
            host=exchange.host if exchange is not None else b"",
            detail=detail,
            trace_id=trace_id_of(exchange) if exchange is not None else "",
        )
