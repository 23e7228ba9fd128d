"""What a pod declares of its probes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PROBES_LIMIT: Final = 128
"""Of a pod: 30 containers with each kind of probe and hook are 150, of which none is known."""

PATH_PREFIX: Final = "/app-health/"

HOOKS: Final = ("poststart", "prestop")
KINDS: Final = ("startup", "liveness", "readiness", *HOOKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """``httpGet``: a GET whose answer has a status from 200 to 399; ``tls`` verifies nothing, as the kubelet does.

    ``target`` begins with a slash. ``headers`` as declared, in their order.
    """

    port: int
    target: str = "/"
    tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe:
    """``tcpSocket``: somebody takes the connection."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcProbe:
    """``grpc``: grpc.health.v1 says that ``service`` serves; empty for the server as such."""

    port: int
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of one container, or a hook of its life that is a request. ``word``: of a hook, without which nobody
    has the app do what it does then; empty for a probe, which asks and does nothing."""

    container: str
    kind: str
    does: HttpProbe | TcpProbe | GrpcProbe
    timeout_seconds: float
    word: str = field(default="", repr=False)

    @property
    def path(self) -> str:
        """Where it is answered."""
        path = f"{PATH_PREFIX}{self.container}/{self.kind}"
        return f"{path}/{self.word}" if self.word else path

    @property
    def is_hook(self) -> bool:
        """Whether any answer is success: of a hook the kubelet minds only that there is one."""
        return self.kind in HOOKS
