"""The settings of one sidecar process: what they are, and ``load``, which reads them all and tells every error at once.

Settings come as text from a document, the environment and flags (``sidecar/settings_sources.py``); here they become
types. Live policy is no setting: the control plane sends it. Nothing here is secret: a join token is given by file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ringfence.spiffe import SpiffeId
from sidecar.pod import PodSettings
from sidecar.probes.model import Probe
from sidecar.settings_values import (
    AccessLog,
    HostPort,
    parse_access_log,
    parse_duration,
    parse_evidence_kind,
    parse_fingerprint,
    parse_flag,
    parse_host_port,
    parse_instance,
    parse_level,
    parse_lifetime,
    parse_path,
    parse_pod_addresses,
    parse_share,
    parse_workers,
    parse_workload_id,
)
from sidecar.tracing.settings import DEFAULT_SAMPLE, TracingSettings, parse_endpoint

__all__ = [
    "AccessLog",
    "ControlSettings",
    "EvidenceSettings",
    "Given",
    "HostPort",
    "IdentitySettings",
    "LogSettings",
    "PodSettings",
    "SettingsError",
    "SidecarSettings",
    "SignalsSettings",
    "TracingSettings",
    "TrustSettings",
    "load",
    "parse_duration",
    "parse_fingerprint",
    "parse_host_port",
]

T = TypeVar("T")

# sun_path holds 108 bytes with its closing NUL.
_SOCKET_PATH_LIMIT_BYTES: Final = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """By what the control plane is known at the first contact; exactly one is set."""

    root_fingerprint: str | None
    """SHA-256 of the root certificate's DER, 64 lower-case hex digits, as ``ringfence ca init`` prints it."""

    bundle_file: Path | None
    """PEM file of root certificates; for machines that get files more easily than settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """What the platform that runs this workload gives it, to prove itself by where no host key is enrolled."""

    kind: str
    """How the control plane is to read it, such as ``kubernetes``."""

    file: Path
    """Read anew at each attempt, as the platform puts newer evidence there before the old one ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Who this sidecar is, and where and how it proves it."""

    spiffe_id: SpiffeId
    """The only identity it accepts from the CA; anything else issued to it is refused."""

    join: HostPort
    """Where join tokens, evidence and host keys are shown (server TLS)."""

    renew: HostPort
    """Where an SVID is renewed (mutual TLS); the control address."""

    trust: TrustSettings

    state_dir: Path
    """Folder of this sidecar alone, mode 0700, for the host key and the last good snapshot."""

    join_token_file: Path | None
    """File with a one-time join token, read only when there is no enrolled host key; never on the command line, where
    every process of the machine could read it."""

    evidence: EvidenceSettings | None = None
    """None: this workload's platform gives it no evidence."""

    lifetime_seconds: int
    """Lifetime to ask for; 0 leaves it to the CA, which also bounds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Where snapshots come from."""

    address: HostPort
    """The control plane's mutual-TLS address."""

    instance: str
    """Which of the service's instances it stands beside; empty where the service lists none."""

    state_dir: Path
    """Where the last good snapshot is kept, for a start while the control plane is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsSettings:
    """What the sidecar shows of itself, and to whom."""

    listen: HostPort | None
    """Where /healthz, /readyz and /metrics are served in plain HTTP to anybody; None: nowhere."""

    admin_socket: Path
    """Unix socket for all that tells more; mode 0600, since in a pod loopback is shared with the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard error, as JSON lines."""

    access_log: AccessLog

    access_log_sample: float
    """Of the requests that ``access_log: all`` asks for, this share (0 to 1); denials and errors are always logged."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """All of them."""

    identity: IdentitySettings
    control: ControlSettings
    signals: SignalsSettings
    pod: PodSettings
    log: LogSettings

    tracing: TracingSettings | None
    """None: requests have no spans."""

    workers: int
    """How many processes carry the traffic, up to the machine's cores; 1: this one does, and there is no other."""

    drain_seconds: float
    """How long open connections may finish after SIGTERM before they are closed; keep it below the supervisor's own
    patience (Kubernetes: 30 s) or the drain is cut short by a kill."""

    def redacted(self) -> dict[str, object]:
        """The effective settings as plain values, to print or to serve; file names stand in for what files hold."""
        identity, trust = self.identity, self.identity.trust
        return {
            "spiffe_id": str(identity.spiffe_id),
            "instance": self.control.instance or None,
            "join": str(identity.join),
            "control": str(self.control.address),
            "root_fingerprint": trust.root_fingerprint,
            "bundle": _shown(trust.bundle_file),
            "join_token_file": _shown(identity.join_token_file),
            "evidence_kind": None if identity.evidence is None else identity.evidence.kind,
            "evidence_file": None if identity.evidence is None else str(identity.evidence.file),
            "state": str(identity.state_dir),
            "lifetime_seconds": identity.lifetime_seconds,
            "signals": _shown(self.signals.listen),
            "pod_addresses": list(self.pod.addresses),
            "expect_redirect": self.pod.expect_redirect,
            "probes": [f"{probe.container}/{probe.kind}" for probe in self.pod.probes],
            "admin_socket": str(self.signals.admin_socket),
            "access_log": str(self.log.access_log),
            "access_log_sample": self.log.access_log_sample,
            "log_level": self.log.level,
            "tracing": None
            if self.tracing is None
            else {
                "endpoint": self.tracing.endpoint,
                "sample": self.tracing.sample,
                "headers_file": _shown(self.tracing.headers_file),
            },
            "workers": self.workers,
            "drain_seconds": self.drain_seconds,
        }


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as somebody wrote it. ``origin`` names the place: ``file:line:column``, ``--flag`` or ``$VARIABLE``;
    relative paths start at ``folder``."""

    text: str
    origin: str
    folder: Path = Path()


class SettingsError(ValueError):
    """Some settings are missing or wrong; ``problems`` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load(*sources: Mapping[str, Given]) -> SidecarSettings:
    """Settings from ``sources``, a later one over an earlier one; keys as in ``settings_sources.SETTINGS``.

    Raises SettingsError with every problem of every setting.
    """
    reader = _Reader({key: given for source in sources for key, given in source.items()})
    spiffe_id = reader.required("spiffe-id", parse_workload_id)
    instance = reader.optional("instance", parse_instance, "")
    join = reader.required("join", parse_host_port)
    control = reader.required("control", parse_host_port)
    trust = reader.trust()
    state = reader.path("state", required=True)
    lifetime = reader.optional("lifetime", parse_lifetime, 0)
    token_file = reader.path("join-token-file")
    evidence = reader.evidence()
    listen: HostPort | None = reader.optional("signals", parse_host_port, None)
    admin_socket = reader.socket_path(state)
    access_log = reader.optional("access-log", parse_access_log, AccessLog.DENIED)
    sample = reader.access_log_sample(access_log)
    level = reader.optional("log-level", parse_level, "info")
    workers = reader.optional("workers", parse_workers, 1)
    pod = reader.pod(listen, workers)
    drain = reader.optional("drain", parse_duration, 10.0)
    tracing = reader.tracing()
    if reader.problems or spiffe_id is None or join is None or control is None or trust is None or state is None:
        raise SettingsError(reader.problems)
    return SidecarSettings(
        identity=IdentitySettings(
            spiffe_id=spiffe_id,
            join=join,
            renew=control,
            trust=trust,
            state_dir=state,
            join_token_file=token_file,
            evidence=evidence,
            lifetime_seconds=lifetime,
        ),
        control=ControlSettings(address=control, instance=instance, state_dir=state),
        signals=SignalsSettings(listen=listen, admin_socket=admin_socket),
        pod=pod,
        tracing=tracing,
        log=LogSettings(access_log=access_log, access_log_sample=sample, level=level),
        workers=workers,
        drain_seconds=drain,
    )


