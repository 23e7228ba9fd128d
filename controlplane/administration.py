"""What operators ask a running control plane, put together from its parts. Adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import ca
from controlplane.intake.configuration import Configuration
from controlplane.operate.admin import AdminApi, BadRequestError, UnavailableError
from controlplane.operate.flows_api import FlowsApi
from controlplane.operate.policy_api import PolicyApi
from controlplane.operate.policy_status import policy_status
from controlplane.operate.signals import SignalsApi
from controlplane.operate.status import standings, status_document
from controlplane.origins import Origin, Parts
from ringfence.spiffe import SpiffeId, SpiffeIdError


class Administration:
    """Answers by what the parts hold when they are asked."""

    def __init__(self, parts: Parts, origin: Origin) -> None:
        self._parts = parts
        self._origin = origin

    def signals(self, waiting_for: Callable[[], list[str]]) -> SignalsApi:
        """Health and metrics; ``waiting_for``: what keeps the process from being ready."""
        return SignalsApi(waiting_for=waiting_for, metrics_text=self._metrics_text)

    def admin(self, addresses: Mapping[str, str]) -> AdminApi:
        """What the admin socket answers; ``addresses``: where the process listens."""
        flows = self._parts.flows
        return AdminApi(
            status=lambda: self._status(addresses),
            bundle=self._bundle,
            mint_join_token=self._mint_join_token,
            routes=[
                *PolicyApi(self._policy_status).routes(),
                *FlowsApi(flows.ask if flows is not None else None).routes(),
                *self._origin.routes(),
            ],
        )

    def _held(self) -> Configuration:
        held = self._origin.held
        if held is None:
            raise AssertionError("nothing is served before a configuration is in force")
        return held

    def _metrics_text(self) -> bytes:
        parts = self._parts
        found = standings(parts.distributor.sessions(), parts.clock.monotonic(), parts.settings.acknowledgement_seconds)
        parts.metrics.show_standings(found)
        return parts.metrics.text()

    def _status(self, addresses: Mapping[str, str]) -> dict[str, object]:
        parts = self._parts
        document = status_document(
            configuration=self._held(),
            held_since=self._origin.held_since,
            refused=self._origin.refused,
            catalog=parts.distributor.catalog,
            sessions=parts.distributor.sessions(),
            readiness=parts.readiness,
            now=parts.clock.now(),
            monotonic=parts.clock.monotonic(),
            acknowledgement_seconds=parts.settings.acknowledgement_seconds,
        )
        return {
            **document,
            "token_issuers": parts.keys.listed(),
            "addresses": dict(addresses),
            "root_fingerprint": parts.authority.root_fingerprint,
        }

    def _policy_status(self) -> dict[str, object]:
        parts = self._parts
        return policy_status(
            configuration=self._held(),
            refused=self._origin.refused,
            distributor=parts.distributor,
            now=parts.clock.now(),
            monotonic=parts.clock.monotonic(),
            acknowledgement_seconds=parts.settings.acknowledgement_seconds,
        )

    def _bundle(self) -> dict[str, object]:
        authority = self._parts.authority
        bundle = authority.bundle()
        return {
            "trust_domain": bundle.trust_domain.name,
            "root_fingerprint": authority.root_fingerprint,
            "roots_pem": bundle.to_pem().decode(),
        }

    async def _mint_join_token(self, text: str, ttl_seconds: int | None) -> dict[str, object]:
        parts = self._parts
        ttl = parts.settings.join_token_seconds if ttl_seconds is None else ttl_seconds
        try:
            spiffe_id = SpiffeId.parse(text)
            expires_at = parts.clock.now() + ttl
            token = await asyncio.to_thread(parts.authority.mint_join_token, spiffe_id, ttl)
        except ca.StoreError as error:
            raise UnavailableError(str(error)) from error
        except (SpiffeIdError, ca.CaError) as error:
            raise BadRequestError(str(error)) from error
        parts.metrics.join_tokens.inc()
        in_mesh = bool(parts.distributor.instances(spiffe_id))
        return {"spiffe_id": str(spiffe_id), "token": token, "expires_at": expires_at, "in_mesh": in_mesh}
