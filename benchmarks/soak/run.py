"""One soak from start to end: the mesh, its callers, the changes, the samples, and the report. Adapter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import backend, machine
from benchmarks.processes import resident_megabytes
from benchmarks.soak.callers import Callers, Crowd
from benchmarks.soak.memory import Course, course
from benchmarks.soak.shop import Shop, changing_permitted, shop
from benchmarks.soak.tally import Changes, Tally
from benchmarks.works import BenchmarkError

SETTLE_SECONDS = 3.0
_PATIENCE_SECONDS = 60.0
_WARM_SHARE = 0.1  # of the run, before memory is looked at: caches fill, and the heap finds its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, how often, how many."""

    seconds: float = 600.0
    change_seconds: float = 10.0
    lifetime_seconds: int = 60
    pause_seconds: float = 0.1
    crowd: Crowd = Crowd()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a soak has shown; ``problems`` is empty when it is as it must be."""

    plan: Plan
    tally: Tally
    seconds: float
    courses: tuple[Course, ...]
    renewals: int
    proofs: int
    changes: int
    kept_alive: int
    problems: tuple[str, ...]


def soak(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Run it; BenchmarkError when there can be no result at all."""
    with backend.folder() as folder, shop(folder, plan.lifetime_seconds) as found:
        return asyncio.run(_Soak(plan, found, say).run())


