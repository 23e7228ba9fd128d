"""What pods of no Service are called: after the workload that owns them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from k8s.objects.pods import Pod

_HASH: Final = "pod-template-hash"
_SCHEDULED: Final = re.compile(r"(.+)-[0-9]{8,12}")
"""A CronJob names its Jobs after the minute that they are of."""

# What differs from pod to pod, or says when it was made rather than what it is.
_PASSING: Final = frozenset(
    (
        _HASH,
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/job-completion-index",
    )
)


def workload_of(pod: Pod) -> tuple[str, str]:
    """Kind and name of the workload that a pod belongs to, such as ``deployment`` and ``cart``; of a pod that nobody
    owns, itself."""
    owner = pod.owner
    if owner is None:
        return "pod", pod.name
    kind, name = owner.kind, owner.name
    ending = f"-{pod.labels.get(_HASH, '')}"
    if kind == "ReplicaSet" and len(ending) > 1 and name.endswith(ending):
        return "deployment", name.removesuffix(ending)
    if kind == "Job":
        scheduled = _SCHEDULED.fullmatch(name)
        return ("cronjob", scheduled[1]) if scheduled else ("job", name)
    return kind.lower(), name


def lasting_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels by which people choose pods."""
    return {name: value for name, value in labels.items() if name not in _PASSING and "ringfence.io/" not in name}
