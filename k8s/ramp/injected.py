"""Pods that should be in the mesh and are not, with the reason, and pods whose sidecar is of another version. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from k8s.objects.lenient import Json, at, objects, text, texts
from k8s.objects.names import IMAGE, INJECT, REVISION, SIDECAR_CONTAINER, STATUS
from k8s.ramp.finding import Code, Finding, Weight, kubectl
from k8s.ramp.snapshot import Cluster, PodView, name_of, namespace_of

_WEBHOOK_WORD: Final = "ringfence"
_INJECT_OPTION: Final = "--platform-option=inject="
_SHOWN_CHARACTERS: Final = 500


def injection_findings(cluster: Cluster) -> Iterator[Finding]:
    """Of namespaces that are labelled; before that none should be injected."""
    yield from _labels(cluster)
    seen: set[tuple[str, Code, str]] = set()
    for view in cluster.pods:
        if view.is_template or view.is_injected:
            continue
        found = _missing(cluster, view)
        if found is not None and (found.subject, found.code, found.what) not in seen:
            seen.add((found.subject, found.code, found.what))
            yield found
    yield from _refused(cluster)


def _labels(cluster: Cluster) -> Iterator[Finding]:
    for name, held in sorted(cluster.namespace_labels.items()):
        said = held.get(INJECT)
        if said is not None and said not in ("enabled", "disabled"):
            yield Finding(
                code=Code.NOT_INJECTED,
                subject=f"Namespace {name}",
                what=f"label {INJECT} is {said[:63]!r}, which means nothing, so its pods stay out",
                mend="write enabled or disabled",
                commands=(kubectl("label", "--overwrite", "namespace", name, f"{INJECT}=enabled"),),
            )


def _missing(cluster: Cluster, view: PodView) -> Finding | None:
    own = view.labels.get(INJECT)
    if own != "enabled" and view.namespace not in cluster.labelled:
        return None
    if own == "disabled":
        return _finding(view, "opted out by its label", "leave it, if it is meant: it has no identity", Weight.NOTICE)
    if view.host_network:
        return _finding(
            view,
            "uses the host's network, where no sidecar can stand",
            "take it off the host's network, or treat it as outside the mesh",
            Weight.NOTICE,
        )
    restart = _restart(view)
    webhook = injector_of(cluster)
    if webhook is None:
        if not cluster.is_live:
            return None
        return _finding(
            view, "there is no injector in the cluster", "install the chart, then restart it", commands=restart
        )
    made, since = _moment(view.pod), _moment(webhook)
    if made is not None and since is not None and made < since:
        return _finding(view, "was created before the injector", "restart it", commands=restart)
    ignoring = any(text(one, "failurePolicy") == "Ignore" for one in objects(webhook, "webhooks"))
    why = "was created before its namespace was labelled"
    why += ", or while the injector did not answer (its failurePolicy is Ignore)" if ignoring else ""
    return _finding(view, why, "restart it", commands=restart)


def _finding(
    view: PodView, why: str, mend: str, weight: Weight = Weight.FINDING, commands: tuple[str, ...] = ()
) -> Finding:
    return Finding(
        code=Code.NOT_INJECTED,
        weight=weight,
        subject=view.owner,
        what=f"not in the mesh: {why}",
        mend=mend,
        commands=commands,
    )


def _restart(view: PodView) -> tuple[str, ...]:
    if view.owner_kind in ("Deployment", "StatefulSet", "DaemonSet"):
        named = f"{view.owner_kind.lower()}/{view.owner_name}"
        return (kubectl("rollout", "restart", "-n", view.namespace, named),)
    return ()


def injector_of(cluster: Cluster) -> Json | None:
    """The injector's own, whatever its release is called."""
    for one in cluster.kind("MutatingWebhookConfiguration"):
        names = [name_of(one), *(text(webhook, "name") for webhook in objects(one, "webhooks"))]
        if any(_WEBHOOK_WORD in name for name in names):
            return one
    return None


def _moment(one: Json) -> datetime | None:
    try:
        return datetime.fromisoformat(text(one, "metadata", "creationTimestamp"))
    except ValueError:
        return None