class _Soak:
    def __init__(self, plan: Plan, found: Shop, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._shop = found
        self._say = say
        self._tally = Tally(Changes(settle_seconds=SETTLE_SECONDS))
        self._samples: dict[str, list[tuple[float, float]]] = {name: [] for name in found.pids}
        self._changes = 0

    async def run(self) -> Outcome:
        plan = self._plan
        before = {name: _descriptors(pid) for name, pid in self._shop.pids.items()}
        callers = Callers(self._shop.doors, self._tally, pause_seconds=plan.pause_seconds)
        began = time.monotonic()
        self._tally.changes.saved(began - SETTLE_SECONDS - 1, changing_permitted(0))
        calling = asyncio.create_task(callers.run(plan.crowd), name="callers")
        watching = asyncio.create_task(self._watch(began), name="watch")
        changing = asyncio.create_task(self._change(), name="changes")
        try:
            await asyncio.wait((calling, changing, watching), timeout=plan.seconds, return_when="FIRST_COMPLETED")
            seconds = time.monotonic() - began
            for task in (watching, changing):
                task.cancel()
            early = calling.done()
            callers.stop()
            await calling
        finally:
            for task in (calling, watching, changing):
                task.cancel()
        if early or seconds < plan.seconds * 0.99:
            raise BenchmarkError("the soak ended before its time")
        courses = tuple(course(name, samples) for name, samples in self._samples.items())
        renewals, proofs = (
            int(min(self._shop.metric(side, start) for side in ("client", "api")))
            for start in ("ringfence_svid_renewals_total", 'ringfence_reproofs_total{outcome="accepted"}')
        )
        problems = self._problems(courses, renewals, callers.kept_alive)
        problems += await self._left_over(before)
        return Outcome(
            plan=plan,
            tally=self._tally,
            seconds=seconds,
            courses=courses,
            renewals=renewals,
            proofs=proofs,
            changes=self._changes,
            kept_alive=callers.kept_alive,
            problems=tuple(problems),
        )

    async def _watch(self, began: float) -> None:
        warm = began + _WARM_SHARE * self._plan.seconds
        told = began
        while True:
            await asyncio.sleep(min(1.0, self._plan.seconds / 40))
            now = time.monotonic()
            if now < warm:
                continue
            for name, pid in self._shop.pids.items():
                self._samples[name].append((now, resident_megabytes(pid)))
            if now - told >= 30:
                told = now
                sizes = ", ".join(f"{name} {samples[-1][1]:.1f} MiB" for name, samples in self._samples.items())
                self._say(f"{now - began:.0f} s, {self._tally.calls.total():,} calls, {sizes}")

    async def _change(self) -> None:
        while True:
            await asyncio.sleep(self._plan.change_seconds)
            self._changes += 1
            self._tally.changes.saved(time.monotonic(), changing_permitted(self._changes))
            self._shop.enforce(self._changes)

    def _problems(self, courses: tuple[Course, ...], renewals: int, kept_alive: int) -> list[str]:
        plan, tally = self._plan, self._tally
        found = []
        if tally.failed_permitted:
            found.append(f"{tally.failed_permitted} permitted calls failed")
        if tally.permitted_forbidden:
            found.append(f"{tally.permitted_forbidden} forbidden calls were permitted")
        found += [f"the {each.name} grew by {each.growth:.1%} in the last half" for each in courses if not each.flat]
        wanted = plan.crowd.kept_opaque + plan.crowd.websockets
        if kept_alive != wanted:
            found.append(f"{kept_alive} of {wanted} connections that were to live did")
        if renewals < plan.seconds // plan.lifetime_seconds:
            found.append(f"only {renewals} SVIDs in {plan.seconds:.0f} s")
        return found

    async def _left_over(self, before: dict[str, int]) -> list[str]:
        """What has not come back to what it was when all callers have gone."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = [
                f"{count:.0f} {gauge} of the sidecar of {side}"
                for side in ("client", "api")
                for gauge in ("ringfence_connections_open_inbound", "ringfence_connections_open_outbound")
                if (count := await asyncio.to_thread(self._shop.metric, side, gauge))
            ]
            # The link between the sidecars stays; it is not there before the first call.
            found += [
                f"the {name} holds {now} descriptors, {before[name]} before"
                for name, pid in self._shop.pids.items()
                if (now := _descriptors(pid)) > before[name] + 4
            ]
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.5)


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def as_json(outcome: Outcome) -> dict[str, object]:
    """The report as plain JSON values; ``met`` is the verdict."""
    tally = outcome.tally
    return {
        "machine": machine.describe(),
        "plan": asdict(outcome.plan),
        "seconds": round(outcome.seconds, 1),
        "calls": tally.calls.total(),
        "failed_permitted": tally.failed_permitted,
        "permitted_forbidden": tally.permitted_forbidden,
        "by_kind": tally.by_kind(),
        "policy_changes": outcome.changes,
        "svids": outcome.renewals,
        "reproofs_accepted": outcome.proofs,
        "connections_kept": outcome.kept_alive,
        "memory_mib": [
            {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(each).items()}
            for each in outcome.courses
        ],
        "samples": tally.samples,
        "problems": list(outcome.problems),
        "met": not outcome.problems,
    }


def as_text(outcome: Outcome) -> str:
    """The report for people."""
    tally = outcome.tally
    lines = [
        f"{tally.calls.total():,} calls in {outcome.seconds:.0f} s: {tally.failed_permitted} permitted ones failed, "
        f"{tally.permitted_forbidden} forbidden ones were permitted",
        f"{outcome.changes} policy changes, {outcome.renewals} SVIDs a sidecar, {outcome.proofs} re-proofs accepted, "
        f"{outcome.kept_alive} connections lived from beginning to end",
        "",
    ]
    for kind, counts in tally.by_kind().items():
        lines.append(f"  {kind}: " + ", ".join(f"{what} {count:,}" for what, count in counts.items()))
    lines.append("")
    for each in outcome.courses:
        lines.append(
            f"  {each.name}: {each.begin:.1f} MiB at first, {each.half:.1f} at half time, {each.end:.1f} at the end; "
            f"second half {each.slope_per_minute:+.3f} MiB a minute, last quarter {each.growth:+.2%}"
        )
    lines += ["", *(f"  {sample}" for sample in tally.samples)]
    lines.append("as it must be" if not outcome.problems else "NOT as it must be: " + "; ".join(outcome.problems))
    return "\n".join(lines)
