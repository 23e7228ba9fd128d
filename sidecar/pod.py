"""What only a sidecar in a pod is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.probes.model import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """Empty where there is no pod."""

    addresses: tuple[str, ...] = ()
    """The pod's own, the primary one first: there the kubelet would probe the app, and callers may mean it by any."""

    probes: tuple[Probe, ...] = ()
    """What the pod declares; answered on the signals listener, as the kubelet has no identity."""

    resolvers: tuple[str, ...] = ()
    """Name servers that the pod is told; not given, but found when the sidecar starts."""

    expect_redirect: bool = False
    """Not ready before it was tried that the kernel leads the app's connections here."""
