"""Which pods should have a sidecar and have none: made before their namespace was chosen, or past the webhook. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from k8s.objects import names
from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Pod


def left_out(pods: Iterable[Pod], namespaces: Mapping[str, Namespace]) -> Counter[str]:
    """How many, by namespace. Pods that end, and those on the host's network, which have no place for one, are not
    counted."""
    found: Counter[str] = Counter()
    for pod in pods:
        if pod.meshed or pod.ended or pod.deleting or pod.host_network or pod.namespace in names.NEVER_MESHED:
            continue
        namespace = namespaces.get(pod.namespace)
        chosen = namespace.labels.get(names.INJECT) if namespace is not None else None
        if pod.labels.get(names.INJECT, chosen) == names.ENABLED:
            found[pod.namespace] += 1
    return found
