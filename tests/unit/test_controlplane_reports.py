"""What sidecars may say."""

from __future__ import annotations

import pytest

from controlplane.control.reports import (
    AcknowledgementReport,
    HelloReport,
    IdentityReport,
    ReadinessReport,
    ReportBudget,
    ReportError,
    read_report,
)
from controlplane.push.readiness import READY, Verdict
from ringfence.kit.clock import FakeClock
from ringfence.wire.gen import control_pb2 as pb


def test_reports_are_read() -> None:
    hello = pb.SidecarReport(hello=pb.Hello(version="0.1.0", process="abc", held_revision=3))
    assert read_report(hello) == HelloReport(version="0.1.0", process="abc", instance="", held_revision=3)
    ack = pb.SidecarReport(ack=pb.Acknowledgement(revision=4, accepted=False, error="why", enforced_revision=3))
    assert read_report(ack) == AcknowledgementReport(revision=4, accepted=False, error="why", enforced_revision=3)
    named = pb.SidecarReport(hello=pb.Hello(process="abc", instance="a"))
    assert read_report(named) == HelloReport(version="", process="abc", instance="a", held_revision=0)
    identity = pb.SidecarReport(identity=pb.IdentityReport(not_before=1, not_after=2, serial="0a"))
    assert read_report(identity) == IdentityReport(not_before=1, not_after=2, serial="0a")


def test_readiness_is_read_with_its_reason_and_its_ports() -> None:
    report = read_report(pb.SidecarReport(readiness=pb.ReadinessReport(ready=True, reason="nobody asks")))
    assert isinstance(report, ReadinessReport)
    assert (report.verdict, report.verdict.reason) == (READY, "")
    message = pb.ReadinessReport(reason="\x1b[2J" + "x" * 5000, refused_ports=[8080, 7000])
    report = read_report(pb.SidecarReport(readiness=message))
    assert isinstance(report, ReadinessReport)
    assert report.verdict == Verdict(ready=False, refused_ports=frozenset({7000, 8080}))
    assert len(report.verdict.reason) == 256
    assert report.verdict.reason.isprintable()


@pytest.mark.parametrize(
    "message",
    [
        pb.SidecarReport(),
        pb.SidecarReport(hello=pb.Hello()),
        pb.SidecarReport(hello=pb.Hello(process="a" * 65)),
        pb.SidecarReport(hello=pb.Hello(process="a\n")),
        pb.SidecarReport(hello=pb.Hello(process="é")),
        pb.SidecarReport(hello=pb.Hello(process="a", version="1 2")),
        pb.SidecarReport(hello=pb.Hello(process="a", version="1" * 65)),
        pb.SidecarReport(hello=pb.Hello(process="a", held_revision=2**53)),
        pb.SidecarReport(hello=pb.Hello(process="a", instance="A")),
        pb.SidecarReport(hello=pb.Hello(process="a", instance="../a")),
        pb.SidecarReport(hello=pb.Hello(process="a", instance="a" * 254)),
        pb.SidecarReport(readiness=pb.ReadinessReport(ready=True, refused_ports=[8080])),
        pb.SidecarReport(readiness=pb.ReadinessReport(refused_ports=[0])),
        pb.SidecarReport(readiness=pb.ReadinessReport(refused_ports=[65536])),
        pb.SidecarReport(readiness=pb.ReadinessReport(refused_ports=range(1, 258))),
        pb.SidecarReport(ack=pb.Acknowledgement(revision=2**64 - 1)),
        pb.SidecarReport(ack=pb.Acknowledgement(enforced_revision=2**64 - 1)),
        pb.SidecarReport(identity=pb.IdentityReport(not_before=2, not_after=2, serial="0a")),
        pb.SidecarReport(identity=pb.IdentityReport(not_before=-5, not_after=2, serial="0a")),
        pb.SidecarReport(identity=pb.IdentityReport(not_before=1, not_after=2**62, serial="0a")),
        pb.SidecarReport(identity=pb.IdentityReport(not_before=1, not_after=2, serial="0A")),
        pb.SidecarReport(identity=pb.IdentityReport(not_before=1, not_after=2, serial="a" * 65)),
    ],
)
def test_what_says_nothing_usable_is_refused(message: pb.SidecarReport) -> None:
    with pytest.raises(ReportError):
        read_report(message)


def test_reason_of_a_refusal_is_cut_and_cannot_steer_a_terminal() -> None:
    ack = pb.Acknowledgement(revision=1, error="\x1b[2J\n" + "x" * 5000)
    report = read_report(pb.SidecarReport(ack=ack))
    assert isinstance(report, AcknowledgementReport)
    assert len(report.error) == 1024
    assert report.error.isprintable()


def test_budget_is_a_burst_and_then_a_rate(clock: FakeClock) -> None:
    budget = ReportBudget(clock, burst=3, rate=2.0)
    assert [budget.delay_seconds() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.advance(0.5)
    assert [budget.delay_seconds() for _ in range(2)] == [0.5, 1.0]
    clock.advance(1000.0)
    assert [budget.delay_seconds() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_sidecar_is_asked_for_flows_only_if_it_says_that_it_reports_them() -> None:
    told = read_report(pb.SidecarReport(hello=pb.Hello(process="abc", reports_flows=True)))
    assert isinstance(told, HelloReport)
    assert told.reports_flows
    older = read_report(pb.SidecarReport(hello=pb.Hello(process="abc")))
    assert isinstance(older, HelloReport)
    assert not older.reports_flows
