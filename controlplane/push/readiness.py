"""Which workloads can serve, as far as the control plane knows. Pure; times are monotonic seconds handed in.

Theory: a sidecar says whether its workload can serve, on each of its streams, once its first snapshot is in force and
whenever that changes. What it said last counts, and goes on counting while its stream is lost for a moment, since the
loss of a stream says nothing of the workload: the control plane itself may have restarted. After a restart nothing is
known, and what is not known is ready. Two things are known without a word: a workload whose last stream has been gone
for ``LOST_SECONDS`` is not ready, and neither is one that was added to a running mesh until its sidecar has come. Where
other replicas of this control plane live a sidecar may have come to one of them: then who has no stream here is ready.

Each change is a snapshot for every caller. So one that stops being ready again and again is told to be ready later each
time, and can neither wear out its callers nor keep the control plane busy.

Being not ready is advice to callers and never a refusal: where no other instance is ready they call it all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controlplane.push.workload_key import WorkloadKey
from ringfence.snapshot import Endpoint, Snapshot, Upstream

# A sidecar that lost its stream, or was restarted, has tried five times by then; who is still gone will stay away.
LOST_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 60.0  # within so long of the last time it is "again"
_HOLD_SECONDS: Final = (1.0, 30.0)  # the first hold, which then doubles, and the longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a workload can serve; if not, on which ports, none meaning all. ``reason`` is for people."""

    ready: bool
    refused_ports: frozenset[int] = frozenset()
    reason: str = field(default="", compare=False)

    def serves(self, port: int) -> bool:
        """Whether it is ready for calls to this service port."""
        return self.ready or (bool(self.refused_ports) and port not in self.refused_ports)


READY: Final = Verdict(ready=True)
_GONE: Final = Verdict(ready=False, reason="its sidecar is gone")
_NOT_COME: Final = Verdict(ready=False, reason="its sidecar has not come yet")
_STARTING: Final = Verdict(ready=False, reason="its sidecar is starting")


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of one workload: what each process with an open stream said, what was said last at all."""

    last: Verdict
    said: dict[str, Verdict | None] = field(default_factory=dict)
    lost_at: float | None = None
    unfit: Verdict = READY  # the last that was not ready
    stopped_at: float = float("-inf")  # being ready
    hold_seconds: float = 0.0
    held_until: float = float("-inf")

    def turn(self, verdict: Verdict, now: float) -> None:
        """From now on this counts."""
        if not verdict.ready:
            if self.last.ready:
                again = now - self.stopped_at < _AGAIN_SECONDS
                shortest, longest = _HOLD_SECONDS
                self.hold_seconds = min(max(2 * self.hold_seconds, shortest), longest) if again else 0.0
                self.stopped_at, self.held_until = now, now + self.hold_seconds
            self.unfit = verdict
        self.last = verdict

    def shown(self, now: float) -> Verdict:
        """What callers are told of it."""
        if self.last.ready and now < self.held_until:
            return replace(self.unfit, reason=f"not steady: {self.unfit.reason}")
        return self.last


class ReadinessBoard:
    """What sidecars said, and who has been gone for how long."""

    def __init__(self, *, changed: Callable[[], None] = lambda: None, lost_seconds: float = LOST_SECONDS) -> None:
        """``changed`` is called when a verdict may be another from now on, or from the end of a grace on."""
        self.alone: Callable[[], bool] = lambda: True
        """Whether no other replica of this control plane lives; set by whoever knows of replicas."""
        self._changed = changed
        self._lost_seconds = lost_seconds
        self._known: dict[WorkloadKey, _Known] = {}
        self._begun = False

    def keep(self, workloads: Iterable[WorkloadKey]) -> None:
        """The workloads of the mesh from now on."""
        standard = _NOT_COME if self._begun else READY
        self._known = {key: self._known.get(key) or _Known(last=standard) for key in workloads}
        self._begun = True

    def opened(self, workload: WorkloadKey, process: str, now: float) -> None:
        """A sidecar process opened a stream; it will say whether it can serve."""
        known = self._known.get(workload)
        if known is None:
            return
        if self._gone(known, now):
            known.last = _STARTING
        known.lost_at = None
        known.said.setdefault(process, None)

    def reported(self, workload: WorkloadKey, process: str, verdict: Verdict, now: float) -> None:
        """One of the open streams brought this verdict."""
        known = self._known.get(workload)
        if known is None or process not in known.said:
            return
        known.said[process] = verdict
        self._conclude(known, now)

    def closed(self, workload: WorkloadKey, process: str, now: float) -> None:
        """That process has no stream any more."""
        known = self._known.get(workload)
        if known is None or process not in known.said:
            return
        del known.said[process]
        if known.said:
            self._conclude(known, now)
        else:
            known.lost_at = now
            self._changed()

    def verdict(self, workload: WorkloadKey, now: float) -> Verdict:
        """What to tell callers of a workload; one that is not known yet is judged as ``keep`` would take it."""
        known = self._known.get(workload)
        if (known is None or not known.said) and not self.alone():
            return READY
        if known is None:
            return _NOT_COME if self._begun else READY
        return _GONE if self._gone(known, now) else known.shown(now)

    def not_ready(self, workloads: Iterable[WorkloadKey], now: float) -> dict[WorkloadKey, Verdict]:
        """The verdicts of those of ``workloads`` that are not ready."""
        return {key: found for key in workloads if not (found := self.verdict(key, now)).ready}

    def next_change(self, now: float) -> float | None:
        """Seconds until the next grace or hold ends; None while there is none."""
        ends = [known.lost_at + self._lost_seconds for known in self._known.values() if known.lost_at is not None]
        ends += [known.held_until for known in self._known.values() if known.last.ready]
        return min((end - now for end in ends if end > now), default=None)

    def _gone(self, known: _Known, now: float) -> bool:
        return known.lost_at is not None and now - known.lost_at >= self._lost_seconds

    def _conclude(self, known: _Known, now: float) -> None:
        """Several processes stand beside one workload while one replaces the other: one that serves is enough."""
        said = [verdict for verdict in known.said.values() if verdict is not None]
        if said:
            known.turn(next((verdict for verdict in said if verdict.ready), said[0]), now)
        self._changed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Of the snapshots in force: whom each workload is an endpoint of, so that a change costs what it concerns.

    Callers who are told the very same upstreams are one group.
    """

    contents: Mapping[WorkloadKey, Snapshot]
    """As the documents and the platform have them; what sidecars say of themselves comes on top."""

    endpoints: Mapping[WorkloadKey, Endpoint]
    groups: tuple[tuple[WorkloadKey, ...], ...]
    of: Mapping[Endpoint, frozenset[int]]

    @classmethod
    def index(cls, contents: Mapping[WorkloadKey, Snapshot]) -> Callers:
        grouped: dict[int, tuple[tuple[Upstream, ...], list[WorkloadKey]]] = {}
        for caller, snapshot in contents.items():
            if snapshot.upstreams:
                grouped.setdefault(id(snapshot.upstreams), (snapshot.upstreams, []))[1].append(caller)
        told: dict[int, tuple[Upstream, list[int]]] = {}
        for number, (upstreams, _) in enumerate(grouped.values()):
            for upstream in upstreams:
                told.setdefault(id(upstream), (upstream, []))[1].append(number)
        of: dict[Endpoint, set[int]] = {}
        for upstream, numbers in told.values():
            for endpoint in upstream.endpoints:
                of.setdefault(endpoint, set()).update(numbers)
        return cls(
            contents=contents,
            endpoints={workload: _endpoint(snapshot) for workload, snapshot in contents.items()},
            groups=tuple(tuple(callers) for _, callers in grouped.values()),
            of={endpoint: frozenset(numbers) for endpoint, numbers in of.items()},
        )

    def concerned(
        self, before: Mapping[WorkloadKey, Verdict], after: Mapping[WorkloadKey, Verdict]
    ) -> frozenset[WorkloadKey]:
        """The callers of all workloads whose verdict differs."""
        differing = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        numbers: set[int] = set()
        for key in differing:
            endpoint = self.endpoints.get(key)
            if endpoint is not None:
                numbers.update(self.of.get(endpoint, ()))
        return frozenset(caller for number in numbers for caller in self.groups[number])

    def told(
        self, workloads: Iterable[WorkloadKey], not_ready: Mapping[WorkloadKey, Verdict]
    ) -> dict[WorkloadKey, Snapshot]:
        """The contents for ``workloads`` with their endpoints' readiness in them."""
        verdicts = {self.endpoints[key]: verdict for key, verdict in not_ready.items() if key in self.endpoints}
        telling = _Telling(verdicts)
        return {key: telling.told(self.contents[key]) for key in workloads}


