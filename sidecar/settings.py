"""The settings of one sidecar process: what they are, and ``load``, which reads them all and tells every error at once.

Settings come as text from a document, the environment and flags (``sidecar/settings_sources.py``); here they become
types. Live policy is no setting: the control plane sends it. Nothing here is secret: a join token is given by file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from ringfence.spiffe import RESERVED_NAMESPACE, SpiffeId

T = TypeVar("T")

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,62})(?:\.[a-zA-Z0-9][a-zA-Z0-9_-]{0,62})*")
_DURATION: Final = re.compile(r"([0-9]{1,7})(ms|s|m|h)")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# sun_path holds 108 bytes with its closing NUL.
_SOCKET_PATH_LIMIT_BYTES: Final = 107


class AccessLog(StrEnum):
    """Which requests get a log line of their own; errors and ended connections always do."""

    DENIED = "denied"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or address literal, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """By what the control plane is known at the first contact; exactly one is set."""

    root_fingerprint: str | None
    """SHA-256 of the root certificate's DER, 64 lower-case hex digits, as ``ringfence ca init`` prints it."""

    bundle_file: Path | None
    """PEM file of root certificates; for machines that get files more easily than settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Who this sidecar is, and where and how it proves it."""

    spiffe_id: SpiffeId
    """The only identity it accepts from the CA; anything else issued to it is refused."""

    join: HostPort
    """Where join tokens and host keys are shown (server TLS)."""

    renew: HostPort
    """Where an SVID is renewed (mutual TLS); the control address."""

    trust: TrustSettings

    state_dir: Path
    """Folder of this sidecar alone, mode 0700, for the host key and the last good snapshot."""

    join_token_file: Path | None
    """File with a one-time join token, read only when there is no enrolled host key; never on the command line, where
    every process of the machine could read it."""

    lifetime_seconds: int
    """Lifetime to ask for; 0 leaves it to the CA, which also bounds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Where snapshots come from."""

    address: HostPort
    """The control plane's mutual-TLS address."""

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

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """All of them."""

    identity: IdentitySettings
    control: ControlSettings
    signals: SignalsSettings
    log: LogSettings

    drain_seconds: float
    """How long open connections may finish after SIGTERM before they are closed; keep it below the supervisor's own
    patience (Kubernetes: 30 s) or the drain is cut short by a kill."""

    def redacted(self) -> dict[str, object]:
        """The effective settings as plain values, to print or to serve; file names stand in for what files hold."""
        identity, trust = self.identity, self.identity.trust
        return {
            "spiffe_id": str(identity.spiffe_id),
            "join": str(identity.join),
            "control": str(self.control.address),
            "root_fingerprint": trust.root_fingerprint,
            "bundle": _shown(trust.bundle_file),
            "join_token_file": _shown(identity.join_token_file),
            "state": str(identity.state_dir),
            "lifetime_seconds": identity.lifetime_seconds,
            "signals": _shown(self.signals.listen),
            "admin_socket": str(self.signals.admin_socket),
            "access_log": str(self.log.access_log),
            "log_level": self.log.level,
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
    spiffe_id = reader.required("spiffe-id", _workload_id)
    join = reader.required("join", parse_host_port)
    control = reader.required("control", parse_host_port)
    trust = reader.trust()
    state = reader.path("state", required=True)
    lifetime = reader.optional("lifetime", _lifetime, 0)
    token_file = reader.path("join-token-file")
    listen: HostPort | None = reader.optional("signals", parse_host_port, None)
    admin_socket = reader.socket_path(state)
    access_log = reader.optional("access-log", _choice(AccessLog), AccessLog.DENIED)
    level = reader.optional("log-level", _level, "info")
    drain = reader.optional("drain", parse_duration, 10.0)
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
            lifetime_seconds=lifetime,
        ),
        control=ControlSettings(address=control, state_dir=state),
        signals=SignalsSettings(listen=listen, admin_socket=admin_socket),
        log=LogSettings(access_log=access_log, level=level),
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
        found = self.required(key, _path_text) if required else self.optional(key, _path_text, None)
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


def parse_host_port(text: str) -> HostPort:
    """``host:port`` or ``[v6 address]:port``; ValueError else."""
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not separator or not host or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError(f"not a host and port: {text[:80]!r} (such as 127.0.0.1:7401 or [::1]:7401)")
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"port out of range: {number} (1 to 65535)")
    if bracketed != (":" in host) or not (_is_address(host) if bracketed else _is_host(host)):
        raise ValueError(f"not a host: {host[:80]!r} (a name, an IPv4 address, or an IPv6 address in brackets)")
    return HostPort(host=host, port=number)


def parse_fingerprint(text: str) -> str:
    """64 hex digits, also in upper case, with colons or a ``sha256:`` before them; lower-case hex; ValueError else."""
    plain = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if _FINGERPRINT.fullmatch(plain) is None:
        raise ValueError(f"not a SHA-256 fingerprint: {text.strip()[:80]!r} (64 hex digits)")
    return plain


def parse_duration(text: str) -> float:
    """A number with a unit, ``500ms``, ``10s``, ``5m`` or ``1h``, as seconds; ValueError else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text[:80]!r} (such as 10s, 5m or 1h)")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _lifetime(text: str) -> int:
    seconds = parse_duration(text)
    if seconds < 1 or seconds != int(seconds) or seconds > 0xFFFFFFFF:
        raise ValueError(f"not a lifetime: {text[:80]!r} (whole seconds, at least 1s)")
    return int(seconds)


def _workload_id(text: str) -> SpiffeId:
    spiffe_id = SpiffeId.parse(text)
    if spiffe_id.namespace is None:
        raise ValueError(
            f"not a workload's SPIFFE ID: {text[:80]!r} (spiffe://<trust domain>/ns/<namespace>/sa/<name>)"
        )
    if spiffe_id.namespace == RESERVED_NAMESPACE:
        raise ValueError(f"the namespace {RESERVED_NAMESPACE} is reserved for the control plane (use another)")
    return spiffe_id


def _path_text(text: str) -> str | None:
    if not text or "\0" in text:
        raise ValueError(f"not a path: {text[:80]!r}")
    return text


def _choice(kind: type[AccessLog]) -> Callable[[str], AccessLog]:
    def parse(text: str) -> AccessLog:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"unknown value: {text[:80]!r} (one of {', '.join(kind)})") from None

    return parse


def _level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text not in levels:
        raise ValueError(f"unknown value: {text[:80]!r} (one of {', '.join(levels)})")
    return text


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_host(host: str) -> bool:
    # All digits and dots must be a full IPv4 address: resolvers read 127.1 and 2130706433 as addresses, too.
    if host.replace(".", "").isdigit():
        return _is_address(host)
    return _HOST_NAME.fullmatch(host) is not None


def _shown(value: object) -> str | None:
    return None if value is None else str(value)
