"""Answers for pods: the patch that puts a sidecar into one, or why there is none."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from k8s.admission.review import ALLOWED, AdmissionRequest, Answer
from k8s.inject.injection import Injected, Outcome, Refused, Untouched, inject
from k8s.inject.patching import difference
from k8s.inject.settings import InjectSettings
from k8s.objects.fields import MalformedObjectError, child, text
from k8s.objects.namespaces import Namespace
from k8s.objects.pods import Owner, read_owner
from ringfence.policy.problems import shown

_POD: Final = ("", "v1", "Pod")


class FindNamespace(Protocol):
    """A namespace by its name, also one that was made a moment ago; None if there is none. ``fresh``: as the API server
    has it now, and not as a watch had it last. May raise OSError."""

    def __call__(self, name: str, *, fresh: bool) -> Awaitable[Namespace | None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A pod that was not let in, to be told where its owner looks. ``owner``: None if somebody made it directly."""

    namespace: str
    pod: str
    owner: Owner | None
    message: str


class Injector:
    """The judge of pods that are about to be made. ``denied`` is called for each that was refused, but for a trial
    run, which must leave no trace."""

    def __init__(
        self, settings: InjectSettings, find_namespace: FindNamespace, denied: Callable[[Denial], object]
    ) -> None:
        self._settings = settings
        self._find_namespace = find_namespace
        self._denied = denied

    async def judge(self, request: AdmissionRequest) -> Answer:
        """Allowed untouched for whatever is no new pod."""
        if request.kind != _POD or request.subresource or request.operation != "CREATE":
            return ALLOWED
        if not request.content:
            return Answer(allowed=False, code=400, message="request.object: no pod (send it)")
        outcome = await self._outcome(request, fresh=False)
        if isinstance(outcome, Untouched) and outcome.by_namespace:
            # The API server asks only for pods that are meant; so the label that says so may be younger than the watch.
            outcome = await self._outcome(request, fresh=True)
        if outcome is None:
            name = shown(request.namespace)
            return Answer(allowed=False, code=503, message=f"namespace {name} cannot be looked up now (try again)")
        if isinstance(outcome, Refused):
            if not request.dry_run:
                self._denied(_denial(request, outcome.message))
            return Answer(allowed=False, message=outcome.message)
        if isinstance(outcome, Injected):
            return Answer(allowed=True, patch=difference(request.content, outcome.pod), warnings=outcome.warnings)
        return Answer(allowed=True, warnings=outcome.warnings)

    async def _outcome(self, request: AdmissionRequest, *, fresh: bool) -> Outcome | None:
        """None while nobody can say what the namespace is."""
        try:
            namespace = await self._find_namespace(request.namespace, fresh=fresh)
        except OSError:
            return None
        return (
            None if namespace is None else inject(request.content, namespace, self._settings, secrets.token_urlsafe())
        )


def _denial(request: AdmissionRequest, message: str) -> Denial:
    """Whose pod it is, as far as it can be read."""
    try:
        metadata = child(request.content, "metadata")
        name = request.name or text(metadata, "name", "metadata") or text(metadata, "generateName", "metadata")
        owner = read_owner(metadata)
    except MalformedObjectError:
        name, owner = request.name, None
    return Denial(namespace=request.namespace, pod=name, owner=owner, message=message)
