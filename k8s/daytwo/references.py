"""How people name the pods that they mean: ``shop/api-1``, ``api-1``, ``deploy/api``, ``sts/db``, ``svc/api``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("po", "pod", "pods"), "Pod"),
    **dict.fromkeys(("deploy", "deployment", "deployments"), "Deployment"),
    **dict.fromkeys(("sts", "statefulset", "statefulsets"), "StatefulSet"),
    **dict.fromkeys(("ds", "daemonset", "daemonsets"), "DaemonSet"),
    **dict.fromkeys(("job", "jobs"), "Job"),
    **dict.fromkeys(("svc", "service", "services"), "Service"),
}


class NoReferenceError(ValueError):
    """What was named cannot be a pod; the text is one line with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """``kind``: ``Pod`` for one pod, else what chooses several."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"


def parse_reference(said: str, namespace: str) -> Reference:
    """``name``, ``kind/name``, ``namespace/name`` or ``namespace/kind/name``; ``namespace`` where none is named. A
    namespace that is called like a kind must be given apart. Raises NoReferenceError."""
    parts = said.split("/")
    if not 1 <= len(parts) <= 3 or not all(_NAME.fullmatch(one) for one in (*parts, namespace)):
        raise NoReferenceError(f"{said[:80]!a} names no pod (write NAME, NAMESPACE/NAME or deploy/NAME)")
    kind, where = "Pod", namespace
    if len(parts) == 3:
        where, named = parts[0], parts[1]
        if named not in KINDS:
            raise NoReferenceError(f"{named[:80]!a} is no kind of workload (use {', '.join(sorted(KINDS))})")
        kind = KINDS[named]
    elif len(parts) == 2 and parts[0] in KINDS:
        kind = KINDS[parts[0]]
    elif len(parts) == 2:
        where = parts[0]
    return Reference(kind=kind, namespace=where, name=parts[-1])