class _Reader:
    """Reads one setting after the other and keeps every complaint."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given = given
        self.problems: list[str] = []

    def required(self, key: str, parse: Callable[[str], T]) -> T | None:
        if key not in self._given:
            self.problems.append(f"--{key}: missing (give the flag, or the field in --config)")
            return None
        return self.optional(key, parse, None)

    def optional(self, key: str, parse: Callable[[str], T], default: T) -> T:
        given = self._given.get(key)
        if given is None:
            return default
        try:
            return parse(given.text)
        except ValueError as error:
            self.problems.append(f"{given.origin}: {error}")
            return default

    def path(self, key: str, *, required: bool = False) -> Path | None:
        found = self.required(key, parse_path) if required else self.optional(key, parse_path, None)
        return None if found is None else (self._given[key].folder / found).absolute()

    def trust(self) -> TrustSettings | None:
        fingerprint = self.optional("root-fingerprint", parse_fingerprint, None)
        bundle = self.path("bundle")
        both = [self._given[key].origin for key in ("root-fingerprint", "bundle") if key in self._given]
        if len(both) == 2:
            self.problems.append(f"{both[0]}: a fingerprint and a bundle are both given, also by {both[1]} (keep one)")
            return None
        if not both:
            self.problems.append(
                "--root-fingerprint: missing (give the fingerprint that `ringfence ca init` printed, or --bundle FILE)"
            )
            return None
        return TrustSettings(root_fingerprint=fingerprint, bundle_file=bundle)

    def pod(self, listen: HostPort | None, workers: int) -> PodSettings:
        addresses: tuple[str, ...] = self.optional("pod-address", parse_pod_addresses, ())
        expect_redirect = self.optional("expect-redirect", parse_flag, False)
        given = self._given.get("probes")
        probes: tuple[Probe, ...] = ()
        if given is not None:
            from sidecar.probes.reading import ProbesError, read_probes  # only a pod has any

            try:
                probes = read_probes(given.text)
            except ProbesError as error:
                self.problems.extend(f"{given.origin}: {problem}" for problem in error.problems)
            if listen is None and "signals" not in self._given:
                self.problems.append(f"{given.origin}: probes are answered nowhere (give --signals)")
        if expect_redirect and workers > 1:
            self.problems.append(f"{self._given['expect-redirect'].origin}: one process tries it (leave workers at 1)")
        return PodSettings(addresses=addresses, probes=probes, expect_redirect=expect_redirect)

    def evidence(self) -> EvidenceSettings | None:
        kind = self.optional("evidence-kind", parse_evidence_kind, None)
        file = self.path("evidence-file")
        given = [key for key in ("evidence-kind", "evidence-file") if key in self._given]
        if len(given) == 1:
            missing = "kind" if given == ["evidence-file"] else "file"
            origin = self._given[given[0]].origin
            self.problems.append(f"{origin}: evidence without its {missing} (give --evidence-{missing}, too)")
        return None if kind is None or file is None else EvidenceSettings(kind=kind, file=file)

    def access_log_sample(self, access_log: AccessLog) -> float:
        if "access-log-sample" in self._given and access_log is not AccessLog.ALL:
            origin = self._given["access-log-sample"].origin
            self.problems.append(f"{origin}: a sample of requests that are not logged (set the access log to all)")
        return self.optional("access-log-sample", parse_share, 1.0)

    def tracing(self) -> TracingSettings | None:
        endpoint = self.optional("tracing-endpoint", parse_endpoint, None)
        sample = self.optional("tracing-sample", parse_share, DEFAULT_SAMPLE)
        headers = self.path("tracing-headers-file")
        if "tracing-endpoint" not in self._given:
            for key in ("tracing-sample", "tracing-headers-file"):
                if key in self._given:
                    self.problems.append(
                        f"{self._given[key].origin}: no spans go anywhere (give a tracing endpoint, too)"
                    )
            return None
        return None if endpoint is None else TracingSettings(endpoint=endpoint, sample=sample, headers_file=headers)

    def socket_path(self, state: Path | None) -> Path:
        given = self._given.get("admin-socket")
        path = self.path("admin-socket") or (state or Path("/")) / "run" / "admin.sock"
        length = len(str(path).encode())
        if length > _SOCKET_PATH_LIMIT_BYTES:
            origin = given.origin if given is not None else "--admin-socket"
            self.problems.append(
                f"{origin}: {path} has {length} bytes, and a Unix socket's path may have {_SOCKET_PATH_LIMIT_BYTES} "
                "(give a shorter --admin-socket)"
            )
        return path


def _shown(value: object) -> str | None:
    return None if value is None else str(value)
