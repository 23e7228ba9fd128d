"""What the mesh costs a cluster, on a real one: a pod's admission and its start, and a control plane of a big cluster.

``admission``: from the request for a pod until the API server has it, 200 of them a minute in a meshed namespace, and
as many beside them in one that is not; no node ever sees them. ``pod start``: from the request until the pod is ready,
with the sidecar and without. ``big cluster``: 1,000 services, 5,000 pods and 20,000 rules, all but one of the pods only
said to run: the memory of the control plane, and from a change's answer until the sidecar of that one pod enforces it.
The machine carries the whole cluster: its programs share the processors with what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aiohttp

from benchmarks.k8s_world import ALLOWLISTS, World, allowlist_rules, fill, running
from benchmarks.results import Pair, Row, against_bar, compare, percentile
from benchmarks.works import BenchmarkError, Plan, Say, Work
from k8s.client.connection import Connection
from k8s.client.copies import Copy, Wanted
from k8s.client.resources import NAMESPACES, PODS
from k8s.objects.pods import Pod, read_pod
from ringfence.kit.log import Logger

MEMORY_MB: Final = 512.0
PUSH_SECONDS: Final = 5.0
_PODS_A_MINUTE: Final = 200
_PLAIN: Final = "plain"
_MESHED: Final = "meshed"
_PEER: Final = "a namespace outside the mesh"
_SYSTEM: Final = "ringfence-system"
_IMAGE: Final = "localhost/pause:1"
_POLL_SECONDS: Final = 0.01


@dataclass(slots=True, kw_only=True)
class Measured:
    """Seconds, but for ``memory``, in MB."""

    admitted: dict[str, list[float]] = field(default_factory=lambda: {_MESHED: [], _PLAIN: []})
    started: dict[str, list[float]] = field(default_factory=lambda: {_MESHED: [], _PLAIN: []})
    memory: dict[str, float] = field(default_factory=dict)
    pushed: list[float] = field(default_factory=list)


def run(plan: Plan, say: Say) -> list[Row]:
    """Install the mesh in a cluster of one node, and measure."""
    # Of the tests, and only here: whoever measures something else needs no cluster.
    from tests.cluster.cluster import Cluster
    from tests.cluster.inside import inside
    from tests.cluster.machine import ClusterError

    world = World().scaled(plan.levels[0] if plan.levels else 100)
    found = Measured()
    try:
        with _installed(say) as cluster:
            assert isinstance(cluster, Cluster)

            async def work(connection: Connection) -> None:
                ending.take_in()
                for name, labels in ((_PLAIN, {}), (_MESHED, {"ringfence.io/inject": "enabled"})):
                    await connection.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
                await asyncio.sleep(2)  # for the accounts of the namespaces
                say(f"admitting {_PODS_A_MINUTE} pods a minute")
                await _admit(connection, found, seconds=12.0 * plan.rounds)
                say("starting pods")
                await _start(connection, found, plan.rounds)
                found.memory["at rest"] = await _memory(cluster)
                say(f"writing {world.services} services, {world.pods} pods, {world.services * world.rules} rules")
                await fill(connection, world)
                await _push(connection, world, found, max(plan.rounds, 5) * 2, say)
                found.memory["of a big cluster"] = await _memory(cluster)

            with _Ending() as ending:
                inside(cluster, work)
    except asyncio.CancelledError:
        raise SystemExit(143) from None
    except ClusterError as error:
        raise BenchmarkError(str(error)) from error
    return rows(found)


class _Ending:
    """While it lasts a signal ends the work, which runs in a thread of its own that the main one waits for."""

    def __init__(self) -> None:
        self._cancel: Callable[[], object] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Ending:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: self._cancel())
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take_in(self) -> None:
        """The task that is to be ended."""
        task = asyncio.current_task()
        assert task is not None
        self._cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)


@contextlib.contextmanager
def _installed(say: Say) -> Iterator[object]:
    from tests.cluster import build, mesh, product_image
    from tests.cluster.cluster import Settings
    from tests.cluster.cluster import running as cluster_running

    say("building Kubernetes and the image, where they are not there yet")
    programs, image = build.ensure(), product_image.archive()
    with cluster_running(Settings(programs=programs, images=(image,))) as cluster:
        say("installing the mesh")
        mesh.install(cluster, "resources.limits.memory=2Gi")
        yield cluster


def _pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": _IMAGE, "imagePullPolicy": "Never"}
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


async def _admit(connection: Connection, found: Measured, seconds: float) -> None:
    """Make pods that no node gets, evenly in time."""
    gap = 60.0 / _PODS_A_MINUTE
    begun = time.monotonic()
    for number in range(int(seconds / gap)):
        await asyncio.sleep(max(begun + number * gap - time.monotonic(), 0.0))
        for namespace in (_MESHED, _PLAIN) if number % 2 else (_PLAIN, _MESHED):
            name = f"admitted-{number}"
            asked = time.perf_counter()
            await connection.create(PODS, _pod(name, schedulerName="nobody"), namespace)
            found.admitted[namespace].append(time.perf_counter() - asked)
            await connection.delete(PODS, name, namespace)


async def _start(connection: Connection, found: Measured, rounds: int) -> None:
    """Start pods one after the other, each kind in turns."""
    for number in range(rounds + 1):
        for namespace in (_MESHED, _PLAIN) if number % 2 else (_PLAIN, _MESHED):
            taken = await _until_ready(connection, namespace, f"started-{number}")
            if number:  # the first of each kind finds nothing prepared
                found.started[namespace].append(taken)
            await connection.delete(PODS, f"started-{number}", namespace)


async def _until_ready(connection: Connection, namespace: str, name: str) -> float:
    changed = asyncio.Event()
    wanted: Wanted[Pod] = Wanted(resource=PODS, read=read_pod, namespace=namespace, fields=f"metadata.name={name}")
    copy = Copy(connection, wanted, changed.set, log=Logger("bench", level="error"), random=lambda: 0.5)
    following = asyncio.create_task(copy.run())
    try:
        await copy.wait_complete()
        asked = time.perf_counter()
        await connection.create(PODS, _pod(name), namespace)
        async with asyncio.timeout(120):
            while not any(pod.ready for pod in copy.objects.values()):
                changed.clear()
                await changed.wait()
        return time.perf_counter() - asked
    except TimeoutError as error:
        raise BenchmarkError(f"pod {namespace}/{name} did not get ready") from error
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _push(connection: Connection, world: World, found: Measured, changes: int, say: Say) -> None:
    """Change the allowlist of the one pod that runs, and wait until its sidecar says that it enforces it."""
    namespace, service = world.namespace(0), world.service(0)
    name = "watched"
    pod = _pod(name)
    pod["metadata"]["labels"] = {"app": service}
    await connection.create(PODS, pod, namespace)
    await connection.patch(PODS, f"{service}-0", {"status": running(0, ready=True)}, namespace, subresource="status")
    async with asyncio.timeout(300):
        while not (held := read_pod(await connection.get(PODS, name, namespace))).ready:  # noqa: ASYNC110 (seen from outside)
            await asyncio.sleep(0.5)
    url = f"http://{held.addresses[0]}:15020/metrics"
    async with aiohttp.ClientSession() as session:
        await _settled(session, url)
        for number in range(changes):
            rules = allowlist_rules(world, 0, path=f"/changed/{number}")
            before = await _revision(session, url)
            await connection.patch(ALLOWLISTS, service, {"spec": {"rules": rules}}, namespace)
            asked = time.perf_counter()
            async with asyncio.timeout(120):
                while await _revision(session, url) == before:  # noqa: ASYNC110 (seen from outside)
                    await asyncio.sleep(_POLL_SECONDS)
            found.pushed.append(time.perf_counter() - asked)
            await asyncio.sleep(2)
        say(f"{changes} changes enforced")


async def _settled(session: aiohttp.ClientSession, url: str) -> None:
    """Until nothing has changed for a while."""
    async with asyncio.timeout(600):
        while True:
            before = await _revision(session, url)
            await asyncio.sleep(15)
            if await _revision(session, url) == before:
                return


async def _revision(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=10)) as response:
        text = await response.text()
    match = re.search(r"^ringfence_snapshot_revision(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    if match is None:
        raise BenchmarkError("a sidecar does not tell its revision")
    return match[1]


async def _memory(cluster: Any) -> float:
    """Resident, of the control plane's process."""
    words = ("exec", "deploy/ringfence", "--container=ringfence", f"--namespace={_SYSTEM}", "--")
    told: str = await asyncio.to_thread(lambda: cluster.kubectl(*words, "cat", "/proc/1/status"))
    match = re.search(r"VmRSS:\s+(\d+) kB", told)
    if match is None:
        raise BenchmarkError("the control plane's memory cannot be read")
    return int(match[1]) / 1024


def rows(found: Measured) -> list[Row]:
    """The rows of a run."""
    made = []
    for level, share in (("p50", 50.0), ("p99", 99.0)):
        pair = Pair(
            ours=1000 * percentile(sorted(found.admitted[_MESHED]), share),
            theirs=1000 * percentile(sorted(found.admitted[_PLAIN]), share),
        )
        made.append(compare("k8s", level, "admission_ms", _PEER, [pair]))
    starts = [
        Pair(ours=mine, theirs=other) for mine, other in zip(found.started[_MESHED], found.started[_PLAIN], strict=True)
    ]
    made.append(compare("k8s", "one pod", "ready_seconds", _PEER, starts))
    for level, megabytes in found.memory.items():
        made.append(against_bar("k8s", level, "control_plane_mb", [megabytes], MEMORY_MB))
    for level, share in (("p50", 50.0), ("p99", 99.0)):
        made.append(against_bar("k8s", level, "push_seconds", found.pushed, PUSH_SECONDS, share=share))
    return made


WORK = Work(
    name="k8s",
    summary="what the mesh costs a cluster: admission, pods' start, the control plane (only if it is named)",
    run=run,
    apart=True,
)
