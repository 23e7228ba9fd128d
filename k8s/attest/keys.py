"""The keys by which the cluster signs service account tokens.

They keep strangers from the API server: what none of them signed is no token of the cluster, and needs no question. And
while the API server does not answer, they say what it cannot. They never say yes where it says no.

Fetched from the API server by its own OpenID discovery, over the connection that all else goes over; on disk, so that
they outlive a restart of this process in an outage; and good for a day after they were last confirmed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from k8s.attest.tokens import ClaimedToken
from k8s.objects.names import AUDIENCE
from ringfence.attestation import EvidenceFault, EvidenceRefusedError, EvidenceUnavailableError
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.kit.private_file import replace_private
from ringfence.policy.facts import TokenRefused
from ringfence.policy.model import TokenIssuer
from ringfence.policy.tokens.keys import ALGORITHMS, KEY_SET_LIMIT_BYTES, KeySet, KeySetError, read_key_set
from ringfence.policy.tokens.strict_json import StrictJsonError, read_object
from ringfence.policy.tokens.verify import JwtVerifier

GOOD_FOR_SECONDS: Final = 86_400.0
_AGAIN_SECONDS: Final = 600.0
_LEEWAY_SECONDS: Final = 60  # as the API server gives
# A key that is new to us is asked for at once, but not as often as strangers make one up.
_NEW_KEY_SECONDS: Final = 10.0
_FILE_LIMIT_BYTES: Final = 2 * KEY_SET_LIMIT_BYTES


class ApiUnavailableError(Exception):
    """There is no answer to the point; the text is one line. ``answered``: the API server is there and refused us,
    which its operator has to mend, and is no reason to do without it."""

    def __init__(self, text: str, *, answered: bool = False) -> None:
        super().__init__(text)
        self.answered = answered


class Discovery(Protocol):
    """Where the keys come from. Raises ApiUnavailableError."""

    async def openid_configuration(self) -> dict[str, Any]:
        """The document at ``/.well-known/openid-configuration``."""

    async def key_set(self) -> dict[str, Any]:
        """The document at ``/openid/v1/jwks``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKeys:
    """What the API server said last: its issuer and keys, and when."""

    issuer: str
    keys: KeySet
    confirmed_at: float


class KeyKeeper:
    """Keeps the keys; ``run`` is its task. ``file``: None keeps them in memory alone."""

    def __init__(
        self,
        discovery: Discovery,
        file: Path | None,
        *,
        clock: Clock,
        log: Logger,
        random: Callable[[], float],
    ) -> None:
        self._discovery = discovery
        self._file = file
        self._clock = clock
        self._log = log
        self._random = random
        self._backoff = Backoff(first_seconds=1.0, cap_seconds=60.0)
        self._held: ClusterKeys | None = None
        self._new_key_asked = float("-inf")
        self._verifier: JwtVerifier | None = None

    @property
    def issuer(self) -> str:
        """The cluster's, as last said; empty if it never was."""
        return "" if self._held is None else self._held.issuer

    def load(self) -> None:
        """What an earlier process kept, if it is any good."""
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                document = read_object(file.read(_FILE_LIMIT_BYTES + 1), _FILE_LIMIT_BYTES)
            issuer, text, at = document.get("issuer"), document.get("keys"), document.get("confirmedAt")
            if not isinstance(issuer, str) or not isinstance(text, str) or not isinstance(at, int | float):
                raise ValueError("not the keys of a cluster")
            self._take(ClusterKeys(issuer=issuer, keys=read_key_set(text), confirmed_at=float(at)))
        except FileNotFoundError:
            return
        except (OSError, StrictJsonError, ValueError) as error:
            self._log.warning("kept keys of the cluster are not used", file=str(self._file), error=str(error))

    async def run(self) -> None:
        """Fetch them, and again every ten minutes, until cancelled."""
        attempt = 0
        while True:
            try:
                await self.fetch()
            except (ApiUnavailableError, KeySetError) as error:
                if attempt in (0, 5):
                    self._log.warning("keys of the cluster not fetched", error=str(error), attempt=attempt + 1)
                await asyncio.sleep(self._backoff.delay(attempt, self._random))
                attempt += 1
            else:
                attempt = 0
                await asyncio.sleep(_AGAIN_SECONDS * (0.9 + 0.2 * self._random()))

    async def fetch(self) -> None:
        """Ask the API server now. Raises ApiUnavailableError, KeySetError."""
        issuer = (await self._discovery.openid_configuration()).get("issuer")
        if not isinstance(issuer, str) or not 0 < len(issuer) <= 1024:
            raise ApiUnavailableError("the cluster's OpenID configuration names no issuer")
        keys = read_key_set(json.dumps(await self._discovery.key_set()))
        held = ClusterKeys(issuer=issuer, keys=keys, confirmed_at=self._clock.now())
        self._take(held)
        if self._file is not None:
            content = {"issuer": issuer, "keys": keys.text, "confirmedAt": held.confirmed_at}
            try:
                await asyncio.to_thread(replace_private, self._file, json.dumps(content).encode())
            except OSError as error:
                self._log.warning("keys of the cluster not kept on disk", file=str(self._file), error=str(error))

    async def screen(self, token: ClaimedToken) -> bool:
        """Whether a key of the cluster signed ``token``; False where there are no keys to tell by. Raises
        EvidenceRefusedError for one that none of them signed."""
        if not self._good():
            return False
        now = self._clock.monotonic()
        if not self._knows(token.key_id) and now >= self._new_key_asked + _NEW_KEY_SECONDS:
            self._new_key_asked = now
            try:
                await self.fetch()
            except (ApiUnavailableError, KeySetError) as error:
                self._log.warning("keys of the cluster not fetched", error=str(error))
                return False
        self.verify(token)
        return True

    def verify(self, token: ClaimedToken) -> None:
        """Returns if a key of the cluster signed ``token``. Raises EvidenceRefusedError; EvidenceUnavailableError where
        there are no keys that were confirmed within a day."""
        if self._verifier is None or not self._good():
            raise EvidenceUnavailableError("the API server does not answer, and its keys are not at hand")
        found = self._verifier.verify(token.text, self._clock.now())
        if isinstance(found, TokenRefused):
            raise EvidenceRefusedError(EvidenceFault.FOREIGN, f"by the cluster's keys: {found.detail}")

    def _good(self) -> bool:
        if self._held is None:
            return False
        # What was confirmed later than now is of a clock that was wrong, then or now.
        return -_LEEWAY_SECONDS <= self._clock.now() - self._held.confirmed_at <= GOOD_FOR_SECONDS

    def _knows(self, key_id: str) -> bool:
        return self._held is not None and any(key.kid == key_id for key in self._held.keys.keys)

    def _take(self, held: ClusterKeys) -> None:
        if self._held is None or (held.issuer, held.keys) != (self._held.issuer, self._held.keys):
            issuer = TokenIssuer(
                name="kubernetes/cluster",
                issuer=held.issuer,
                audiences=(AUDIENCE,),
                algorithms=tuple(sorted(ALGORITHMS)),
                leeway_seconds=_LEEWAY_SECONDS,
            )
            self._verifier = JwtVerifier(issuer, held.keys)
        self._held = held
