"""A control plane as a platform sees it, that takes whatever it is offered; with an authority of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import trustme

from ringfence.platform import DocumentStanding, Notice, Reading, ServerCertificate, SidecarStanding
from ringfence.policy.problems import Problem
from ringfence.spiffe import SpiffeId, TrustBundle, TrustDomain


class AgreeableHost:
    """``readings``: those that were offered; ``said``: of documents that do not just stand, by name; ``beside``: what
    is known of sidecars."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.readings: list[Reading] = []
        self.said: dict[str, DocumentStanding] = {}
        self.beside: dict[tuple[SpiffeId, str], SidecarStanding] = {}
        self.noticed: list[Notice] = []
        self._watchers: list[Callable[[], None]] = []

    @property
    def trust_bundle(self) -> TrustBundle:
        return TrustBundle.from_pem(TrustDomain("shop.example"), self.ca.cert_pem.bytes())

    @property
    def settled(self) -> bool:
        return bool(self.readings)

    async def offer(self, reading: Reading) -> bool:
        self.readings.append(reading)
        return True

    async def check(self, documents: Sequence[Any]) -> list[Problem]:
        return []

    def standings(self) -> Mapping[str, DocumentStanding]:
        accepted = DocumentStanding(accepted=True)
        return {one.name: self.said.get(one.name, accepted) for one in self.readings[-1].documents}

    def sidecars(self) -> Mapping[tuple[SpiffeId, str], SidecarStanding]:
        return self.beside

    def notices(self) -> Sequence[Notice]:
        return self.noticed

    def stir(self) -> None:
        """A standing is another by now."""
        for changed in self._watchers:
            changed()

    def watch_standings(self, changed: Callable[[], None]) -> None:
        self._watchers.append(changed)

    async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate:
        return issued(self.ca, dns_names)


def issued(ca: trustme.CA, dns_names: Sequence[str]) -> ServerCertificate:
    leaf = ca.issue_cert(*dns_names)
    now = datetime.now(UTC).timestamp()
    return ServerCertificate(
        chain_pem=b"".join(one.bytes() for one in leaf.cert_chain_pems),
        key_pem=leaf.private_key_pem.bytes(),
        not_before=now - 10,
        not_after=now + 3600,
    )
