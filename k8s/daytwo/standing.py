"""How each pod of the mesh stands: what control planes, sidecars and pods themselves tell, as one row. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from k8s.objects.lenient import Json, objects, text

_HEAD: Final = ("POD", "READY", "REVISION", "SVID ENDS IN", "VERSION", "TOLD BY", "WAITS FOR")
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStanding:
    """``enforced`` and ``wanted``: revisions, 0 for none or not known. ``svid_left_seconds``: None without one.
    ``told_by``: ``control plane``, ``sidecar`` or ``pod``. ``expected``: the version that it would get now, where it is
    another."""

    namespace: str
    pod: str
    ready: bool
    enforced: int = 0
    wanted: int = 0
    spiffe_id: str = ""
    svid_left_seconds: float | None = None
    version: str = ""
    expected: str = ""
    told_by: str = "pod"
    waits_for: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "waits_for": list(self.waits_for)}


def by_planes(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], PodStanding]:
    """What control planes tell, by namespace and pod. Of several replicas the one counts that the sidecar talks to."""
    found: dict[tuple[str, str], PodStanding] = {}
    for document in documents:
        for workload in objects(document, "workloads"):
            namespace, pod = text(workload, "service").partition("/")[0], text(workload, "instance")
            sidecar = next((one for one in objects(workload, "sidecars") if one.get("connected")), None)
            key = (namespace, pod)
            if not pod or (key in found and sidecar is None):
                continue
            found[key] = _of_plane(document, workload, sidecar, key)
    return found


def _of_plane(
    document: Mapping[str, Any], workload: Mapping[str, Any], sidecar: Mapping[str, Any] | None, key: tuple[str, str]
) -> PodStanding:
    waits: list[str] = []
    unready = workload.get("not_ready")
    if isinstance(unready, Mapping) and unready.get("reason"):
        waits.append(str(unready["reason"]))
    if sidecar is None:
        waits.append("a connection to the control plane")
    elif text(sidecar, "error"):
        waits.append(f"a revision that it can enforce: {text(sidecar, 'error')}")
    ends, now = (number_at(sidecar, "identity", "not_after"), number_at(document, "now"))
    return PodStanding(
        namespace=key[0],
        pod=key[1],
        ready=workload.get("ready") is True,
        enforced=int(number_at(sidecar, "enforced_revision") or 0),
        wanted=int(number_at(workload, "revision") or 0),
        spiffe_id=text(workload, "spiffe_id"),
        svid_left_seconds=ends - now if ends and now else None,
        version=text(sidecar, "version"),
        told_by="control plane",
        waits_for=tuple(waits),
    )


def number_at(value: object, *path: str) -> float | None:
    """The number at ``path``, whole or not."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def of_sidecar(pod: Json, told: Mapping[str, Any]) -> PodStanding:
    """What a sidecar tells of itself (``ringfence proxy status --json``)."""
    return PodStanding(
        namespace=text(pod, "metadata", "namespace"),
        pod=text(pod, "metadata", "name"),
        ready=told.get("ready") is True,
        enforced=int(number_at(told, "revision") or 0),
        spiffe_id=text(told, "spiffe_id"),
        svid_left_seconds=number_at(told, "svid_left_seconds"),
        version=text(told, "version"),
        told_by="sidecar",
        waits_for=tuple(str(one) for one in told.get("waiting_for") or ()),
    )


def is_ready(pod: Json) -> bool:
    """By the kubelet's word."""
    conditions = objects(pod, "status", "conditions")
    return any(text(one, "type") == "Ready" and text(one, "status") == "True" for one in conditions)


def standing_lines(standings: Sequence[PodStanding]) -> Iterator[str]:
    """A table, and how many are not as they should be."""
    rows = [_HEAD, *(_row(one) for one in standings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    unready = sum(not one.ready for one in standings)
    behind = sum(0 < one.enforced < one.wanted for one in standings)
    yield ""
    yield f"{len(standings)} pods in the mesh, {unready} not ready, {behind} behind the revision in force"


def _row(one: PodStanding) -> tuple[str, ...]:
    left = one.svid_left_seconds
    ends = "-" if left is None else show_seconds(left) if left > 0 else f"ended {show_seconds(-left)} ago"
    wanted = f" of {one.wanted}" if one.wanted else ""
    version = f"{one.version or '-'}" + (f" (now {one.expected})" if one.expected else "")
    return (
        f"{one.namespace}/{one.pod}",
        "yes" if one.ready else "no",
        f"{one.enforced or '-'}{wanted}",
        ends,
        version,
        one.told_by,
        "; ".join(one.waits_for) or "-",
    )


def show_seconds(seconds: float) -> str:
    """The two largest units, such as ``1h 5m``."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
