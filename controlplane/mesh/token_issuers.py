"""``tokenIssuers`` of the mesh file: from where the control plane may fetch what verifies tokens. Pure.

Documents name URLs, and whoever may write one could make the control plane ask any machine that it can reach. So the
owner of the mesh says which hosts may be asked, and which of them may have an address inside. Documents name files,
too, and what is in them goes to sidecars: so the owner says in which folders those may lie.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from controlplane.mesh.fields import Fields
from ringfence.kit.addresses import AddressError, parse_cidr
from ringfence.kit.host_patterns import HostPatternError, parse_host_pattern
from ringfence.mesh import TokenIssuerRules
from ringfence.policy.yamlnodes import MappingReader, ValueReader

KEY: Final = "tokenIssuers"
HOST_LIMIT: Final = 100
SHORTEST_REFRESH_SECONDS: Final = 1.0
LONGEST_REFRESH_SECONDS: Final = 86_400.0
# Where clouds keep the credentials of a machine: no key set of an issuer is there, whoever says so.
NEVER: Final = tuple(ipaddress.ip_network(one) for one in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"))


def read_token_issuers(fields: Fields, spec: MappingReader) -> TokenIssuerRules:
    """The rules; without any nothing may be fetched."""
    standard = TokenIssuerRules()
    reader = spec.mapping(KEY, default=None)
    if not reader.present:
        return standard
    refresh = fields.clean(
        lambda: reader.duration(
            "refresh",
            default=standard.refresh_seconds,
            low=SHORTEST_REFRESH_SECONDS,
            high=LONGEST_REFRESH_SECONDS,
        )
    )
    rules = TokenIssuerRules(
        hosts=fields.distinct(reader, "allowedHosts", HOST_LIMIT, _host, "remove it, or name a host"),
        private_networks=fields.distinct(reader, "privateNetworks", HOST_LIMIT, _network, "remove it, or write one"),
        ca_file=reader.text("caFile", default=""),
        secret_folders=fields.distinct(reader, "secretFolders", HOST_LIMIT, _folder, "remove it, or name a folder"),
        plain_http=reader.boolean("plainHttpFromThisMachine", default=False),
        refresh_seconds=standard.refresh_seconds if refresh is None else refresh,
    )
    reader.finish()
    return rules


def _host(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return parse_host_pattern(text) if text else None
    except HostPatternError as error:
        item.problem(error.message, error.mend)
        return None


def _folder(item: ValueReader) -> str | None:
    text = item.text()
    if text and not text.isprintable():
        item.problem("a path of characters that cannot be seen", "write it like /run/secrets/issuers")
        return None
    return text or None


def _network(item: ValueReader) -> str | None:
    text = item.text()
    try:
        return parse_private_network(text) if text else None
    except AddressError as error:
        item.problem(error.message, error.mend)
        return None


def parse_private_network(text: str) -> str:
    """A network in which a host that may be asked may have its address, canonical; raises AddressError."""
    network = parse_cidr(text)
    held = ipaddress.ip_network(network)
    if any(held.version == never.version and held.overlaps(never) for never in NEVER):
        raise AddressError(
            f"{network} holds link-local addresses, where machines keep their credentials", "write a smaller one"
        )
    return network
