"""What is told of pods that wait: what is missing by whose word, once it has lasted, seldom, and by one replica."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from k8s.attest.noting import AttestationNotes
from k8s.attest.tokens import PodReference
from k8s.controller.events import Told
from k8s.controller.pods_waiting import Known, waits_for
from k8s.controller.telling import TellingScope, WaitingTeller
from k8s.objects.pods import Pod, SidecarProgress, read_pod
from ringfence.attestation import EvidenceFault
from ringfence.kit.clock import FakeClock
from ringfence.platform import SidecarStanding, identity_of
from ringfence.spiffe import SpiffeId
from tests.cluster_objects import pod

BEGUN = {"name": "ringfence-sidecar", "started": False, "state": {"running": {}}}
STARTED = {"name": "ringfence-sidecar", "started": True, "state": {"running": {}}}
NOT_BEGUN = {"name": "ringfence-sidecar", "started": False, "state": {"waiting": {"reason": "PodInitializing"}}}
CRASHED = {**NOT_BEGUN, "lastState": {"terminated": {"exitCode": 2}}}
REDIRECT_FAILED = {"name": "ringfence-redirect", "state": {"terminated": {"exitCode": 3}}}
REDIRECT_FAILED_AND_AGAIN = {
    "name": "ringfence-redirect",
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3}},
}
REDIRECT_DONE = {
    "name": "ringfence-redirect",
    "state": {"terminated": {"exitCode": 0}},
    "lastState": {"terminated": {"exitCode": 3}},
}
AWAY = SidecarStanding(connected=False)
HERE = SidecarStanding(connected=True)


def a_pod(*statuses: dict[str, Any], name: str = "web-1", ready: bool = False, revision: str = "", **more: Any) -> Pod:
    annotations = {"ringfence.io/status": json.dumps({"revision": revision})}
    return read_pod(
        pod(name, "10.0.0.1", account="web", ready=ready, annotations=annotations, init_statuses=list(statuses), **more)
    )


def told(one: Pod, standing: SidecarStanding | None, *, asked: bool = False, **known: Any) -> tuple[str, str]:
    found = waits_for(one, Known(standing=standing, asked=asked, service="ringfence.ringfence-system.svc", **known))
    return ("", "") if found is None else (found.reason, found.message)


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        (NOT_BEGUN, SidecarProgress.NOT_BEGUN),
        (BEGUN, SidecarProgress.BEGUN),
        (CRASHED, SidecarProgress.BEGUN),
        (STARTED, SidecarProgress.STARTED),
        ({"name": "app", "started": True}, SidecarProgress.NOT_BEGUN),
        ({"name": "ringfence-sidecar", "started": "true", "state": []}, SidecarProgress.NOT_BEGUN),
    ],
)
def test_how_far_a_sidecar_is_says_the_kubelet_and_no_mesh_is_another_by_it(
    status: dict[str, Any], progress: SidecarProgress
) -> None:
    read = a_pod(status)
    assert read.sidecar is progress
    assert read == a_pod()


def test_a_redirect_that_failed_is_told_until_it_went_well() -> None:
    for status in (REDIRECT_FAILED, REDIRECT_FAILED_AND_AGAIN):
        reason, message = told(a_pod(status, NOT_BEGUN), AWAY)
        assert reason == "RedirectFailed"
        assert "ended with 3 (see kubectl logs -n shop web-1 -c ringfence-redirect)" in message
    assert told(a_pod(REDIRECT_DONE, NOT_BEGUN), AWAY) == ("", "")


def test_what_is_missing_is_told_one_after_the_other_on_the_way() -> None:
    assert told(a_pod(NOT_BEGUN), AWAY) == ("", ""), "the kubelet tells by itself"
    reason, message = told(a_pod(BEGUN), AWAY)
    assert reason == "WaitingForIdentity"
    assert "port 7401 of ringfence.ringfence-system.svc" in message
    assert told(a_pod(BEGUN), None, asked=True)[0] == "WaitingForSnapshot"
    reason, message = told(a_pod(BEGUN), AWAY, asked=True)
    assert reason == "WaitingForControlPlane"
    assert "port 7402" in message
    assert told(a_pod(STARTED, ready=True), AWAY)[0] == "WaitingForControlPlane", "its stream is lost"
    assert told(a_pod(STARTED, ready=True), HERE) == ("", "")


def test_a_token_that_was_refused_is_told_until_the_pod_got_on_without() -> None:
    reason, message = told(a_pod(BEGUN), AWAY, asked=True, refusal=EvidenceFault.MISMATCH)
    assert reason == "IdentityRefused"
    assert message.endswith("says something else of its workload than the platform does (replace the pod)")
    assert told(a_pod(STARTED), HERE, asked=True, refusal=EvidenceFault.MISMATCH) == ("", "")


@pytest.mark.parametrize("fault", EvidenceFault)
def test_each_refusal_has_a_mend(fault: EvidenceFault) -> None:
    message = told(a_pod(BEGUN), AWAY, asked=True, refusal=fault)[1]
    assert message.endswith(")")
    assert "()" not in message


def test_what_a_connected_sidecar_does_not_enforce_is_told_in_its_own_words_but_on_one_line() -> None:
    refused = SidecarStanding(connected=True, refused="unknown field\n\x1b[2J 17 " + "x" * 5000)
    reason, message = told(a_pod(STARTED, ready=True), refused)
    assert reason == "SnapshotRefused"
    assert "unknown field ?[2J 17 xxx" in message
    assert message.isprintable()
    assert len(message) < 600
    assert (
        told(a_pod(STARTED, ready=True), SidecarStanding(connected=True, overdue=True))[0] == "SnapshotUnacknowledged"
    )
    unready = SidecarStanding(connected=True, unready="port 8080 refuses connections")
    assert told(a_pod(STARTED), unready)[0] == "NotServing"
    assert told(a_pod(STARTED, ready=True), unready) == ("", ""), "the kubelet says that it serves"


def test_where_other_replicas_live_only_what_is_sure_is_told() -> None:
    assert told(a_pod(STARTED, ready=True), AWAY, alone=False) == ("", ""), "it may be connected there"
    assert told(a_pod(BEGUN), AWAY, alone=False)[0] == "WaitingForControlPlane", "it may have asked there"


class World:
    """A teller with pods that wait."""

    def __init__(self, *, pod: str = "cp-b", others: Iterable[str] = (), revision: str = "") -> None:
        self.clock = FakeClock()
        self.pods: list[Pod] = []
        self.beside: dict[tuple[SpiffeId, str], SidecarStanding] = {}
        self.notes = AttestationNotes()
        self.events: list[Told] = []
        self.room = True
        scope = TellingScope(
            trust_domain="shop.example",
            revision=revision,
            service="ringfence.ringfence-system.svc",
            pod=pod,
            others=lambda: frozenset(others),
        )
        self.teller = WaitingTeller(lambda: self.pods, self, self.notes, self._tell, scope, clock=self.clock)

    def sidecars(self) -> dict[tuple[SpiffeId, str], SidecarStanding]:
        return self.beside

    def _tell(self, event: Told) -> bool:
        if self.room:
            self.events.append(event)
        return self.room

    def stand(self, name: str, standing: SidecarStanding) -> None:
        self.beside[identity_of("shop", "web", "shop.example"), name] = standing

    def look(self, *, after: float = 0.0) -> list[str]:
        """The reasons that are told now, after so many seconds."""
        self.clock.advance(after)
        before = len(self.events)
        self.teller.look()
        return [one.reason for one in self.events[before:]]


def test_a_pod_that_has_waited_is_told_on_itself_and_seldom_again() -> None:
    world = World()
    world.pods = [a_pod(BEGUN)]
    assert world.look() == []
    assert world.look(after=29.0) == []
    assert world.look(after=1.0) == ["WaitingForIdentity"]
    subject = world.events[0].subject
    assert (subject.kind, subject.namespace, subject.name, subject.uid) == ("Pod", "shop", "web-1", "uid-shop-web-1")
    assert world.look(after=299.0) == []
    assert world.look(after=1.0) == ["WaitingForIdentity"]
    assert world.events[0].event_name == world.events[1].event_name, "so that it counts up"
    world.notes.attested(PodReference(namespace="shop", name="web-1", uid="uid-shop-web-1"))
    world.stand("web-1", AWAY)
    assert world.look(after=29.0) == []
    assert world.look(after=1.0) == ["WaitingForControlPlane"]


def test_who_waits_no_more_begins_anew() -> None:
    world = World()
    world.pods = [a_pod(BEGUN)]
    world.look()
    world.stand("web-1", HERE)
    assert world.look(after=60.0) == []
    world.stand("web-1", AWAY)
    assert world.look() == []
    assert world.look(after=30.0) != []


def test_a_sidecar_that_was_ready_has_time_to_come_back_after_a_control_plane_was_away() -> None:
    world = World()
    world.pods = [a_pod(STARTED, ready=True)]
    world.stand("web-1", AWAY)
    world.look()
    assert world.look(after=60.0) == []
    assert world.look(after=15.0) == ["WaitingForControlPlane"]


def test_of_many_that_wait_some_are_told_at_once_and_each_in_its_turn() -> None:
    world = World()
    world.pods = [a_pod(BEGUN, name=f"web-{number}") for number in range(70)]
    world.look()
    assert [len(world.look(after=seconds)) for seconds in (30.0, 10.0, 10.0, 10.0)] == [30, 30, 10, 0]
    assert len({one.subject.name for one in world.events}) == 70


def test_what_could_not_be_written_is_told_at_the_next_look() -> None:
    world = World()
    world.pods = [a_pod(BEGUN)]
    world.look()
    world.room = False
    assert world.look(after=30.0) == []
    world.room = True
    assert world.look(after=10.0) == ["WaitingForIdentity"]


def test_of_several_replicas_one_tells_of_those_that_are_connected_to_none() -> None:
    first, second = World(pod="cp-a", others=["cp-b"]), World(pod="cp-b", others=["cp-a"])
    for world in (first, second):
        world.pods = [a_pod(BEGUN)]
        world.stand("web-1", AWAY)
        world.look()
    assert first.look(after=30.0) == ["WaitingForControlPlane"]
    assert second.look(after=30.0) == []
    second.stand("web-1", SidecarStanding(connected=True, overdue=True))
    second.look()
    assert second.look(after=30.0) == ["SnapshotUnacknowledged"], "of its own each tells"


@pytest.mark.parametrize(
    "other",
    [
        a_pod(BEGUN, revision="canary"),
        a_pod(BEGUN, meshed=False),
        a_pod(BEGUN, deleting=True),
        a_pod(BEGUN, phase="Failed"),
        a_pod(BEGUN, host_network=True),
        read_pod(pod("web-1", "10.0.0.1", annotations={"ringfence.io/status": "[" * 4000}, init_statuses=[BEGUN])),
        read_pod(pod("web-1", "10.0.0.1", annotations={"ringfence.io/status": "{" * 5000}, init_statuses=[BEGUN])),
    ],
)
def test_pods_of_others_and_those_that_end_are_not_told(other: Pod) -> None:
    world = World()
    world.pods = [other]
    world.look()
    assert world.look(after=300.0) == []


def test_notes_of_attestations_are_bounded_and_the_last_word_counts() -> None:
    notes = AttestationNotes(limit=2)
    one, two, three = (PodReference(namespace="shop", name="web", uid=uid) for uid in ("1", "2", "3"))
    notes.refused(one, EvidenceFault.MISMATCH)
    notes.attested(two)
    notes.attested(one)
    assert (notes.knows("1"), notes.refusal("1")) == (True, None)
    notes.refused(three, EvidenceFault.GONE)
    assert [notes.knows(uid) for uid in ("1", "2", "3")] == [True, False, True]
    assert notes.refusal("3") is EvidenceFault.GONE
