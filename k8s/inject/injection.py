"""Whether a pod gets a sidecar, and the pod with it. Pure.

A pod that was injected before is injected anew: what is ours is taken out and put in again, so that the outcome is the
same whoever wrote what was there, containers that came meanwhile are seen, and a pod of this version comes out as it
went in. Only what others added to the sidecar (a mount, a variable of theirs) stays; the redirect's container, which is
root with two capabilities, keeps of it what the API server mounts into every container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.inject import parts
from k8s.inject.accounts import account_of
from k8s.inject.probes import ProbeError, Rewriting, answers_of, rewrite
from k8s.inject.refusals import refusal, warnings
from k8s.inject.settings import InjectSettings
from k8s.inject.wishes import WishError, read_wishes
from k8s.objects import names
from k8s.objects.fields import JsonObject, MalformedObjectError, child, objects, text, texts
from k8s.objects.namespaces import Namespace
from ringfence.policy.problems import shown

_MIRROR: Final = "kubernetes.io/config.mirror"
_OWN_CONTAINERS: Final = frozenset({names.REDIRECT_CONTAINER, names.SIDECAR_CONTAINER})
_OWN_VOLUMES: Final = frozenset({names.STATE_VOLUME, names.TOKEN_VOLUME, names.TRUST_VOLUME})
_CHOICES: Final = (names.ENABLED, names.DISABLED)
_LEFT: Final = (
    f"label {names.REVISION}: the pod is left to revision {{revision}}, and cannot be made if there is none "
    "(name one that there is)"
)
_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_KEPT: Final = ("resizePolicy",)
"""What the API server says of a container of ours by itself."""
_CONTAINERS_LIMIT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Untouched:
    """The pod stays as it is; ``reason``: why; ``by_namespace``: because of what is known of its namespace;
    ``warnings``: what may surprise whoever made it."""

    reason: str
    by_namespace: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The pod must not be made; ``message``: one line with the mend."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """The pod with its sidecar. Nothing of the pod that was given has changed."""

    pod: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())


Outcome = Untouched | Refused | Injected


def inject(
    pod: JsonObject, namespace: Namespace, settings: InjectSettings, word: str, *, asked: bool = False, lot: str = ""
) -> Outcome:
    """What becomes of ``pod``. ``word``: one that nobody guesses, made for this pod alone; ``lot``: from what the
    sidecar's user and group are drawn, where that is not the word; ``asked``: somebody asked for this very pod, so that
    only its own label can say no."""
    try:
        stays = _stays(pod, namespace, settings, asked)
        return _inject(pod, namespace, settings, word, lot or word) if stays is None else stays
    except (MalformedObjectError, WishError, ProbeError) as error:
        return Refused(message=str(error))


def _inject(pod: JsonObject, namespace: Namespace, settings: InjectSettings, word: str, lot: str) -> Outcome:
    metadata = child(pod, "metadata")
    labels = texts(metadata, "labels", "metadata")
    annotations = texts(metadata, "annotations", "metadata")
    before = _Before.read(pod, annotations, settings)
    spec = before.spec
    account = account_of(spec, before.sidecar, lot, settings.sidecar_uid)
    reason = refusal(spec, account)
    if reason is not None:
        return Refused(message=reason)
    wishes = read_wishes(annotations, namespace.annotations, settings, _shared(spec))
    rewriting = Rewriting(word=word, known=before.answers)
    rewritten = {
        key: [rewrite(dict(one), path, rewriting) for path, one in objects(spec, key, "spec")]
        for key in ("initContainers", "containers")
    }
    ours = [] if settings.cni else [_kept(_bare(before.redirect), parts.redirect(settings, wishes, account))]
    ours.append(_kept(before.sidecar, parts.sidecar(settings, wishes, account, rewriting.setting())))
    changed: dict[str, Any] = {
        **spec,
        "initContainers": [*ours, *rewritten["initContainers"]],
        "containers": rewritten["containers"],
        "volumes": [*parts.volumes(), *(dict(one) for _, one in objects(spec, "volumes", "spec"))],
    }
    secrets = _pull_secrets(spec, settings)
    if secrets:
        changed["imagePullSecrets"] = secrets
    said = {
        **metadata,
        "labels": {**labels, names.INJECTED: names.TRUE},
        "annotations": {**annotations, names.STATUS: parts.status(settings, wishes)},
    }
    return Injected(pod={**pod, "metadata": said, "spec": changed}, warnings=(*warnings(spec), *rewriting.warnings[:8]))


def _stays(pod: JsonObject, namespace: Namespace, settings: InjectSettings, asked: bool) -> Untouched | Refused | None:
    """Why the pod is not this injector's affair; None if it is."""
    metadata = child(pod, "metadata")
    labels = texts(metadata, "labels", "metadata")
    annotations = texts(metadata, "annotations", "metadata")
    if namespace.name in names.NEVER_MESHED or namespace.name == settings.system_namespace:
        return Untouched(reason=f"pods of {namespace.name} are never in the mesh")
    if _MIRROR in annotations:
        return Untouched(reason="a pod of the node's own files cannot be changed here")
    own = labels.get(names.INJECT)
    whole = namespace.labels.get(names.INJECT)
    for what, given in (("label", own), ("label of the namespace", whole)):
        if given is not None and given not in _CHOICES:
            mend = f"use {' or '.join(_CHOICES)}"
            return Refused(message=f"{what} {names.INJECT}: {shown(given)} is unknown ({mend})")
    if own == names.DISABLED:
        return Untouched(reason="its label says so")
    if own is None and whole != names.ENABLED and not asked:
        return Untouched(reason="neither it nor its namespace is labelled for the mesh", by_namespace=True)
    revision = labels.get(names.REVISION, namespace.labels.get(names.REVISION, ""))
    if revision != settings.revision and not (revision == "" and settings.default):
        return Untouched(
            reason=f"it is of revision {shown(revision)}",
            by_namespace=names.REVISION not in labels,
            warnings=(_LEFT.format(revision=shown(revision)),) if names.REVISION in labels else (),
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """The pod without what an injector put there, and what that was."""

    spec: JsonObject
    answers: Mapping[str, Any]
    redirect: JsonObject | None
    sidecar: JsonObject | None

    @classmethod
    def read(cls, pod: JsonObject, annotations: Mapping[str, str], settings: InjectSettings) -> _Before:
        """Containers with our names are ours only where the pod says that it was injected; else a refusal will say
        that they bear the wrong names."""
        spec = child(pod, "spec")
        for key in ("initContainers", "containers"):
            count = sum(1 for _ in objects(spec, key, "spec"))
            if count > _CONTAINERS_LIMIT:
                raise MalformedObjectError(f"spec.{key}: {count} are too many (at most {_CONTAINERS_LIMIT})")
        if names.STATUS not in annotations:
            return cls(spec=spec, answers={}, redirect=None, sidecar=None)
        found = {text(one, "name", path): one for path, one in objects(spec, "initContainers", "spec")}
        sidecar = found.get(names.SIDECAR_CONTAINER)
        stripped = {
            **spec,
            "initContainers": [
                one
                for path, one in objects(spec, "initContainers", "spec")
                if text(one, "name", path) not in _OWN_CONTAINERS
            ],
            "volumes": [
                one for path, one in objects(spec, "volumes", "spec") if text(one, "name", path) not in _OWN_VOLUMES
            ],
        }
        same = _version(annotations[names.STATUS]) == settings.version
        return cls(
            spec=stripped,
            answers=answers_of(_variable(sidecar, parts.PROBES)) if sidecar is not None else {},
            redirect=found.get(names.REDIRECT_CONTAINER) if same else None,
            sidecar=sidecar if same else None,
        )


def _kept(before: JsonObject | None, now: dict[str, Any]) -> dict[str, Any]:
    """The container as it must be, with what others put into it."""
    if before is None:
        return now
    path = f"container {now['name']}"
    mounted = {one["mountPath"] for one in now.get("volumeMounts", ())}
    mounts = [
        dict(one)
        for where, one in objects(before, "volumeMounts", path)
        if text(one, "mountPath", where) not in mounted and text(one, "name", where) not in _OWN_VOLUMES
    ]
    variables = [
        dict(one)
        for where, one in objects(before, "env", path)
        if text(one, "name", where) and not text(one, "name", where).startswith(parts.OWN_VARIABLES)
    ]
    # Nothing else of it, such as a command: it runs with what no container of the pod's own may have.
    kept = {**{key: before[key] for key in _KEPT if key in before}, **now}
    for key, more in (("volumeMounts", mounts), ("env", variables)):
        held = [*now.get(key, ()), *more]
        if held:
            kept[key] = held
        else:
            kept.pop(key, None)
    return kept


def _bare(redirect: JsonObject | None) -> JsonObject | None:
    """Without what would have it run somebody else's code (a mount over ours, PYTHONPATH, LD_PRELOAD) with what no
    container of the pod's own may have."""
    if redirect is None:
        return None
    mounts = [one for where, one in objects(redirect, "volumeMounts") if text(one, "mountPath", where) == _ACCOUNT]
    return {**redirect, "env": [], "volumeMounts": mounts}


def _variable(container: JsonObject, name: str) -> str:
    return next(
        (text(one, "value", path) for path, one in objects(container, "env") if text(one, "name", path) == name), ""
    )


def _version(status: str) -> object:
    try:
        said = json.loads(status)
    except (ValueError, RecursionError):
        return None
    return said.get("version") if isinstance(said, dict) else None


def _shared(spec: JsonObject) -> frozenset[str]:
    """The resources that the pod asks for as a whole."""
    asked = child(spec, "resources", "spec")
    return frozenset(name for key in ("requests", "limits") for name in child(asked, key, "spec.resources"))


def _pull_secrets(spec: JsonObject, settings: InjectSettings) -> list[dict[str, Any]]:
    present = [dict(one) for _, one in objects(spec, "imagePullSecrets", "spec")]
    have = {one.get("name") for one in present}
    return [*present, *({"name": name} for name in settings.image_pull_secrets if name not in have)]
