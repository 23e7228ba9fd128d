"""How this cluster's pods are injected: what the chart chose, the same for every pod. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from k8s.inject import values
from k8s.objects import names
from ringfence import __version__
from ringfence.kit.labels import LABEL_MEND, is_label
from ringfence.policy.problems import choose_from, shown
from ringfence.spiffe import TrustDomain

_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_HOST: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_HIGHEST_ID: Final = 2**31 - 1
_OPTION_LIMIT_CHARACTERS: Final = 65_536


class InjectSettingsError(ValueError):
    """A setting of the injector is wrong; the text is one line with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Of the sidecar, as Kubernetes writes quantities; empty: none is said."""

    cpu_request: str = "20m"
    cpu_limit: str = ""
    memory_request: str = "64Mi"
    memory_limit: str = "512Mi"


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectSettings:
    """What the injector is told once. Raises InjectSettingsError."""

    trust_domain: str
    """The mesh's, as it stands in every SPIFFE ID."""

    image: str
    """The one image, for sidecar and redirect."""

    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the pod's own namespace that are added to its list."""

    version: str = __version__
    revision: str = ""
    """The revision of the control plane that this injector belongs to; empty: it bears no name."""

    default: bool = True
    """Whether pods that name no revision are this injector's."""

    system_namespace: str = names.SYSTEM_NAMESPACE
    control_host: str = ""
    """DNS name of the control plane; empty: its Service in the system namespace."""

    cni: bool = False
    """Whether the node's CNI plugin puts the redirect in place, so that no container needs a capability."""

    sidecar_uid: int = 0
    """User and group of every pod's sidecar; 0: drawn for each pod."""

    signals_host: str = "0.0.0.0"
    """Where the sidecar serves its signals; ``[::]`` in a cluster of IPv6 or of both."""

    log_level: str = "info"
    access_log: str = "denied"
    drain: str = "10s"
    resources: Resources = field(default_factory=Resources)
    exclude_outbound_cidrs: tuple[str, ...] = ()
    """Destinations of every pod that go past the sidecar; none by default."""

    def __post_init__(self) -> None:
        try:
            _check(self)
        except ValueError as error:
            raise InjectSettingsError(f"injector: {error}") from error

    @property
    def host(self) -> str:
        """Where the sidecar finds the control plane."""
        return self.control_host or f"{names.CONTROL_SERVICE}.{self.system_namespace}.svc"


def _check(settings: InjectSettings) -> None:
    """Raises ValueError."""
    TrustDomain(settings.trust_domain)
    values.image(settings.image)
    values.choice(settings.image_pull_policy, _PULL_POLICIES)
    values.choice(settings.log_level, values.LOG_LEVELS)
    values.choice(settings.access_log, values.ACCESS_LOGS)
    values.duration(settings.drain)
    values.networks(",".join(settings.exclude_outbound_cidrs))
    given = settings.resources
    values.resources(
        cpu=(values.cpu(given.cpu_request), values.cpu(given.cpu_limit)),
        memory=(values.memory(given.memory_request), values.memory(given.memory_limit)),
    )
    for name in (settings.system_namespace, *((settings.revision,) if settings.revision else ())):
        if not is_label(name):
            raise ValueError(f"not a name: {shown(name)} ({LABEL_MEND})")
    for name in (*settings.image_pull_secrets, *((settings.control_host,) if settings.control_host else ())):
        if _HOST.fullmatch(name) is None:
            raise ValueError(f"not a DNS name: {shown(name)} (use lower-case letters, digits, hyphens and dots)")
    if not 0 <= settings.sidecar_uid <= _HIGHEST_ID:
        raise ValueError(f"user {settings.sidecar_uid} cannot be the sidecar's (1 to {_HIGHEST_ID}, or 0: drawn)")
    if settings.signals_host not in ("0.0.0.0", "[::]"):
        raise ValueError(f"signals at {shown(settings.signals_host)} (use 0.0.0.0 or [::])")


def read_settings(text: str) -> InjectSettings:
    """From one JSON object whose keys are the names of the fields. Raises InjectSettingsError."""
    if len(text) > _OPTION_LIMIT_CHARACTERS:
        raise InjectSettingsError(f"injector: settings of {len(text)} characters (at most {_OPTION_LIMIT_CHARACTERS})")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InjectSettingsError(f"injector: settings are no JSON: {error} (give one object)") from error
    given: dict[str, Any] = _known(document, InjectSettings, "settings")
    if "resources" in given:
        resources = _known(given["resources"], Resources, "resources")
        given["resources"] = Resources(**{key: _typed(key, value) for key, value in resources.items()})
    given = {key: _typed(key, value) for key, value in given.items()}
    for key in ("trust_domain", "image"):
        if key not in given:
            raise InjectSettingsError(f"injector: {key} is missing (give it in the settings)")
    return InjectSettings(**given)


def _typed(key: str, value: object) -> Any:
    if isinstance(value, Resources):
        return value
    if key in ("image_pull_secrets", "exclude_outbound_cidrs"):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InjectSettingsError(f"injector: {key} is no list of texts (write it so)")
        return tuple(value)
    wanted: type = bool if key in ("default", "cni") else int if key == "sidecar_uid" else str
    if type(value) is not wanted:
        raise InjectSettingsError(f"injector: {key} is no {wanted.__name__} (write it so)")
    return value


def _known(document: object, of: type, what: str) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise InjectSettingsError(f"injector: {what} are no object (give one)")
    known = [one.name for one in fields(of)]
    for key in document:
        if key not in known:
            raise InjectSettingsError(f"injector: unknown setting {shown(str(key))} ({choose_from(str(key), known)})")
    return dict(document)
