"""Where the pods are in what people apply: workloads hold a template, lists hold objects. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from k8s.inject.injection import Injected, Refused, Untouched, inject
from k8s.inject.settings import InjectSettings
from k8s.objects.fields import MalformedObjectError, child, objects, text
from k8s.objects.namespaces import Namespace

# The way from a workload to its pod, by API group and kind.
_TEMPLATES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): ("spec", "template"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of one object. ``path``: where it is in its document, keys and numbers; ``outcome``: ``injected``,
    ``untouched`` or ``refused``; ``message``: why it was not injected."""

    path: tuple[str | int, ...]
    kind: str
    namespace: str
    name: str
    outcome: str
    message: str = ""
    warnings: tuple[str, ...] = ()


def inject_document(
    document: Any,
    settings: InjectSettings,
    namespace: str,
    new_word: Callable[[], str],
    path: tuple[str | int, ...] = (),
) -> tuple[Any, list[Told]]:
    """The document with a sidecar in each of its pods, as a new value, and what became of each object. ``namespace``:
    of objects that name none; ``new_word`` makes a word that nobody guesses."""
    if not isinstance(document, dict):
        return document, []
    kind, group = str(document.get("kind") or ""), _group(document)
    try:
        items = list(objects(document, "items")) if group == "" and kind.endswith("List") else []
        metadata = child(document, "metadata")
        where, name = text(metadata, "namespace", "metadata") or namespace, text(metadata, "name", "metadata")
    except MalformedObjectError as error:
        told = Told(path=path, kind=kind, namespace=namespace, name="", outcome="refused", message=str(error))
        return document, [told]
    if items:
        pairs = [
            inject_document(one, settings, namespace, new_word, (*path, "items", number))
            for number, (_, one) in enumerate(items)
        ]
        return {**document, "items": [made for made, _ in pairs]}, [one for _, told in pairs for one in told]
    way = _TEMPLATES.get((group, kind))
    if way is None:
        return document, []
    outcome = _pod(document, way, Namespace(name=where), settings, new_word())
    made = document
    if isinstance(outcome, Injected):
        made = _put(document, way, outcome.pod)
    told = Told(
        path=path,
        kind=kind,
        namespace=where,
        name=name,
        outcome=type(outcome).__name__.lower(),
        message=outcome.message
        if isinstance(outcome, Refused)
        else outcome.reason
        if isinstance(outcome, Untouched)
        else "",
        warnings=outcome.warnings if isinstance(outcome, Injected) else (),
    )
    return made, [told]


def _group(document: dict[str, Any]) -> str:
    group, slash, _ = str(document.get("apiVersion") or "").rpartition("/")
    return group if slash else ""


def _pod(
    document: dict[str, Any], way: tuple[str, ...], namespace: Namespace, settings: InjectSettings, word: str
) -> Injected | Refused | Untouched:
    pod: Any = document
    try:
        for number, key in enumerate(way):
            pod = child(pod, key, ".".join(way[:number]))
    except MalformedObjectError as error:
        return Refused(message=str(error))
    # Drawn from what is said here, so that the same file comes out the same, and nothing restarts for a new lot.
    return inject(pod, namespace, settings, word, asked=True, lot=json.dumps(pod, sort_keys=True, default=str))


def _put(document: dict[str, Any], way: tuple[str, ...], pod: dict[str, Any]) -> dict[str, Any]:
    if not way:
        return pod
    return {**document, way[0]: _put(document[way[0]], way[1:], pod)}