def _refused(cluster: Cluster) -> Iterator[Finding]:
    """Pods that were never made, because the injector refused them or did not answer."""
    told = set()
    for event in cluster.kind("Event"):
        message = text(event, "message") or text(event, "note")
        involved = "involvedObject" if "involvedObject" in event else "regarding"
        kind, name = text(event, involved, "kind"), text(event, involved, "name")
        namespace = text(event, involved, "namespace") or namespace_of(event)
        if text(event, "reason") != "FailedCreate" or _WEBHOOK_WORD not in message or (kind, namespace, name) in told:
            continue
        if namespace not in cluster.chosen or not _still_there(cluster, kind, namespace, name):
            continue
        told.add((kind, namespace, name))
        shown = "".join(one if one.isprintable() else " " for one in message[:_SHOWN_CHARACTERS])
        yield Finding(
            code=Code.NOT_INJECTED,
            subject=f"{kind} {namespace}/{name}",
            what=f"its pods are refused: {shown}",
            mend="mend what the message says; while the injector does not answer, look at its pods",
        )


def _still_there(cluster: Cluster, kind: str, namespace: str, name: str) -> bool:
    """Whether whoever could not make its pods is there and still lacks some; events outlive their cause."""
    for one in cluster.kind(kind):
        if name_of(one) == name and namespace_of(one) == namespace:
            wanted, made = _count(one, "spec"), _count(one, "status")
            return wanted is None or made < wanted if made is not None else True
    return False


def _count(one: Json, part: str) -> int | None:
    found = one.get(part)
    number = found.get("replicas") if isinstance(found, Mapping) else None
    return number if isinstance(number, int) else (0 if part == "status" else None)


def version_of(view: PodView) -> str:
    """The version of a pod's sidecar, as the injector wrote it, else its image; empty if unknown."""
    return text(_status(view), "version") or image_of(view)


def is_of_another_revision(view: PodView, revision: str) -> bool:
    """Whether another control plane injected it than the one of ``revision``, which its namespace is to have; a pod
    that names one itself stays with that. Not where nobody can tell."""
    told = at(_status(view), "revision")
    return isinstance(told, str) and told != (view.labels.get(REVISION) or revision)


def _status(view: PodView) -> object:
    """What the injector wrote of a pod; None for what is not JSON."""
    try:
        return json.loads(view.annotations.get(STATUS, "")[:65536])
    except (ValueError, RecursionError):
        return None


def image_of(view: PodView) -> str:
    """The image of a pod's sidecar."""
    named = (one for one in objects(view.spec, "initContainers") if text(one, "name") == SIDECAR_CONTAINER)
    return text(next(named, None), "image")


def current_images(cluster: Cluster) -> dict[str, str]:
    """The image that each control plane puts into pods, by its revision; revision "" is the one without a name. As its
    own settings have both, which are what it goes by."""
    found = {}
    for one in cluster.kind("Deployment"):
        for container in objects(one, "spec", "template", "spec", "containers"):
            words = [*texts(container, "command"), *texts(container, "args")]
            if "controlplane" in words:
                settings = _inject_settings(words)
                found[text(settings, "revision")] = text(settings, "image") or text(container, "image")
    return found


def _inject_settings(words: list[str]) -> object:
    for word in words:
        if word.startswith(_INJECT_OPTION):
            try:
                return json.loads(word.removeprefix(_INJECT_OPTION))
            except (ValueError, RecursionError):
                return None
    return None


def newer(cluster: Cluster, view: PodView, images: Mapping[str, str], revision: str | None = None) -> str:
    """What the injector would give a pod now, where that is another than it has: a version where the image's tag is
    one, else the image. Empty where nothing is to be said: it is not known, or the pod chose its image itself.
    ``revision``: that the namespace is to have; None for the one that it has."""
    if revision is None:
        revision = cluster.namespace_labels.get(view.namespace, {}).get(REVISION, "")
    image = images.get(view.labels.get(REVISION) or revision, "")
    if not image or IMAGE in view.annotations:
        return ""
    tag, has = image.partition("@")[0].rpartition("/")[2].partition(":")[2], version_of(view)
    if _VERSION.match(tag) and _VERSION.match(has):
        return tag if tag.removeprefix("v") != has.removeprefix("v") else ""
    return image if image_of(view) and image_of(view) != image else ""


_VERSION: Final = re.compile(r"v?[0-9]+[.][0-9]")


def outdated_findings(cluster: Cluster) -> Iterator[Finding]:
    """Workloads whose sidecar is not of the version that the injector puts in now."""
    images = current_images(cluster)
    seen = set()
    for view in cluster.pods:
        if view.is_template or not view.is_injected or view.owner in seen:
            continue
        if wanted := newer(cluster, view, images):
            seen.add(view.owner)
            yield Finding(
                code=Code.OUTDATED,
                subject=view.owner,
                what=f"its sidecar is {version_of(view)}, the injector's is {wanted}",
                mend="restart it when it suits",
                commands=_restart(view),
            )
