"""The options of the platform, as the control plane's command line has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from k8s.inject.settings import InjectSettings, InjectSettingsError, read_settings
from ringfence.kit.addresses import AddressError, SocketAddress, parse_socket_address
from ringfence.policy.problems import choose_from, shown
from ringfence.spiffe import SpiffeIdError, TrustDomain

_WEBHOOK: Final = "0.0.0.0:9443"
_KNOWN: Final = (
    "context",
    "inject",
    "keys-file",
    "kubeconfig",
    "lease",
    "service",
    "trust-domain",
    "webhook-listen",
    "webhooks",
)


class OptionError(ValueError):
    """An option cannot be read; the text is one line with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformOptions:
    """``inject``: how pods are injected, and the mesh's own namespace; ``service``: of the control plane, in it;
    ``lease``: of which one control plane of all revisions holds; ``webhooks``: the name of its webhook configurations;
    ``keys_file``: where the cluster's keys are kept for when the API server is away, empty for nowhere; ``kubeconfig``
    and ``context``: for a control plane that runs outside the cluster."""

    trust_domain: TrustDomain
    inject: InjectSettings
    service: str = "ringfence"
    lease: str = "ringfence"
    webhooks: str = "ringfence"
    webhook_listen: SocketAddress
    kubeconfig: str = ""
    context: str = ""
    keys_file: str = ""

    @property
    def namespace(self) -> str:
        """The control plane's own."""
        return self.inject.system_namespace

    @property
    def dns_names(self) -> tuple[str, ...]:
        """By which the API server knows the webhook."""
        return (f"{self.service}.{self.namespace}.svc",)


def read_options(options: Mapping[str, str]) -> PlatformOptions:
    """Raises OptionError."""
    for name in options:
        if name not in _KNOWN:
            raise OptionError(f"unknown option {shown(name)} ({choose_from(name, _KNOWN)})")
    for name in ("inject", "trust-domain"):
        if not options.get(name):
            raise OptionError(f"option {name}: missing (give it; the chart does)")
    try:
        trust_domain = TrustDomain.parse(options["trust-domain"])
        inject = read_settings(options["inject"])
        listen = parse_socket_address(options.get("webhook-listen", _WEBHOOK))
    except (SpiffeIdError, InjectSettingsError, AddressError) as error:
        raise OptionError(str(error)) from error
    if inject.trust_domain != trust_domain.name:
        raise OptionError(
            f"option inject: trust_domain {shown(inject.trust_domain)} is not the mesh's {trust_domain} (make them one)"
        )
    return PlatformOptions(
        trust_domain=trust_domain,
        inject=inject,
        service=options.get("service", "ringfence"),
        lease=options.get("lease", "") or options.get("service", "ringfence"),
        webhooks=options.get("webhooks", "ringfence"),
        webhook_listen=listen,
        kubeconfig=options.get("kubeconfig", ""),
        context=options.get("context", ""),
        keys_file=options.get("keys-file", ""),
    )
