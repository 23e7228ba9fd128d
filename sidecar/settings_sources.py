"""Where settings come from: the fields of a ``kind: Sidecar`` document, environment variables, flags. One table.

PyYAML is imported only when there is a document: a sidecar that is run by flags does not pay for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.settings import Given, SettingsError

if TYPE_CHECKING:
    from ringfence.policy.yamlnodes import ValueReader

API_VERSION: Final = "ringfence.io/v1alpha1"
KIND: Final = "Sidecar"
SHARE: Final = "SHARE"
COUNT: Final = "N"
FLAG: Final = "true|false"
_COUNT_MAXIMUM: Final = 2**31  # whether a setting may be so much is for its own reader to say
_ENVIRONMENT_PREFIX: Final = "RINGFENCE_SIDECAR_"
# What Kubernetes tells every pod of a Service named ringfence-sidecar…: nobody's mistake, and no setting.
_SERVICE_LINK: Final = re.compile(
    r"RINGFENCE_SIDECAR_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key, which is also its flag without ``--``; its field below ``spec``; what it is, in a line."""

    key: str
    field: tuple[str, ...]
    metavar: str
    text: str

    @property
    def variable(self) -> str:
        return _ENVIRONMENT_PREFIX + self.key.upper().replace("-", "_")


SETTINGS: Final = (
    Setting("spiffe-id", ("spiffeId",), "ID", "SPIFFE ID of the workload."),
    Setting("instance", ("instance",), "NAME", "Which of the service's instances  [default: it lists none]"),
    Setting("join", ("controlPlane", "join"), "HOST:PORT", "Control plane's join address."),
    Setting("control", ("controlPlane", "address"), "HOST:PORT", "Control plane's mutual-TLS address."),
    Setting("root-fingerprint", ("controlPlane", "rootFingerprint"), "HEX", "SHA-256 of the CA's root certificate."),
    Setting("bundle", ("controlPlane", "bundle"), "FILE", "CA's root certificates (PEM), instead of a fingerprint."),
    Setting("join-token-file", ("joinTokenFile",), "FILE", "One-time join token; read while no host key is enrolled."),
    Setting("evidence-kind", ("evidence", "kind"), "WORD", "What the platform's evidence is, such as kubernetes."),
    Setting("evidence-file", ("evidence", "file"), "FILE", "The platform's evidence; read while no host key serves."),
    Setting("state", ("state",), "DIR", "Folder of this sidecar alone, made with mode 0700."),
    Setting("lifetime", ("lifetime",), "DURATION", "Lifetime to ask for, such as 1h  [default: the CA's]"),
    Setting("signals", ("signals",), "HOST:PORT", "Where to serve /healthz, /readyz, /metrics  [default: nowhere]"),
    Setting("pod-address", ("podAddress",), "IP[,IP]", "Where the pod's probes meet its app  [default: 127.0.0.1]"),
    Setting("expect-redirect", ("expectRedirect",), FLAG, "Wait until the kernel leads the app here  [default: false]"),
    Setting("probes", ("probes",), "JSON", "The pod's probes, answered below /app-health/ of signals  [default: none]"),
    Setting("admin-socket", ("adminSocket",), "PATH", "Unix socket for the owner  [default: DIR/run/admin.sock]"),
    Setting("access-log", ("accessLog", "mode"), "denied|all", "Requests that get a log line  [default: denied]"),
    Setting("access-log-sample", ("accessLog", "sample"), SHARE, "Share of all that is logged  [default: 1]"),
    Setting("tracing-endpoint", ("tracing", "endpoint"), "URL", "Collector of spans, OTLP over HTTP  [default: none]"),
    Setting("tracing-sample", ("tracing", "sample"), SHARE, "Share of requests that begin a trace  [default: 0.01]"),
    Setting("tracing-headers-file", ("tracing", "headersFile"), "FILE", "Lines name: value for the collector"),
    Setting("log-level", ("logLevel",), "LEVEL", "debug, info, warning or error  [default: info]"),
    Setting("workers", ("workers",), COUNT, "Processes that share the traffic  [default: 1]"),
    Setting("drain", ("drain",), "DURATION", "Time for connections to finish after SIGTERM  [default: 10s]"),
)


def given_by_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Settings from ``RINGFENCE_SIDECAR_*``; raises SettingsError for a variable of that kind that is no setting."""
    known = {setting.variable: setting.key for setting in SETTINGS}
    strangers = sorted(
        name
        for name in environ
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in known and _SERVICE_LINK.fullmatch(name) is None
    )
    if strangers:
        raise SettingsError([f"${name}: no such setting (see ringfence sidecar --help)" for name in strangers])
    return {known[name]: Given(text, f"${name}") for name, text in environ.items() if name in known}


def given_by_flags(flags: Mapping[str, str | None]) -> dict[str, Given]:
    """Settings from the command line, by key; None: not given."""
    return {key: Given(text, f"--{key}") for key, text in flags.items() if text is not None}


def given_by_document(path: Path) -> dict[str, Given]:
    """Settings from a YAML file; relative paths in it start at its folder. Raises SettingsError with every problem."""
    from ringfence.policy.yamlnodes import MappingReader, Problem, load_yaml

    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError([f"--config: cannot read {path}: {(error.strerror or str(error)).lower()}"]) from error
    problems: list[Problem] = []
    documents = load_yaml(content, str(path), problems)
    given: dict[str, Given] = {}
    if len(documents) > 1:
        extra = documents[1]
        problems.append(Problem(str(path), extra.line, extra.column, "more than one document", "keep one"))
    elif documents:
        document = MappingReader(documents[0], str(path), problems)
        document.choice("apiVersion", [API_VERSION])
        document.choice("kind", [KIND])
        metadata = document.mapping("metadata", default=None)
        metadata.text("name", default="")
        metadata.finish()
        spec = document.mapping("spec")
        groups = {
            "controlPlane": spec.mapping("controlPlane", default=None),
            "accessLog": spec.mapping("accessLog", default=None, short="mode"),
            "evidence": spec.mapping("evidence", default=None),
            "tracing": spec.mapping("tracing", default=None),
        }
        for setting in SETTINGS:
            holder = groups[setting.field[0]] if len(setting.field) == 2 else spec
            value = holder.value(setting.field[-1], None)
            if value is not None:
                origin = f"{path}:{value.node.line}:{value.node.column}"
                given[setting.key] = Given(_text(setting, value), origin, path.parent)
        for mapping in (*groups.values(), spec, document):
            mapping.finish()
    elif not problems:
        problems.append(Problem(str(path), 1, 1, "no document", f"write one of kind {KIND}"))
    if problems:
        raise SettingsError([str(problem) for problem in sorted(problems)])
    return given


def _text(setting: Setting, value: ValueReader) -> str:
    """What a field holds, of its own type in the document."""
    if setting.metavar == SHARE:
        return f"{value.share():.9f}"
    if setting.metavar == FLAG:
        return str(value.boolean()).lower()
    return str(value.integer(0, _COUNT_MAXIMUM)) if setting.metavar == COUNT else value.text()
