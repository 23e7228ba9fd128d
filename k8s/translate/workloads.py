"""What pods of no Service are called: after the workload that owns them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from k8s.objects.pods import Pod

_HASH: Final = "pod-template-hash"
_NAME_LIMIT_CHARACTERS: Final = 150
"""With a kind before it and something behind it, it is still a name that every sidecar takes."""
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?", re.ASCII)
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}", re.ASCII)
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
    owns, itself.

    Who owns a pod is what its author says: the API server looks at no letter of it. One that is no name would be in
    what every caller is told, which none of them would take.
    """
    owner = pod.owner
    if owner is None or _KIND.fullmatch(owner.kind) is None or not _is_name(owner.name):
        return "pod", _short(pod.name)
    kind, name = owner.kind, owner.name
    ending = f"-{pod.labels.get(_HASH, '')}"
    if kind == "ReplicaSet" and len(ending) > 1 and name.endswith(ending):
        return "deployment", name.removesuffix(ending)
    if kind == "Job":
        scheduled = _SCHEDULED.fullmatch(name)
        return ("cronjob", scheduled[1]) if scheduled else ("job", name)
    return kind.lower(), name


def _is_name(text: str) -> bool:
    return len(text) <= _NAME_LIMIT_CHARACTERS and _NAME.fullmatch(text) is not None


def _short(name: str) -> str:
    """A pod's name may be longer."""
    if len(name) <= _NAME_LIMIT_CHARACTERS:
        return name
    return f"{name[:100].rstrip('-.')}-{sha256(name.encode()).hexdigest()[:16]}"


def lasting_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels by which people choose pods."""
    return {name: value for name, value in labels.items() if name not in _PASSING and "ringfence.io/" not in name}