def _endpoint(snapshot: Snapshot) -> Endpoint:
    """A workload as its callers' snapshots have it."""
    workload = snapshot.workload
    return Endpoint(
        mesh_host=workload.mesh_host,
        mesh_port=workload.mesh_port,
        address=workload.mesh_host,
        spiffe_id=workload.spiffe_id,
    )


class _Telling:
    """Puts verdicts into snapshots; what many are told alike is made once."""

    __slots__ = ("_lists", "_upstreams", "_verdicts")

    def __init__(self, verdicts: Mapping[Endpoint, Verdict]) -> None:
        self._verdicts = verdicts
        # By the number of the object, which the contents keep alive meanwhile.
        self._upstreams: dict[int, Upstream] = {}
        self._lists: dict[int, tuple[Upstream, ...]] = {}

    def told(self, snapshot: Snapshot) -> Snapshot:
        if not self._verdicts or not snapshot.upstreams:
            return snapshot
        found = self._lists.get(id(snapshot.upstreams))
        if found is None:
            found = tuple(self._upstream(upstream) for upstream in snapshot.upstreams)
            if all(one is other for one, other in zip(found, snapshot.upstreams, strict=True)):
                found = snapshot.upstreams
            self._lists[id(snapshot.upstreams)] = found
        return snapshot if found is snapshot.upstreams else replace(snapshot, upstreams=found)

    def _verdict(self, endpoint: Endpoint) -> Verdict:
        return self._verdicts.get(endpoint, READY)

    def _upstream(self, upstream: Upstream) -> Upstream:
        found = self._upstreams.get(id(upstream))
        if found is None:
            found = upstream
            if any(end in self._verdicts for end in upstream.endpoints):
                found = replace(
                    upstream,
                    endpoints=tuple(
                        replace(end, ready=end.ready and self._verdict(end).serves(end.port or upstream.port))
                        for end in upstream.endpoints
                    ),
                )
            self._upstreams[id(upstream)] = found
        return found
