"""What sidecars say, checked: bounded, of a known kind, in the right order. Pure.

A sidecar proves who it is by its certificate; all else it says of itself is its own word, good for ``status`` and
metrics and never for a decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from controlplane.push.readiness import Verdict
from ringfence.kit.addresses import PORT_MAXIMUM
from ringfence.kit.clock import Clock
from ringfence.kit.labels import is_instance
from ringfence.policy.bounds import PORT_LIMIT
from ringfence.wire.convert import REVISION_MAXIMUM
from ringfence.wire.gen import control_pb2

_PROCESS: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_VERSION: Final = re.compile(r"[A-Za-z0-9.+_-]{0,64}", re.ASCII)
_SERIAL: Final = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_ERROR_LIMIT_CHARACTERS: Final = 1024
_REASON_LIMIT_CHARACTERS: Final = 256
_TIME_MAXIMUM: Final = 2**40  # beyond any certificate's life, and exact in a float


class ReportError(ValueError):
    """A report that says nothing usable; the sidecar is told, and its stream ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloReport:
    """The first word of a stream."""

    version: str
    process: str
    instance: str
    held_revision: int
    reports_flows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgementReport:
    """The answer to a snapshot."""

    revision: int
    accepted: bool
    enforced_revision: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityReport:
    """The SVID that the sidecar holds now; times in Unix seconds."""

    not_before: int
    not_after: int
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessReport:
    """Whether the workload can serve."""

    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowsReport:
    """What the sidecar judged; read further by who keeps it, since it is evidence and no business of the stream's."""

    message: control_pb2.FlowReport


Report = HelloReport | AcknowledgementReport | IdentityReport | ReadinessReport | FlowsReport


def read_report(message: control_pb2.SidecarReport) -> Report:
    """The report that ``message`` carries. Raises ReportError."""
    match message.WhichOneof("report"):
        case "hello":
            return _hello(message.hello)
        case "ack":
            return _acknowledgement(message.ack)
        case "identity":
            return _identity(message.identity)
        case "readiness":
            return _readiness(message.readiness)
        case "flows":
            return FlowsReport(message=message.flows)
        case _:
            raise ReportError("report is empty")


def _hello(message: control_pb2.Hello) -> HelloReport:
    if not _PROCESS.fullmatch(message.process):
        raise ReportError("hello.process is not 1 to 64 letters, digits, dots, hyphens and underscores")
    if message.instance and not is_instance(message.instance):
        raise ReportError("hello.instance is not the name of an instance")
    if not _VERSION.fullmatch(message.version):
        raise ReportError("hello.version is not a version")
    return HelloReport(
        version=message.version,
        process=message.process,
        instance=message.instance,
        held_revision=_revision("hello.held_revision", message.held_revision),
        reports_flows=message.reports_flows,
    )


def _acknowledgement(message: control_pb2.Acknowledgement) -> AcknowledgementReport:
    return AcknowledgementReport(
        revision=_revision("ack.revision", message.revision),
        accepted=message.accepted,
        enforced_revision=_revision("ack.enforced_revision", message.enforced_revision),
        error=_shown(message.error),
    )


def _identity(message: control_pb2.IdentityReport) -> IdentityReport:
    if not 0 < message.not_before < message.not_after < _TIME_MAXIMUM:
        raise ReportError("identity has no sensible validity")
    if not _SERIAL.fullmatch(message.serial):
        raise ReportError("identity.serial is not lower-case hex")
    return IdentityReport(not_before=message.not_before, not_after=message.not_after, serial=message.serial)


def _readiness(message: control_pb2.ReadinessReport) -> ReadinessReport:
    if message.ready and message.refused_ports:
        raise ReportError("readiness is ready with refused ports")
    if len(message.refused_ports) > PORT_LIMIT or not all(0 < port <= PORT_MAXIMUM for port in message.refused_ports):
        raise ReportError("readiness.refused_ports are not the ports of a workload")
    reason = "" if message.ready else _shown(message.reason[:_REASON_LIMIT_CHARACTERS])
    return ReadinessReport(
        verdict=Verdict(ready=message.ready, refused_ports=frozenset(message.refused_ports), reason=reason)
    )


def _shown(text: str) -> str:
    """Bounded, and fit for terminals."""
    return "".join(character if character.isprintable() else "�" for character in text[:_ERROR_LIMIT_CHARACTERS])


def _revision(field: str, value: int) -> int:
    if value > REVISION_MAXIMUM:
        raise ReportError(f"{field} is not a revision")
    return value


class ReportBudget:
    """How often one stream may report: ``burst`` at once, ``rate`` a second in the long run."""

    __slots__ = ("_burst", "_clock", "_left", "_rate", "_refilled_at")

    def __init__(self, clock: Clock, *, burst: int, rate: float) -> None:
        self._clock = clock
        self._burst = float(burst)
        self._rate = rate
        self._left = self._burst
        self._refilled_at = clock.monotonic()

    def delay_seconds(self) -> float:
        """Take one report's worth; how long to wait before the report may be taken in, 0 within the budget."""
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._refilled_at) * self._rate) - 1.0
        self._refilled_at = now
        return max(0.0, -self._left / self._rate)
