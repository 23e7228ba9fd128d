"""How a sidecar gets an identity without holding one: by its host key, else by its platform's evidence, else by a join
token.

The host key goes first, since evidence is good for one host key and a token once, and either may be spent. A CA that
cannot be reached ends the attempt before more is shown; a CA that refuses does not. Refused evidence is tried again,
since the platform puts newer evidence in its place; a refused token is final.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from ringfence.attestation import EVIDENCE_LIMIT_BYTES
from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId
from sidecar.identity.acceptance import Accepted, accept
from sidecar.identity.client import Evidence, Issuing
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable, WrongIdentity, WrongRoot
from sidecar.identity.host_key import HostKey, HostKeyStore
from sidecar.identity.request import draw_request
from sidecar.settings import EvidenceSettings
from sidecar.state_folder import StateError

_TOKEN_LIMIT_BYTES: Final = 4_096
# What people call the evidence of a platform; another kind is called by its own word.
_CALLED: Final = {"kubernetes": "service account token"}


class Proving:
    """Obtains an identity from nothing but what the machine holds. ``how`` tells which proof served last."""

    def __init__(
        self,
        *,
        spiffe_id: SpiffeId,
        client: Issuing,
        host_keys: HostKeyStore,
        join_token_file: Path | None,
        log: Logger,
        evidence: EvidenceSettings | None = None,
    ) -> None:
        self._spiffe_id = spiffe_id
        self._client = client
        self._host_keys = host_keys
        self._join_token_file = join_token_file
        self._evidence = evidence
        self._log = log
        self._minting = f"made by `ringfence ca token create --spiffe-id {spiffe_id}`"
        self.how = ""

    async def obtain(self, deadline_seconds: float) -> Accepted:
        """An accepted identity.

        Raises IdentityUnavailable if it is worth trying again, IdentityRefused with all that was refused if not.
        """
        refusals: list[str] = []
        for host_key in self._candidates():
            try:
                return await self._attest(host_key, deadline_seconds)
            except WrongRoot:
                raise
            except IdentityRefused as error:
                refusals.append(f"the host key {host_key.id[:16]}… was refused: {error}")
                self._log.warning("host key refused", host_key_id=host_key.id, reason=str(error))
        if self._evidence is not None:
            try:
                return await self._prove(self._evidence, deadline_seconds)
            except (WrongRoot, WrongIdentity):
                raise
            except IdentityRefused as error:
                refusals.append(str(error))
                if self._join_token_file is None:
                    raise IdentityUnavailable(f"no identity for {self._spiffe_id}: {'; '.join(refusals)}") from error
        try:
            return await self._join(deadline_seconds)
        except WrongRoot:
            raise
        except IdentityRefused as error:
            refusals.append(str(error))
        raise IdentityRefused(f"no identity for {self._spiffe_id}: {'; '.join(refusals)}")

    async def _attest(self, host_key: HostKey, deadline_seconds: float) -> Accepted:
        request = draw_request(self._spiffe_id)
        issued = await self._client.attest(host_key, request.csr, deadline_seconds)
        accepted = accept(issued, request.private_key, self._spiffe_id)
        self._enrolled(host_key)
        self.how = "host key"
        return accepted

    async def _prove(self, settings: EvidenceSettings, deadline_seconds: float) -> Accepted:
        called = _CALLED.get(settings.kind, f"{settings.kind} evidence")
        evidence = Evidence(kind=settings.kind, content=self._evidence_of(settings, called))
        host_key = self._new_host_key()
        request = draw_request(self._spiffe_id)
        try:
            issued = await self._client.prove(evidence, host_key, request.csr, deadline_seconds)
        except WrongRoot:
            raise
        except IdentityRefused as error:
            with suppress(StateError):
                self._host_keys.refused(host_key)
            raise IdentityRefused(f"the {called} in {settings.file} was refused: {error}") from error
        try:
            accepted = accept(issued, request.private_key, self._spiffe_id)
        except WrongIdentity as error:
            raise WrongIdentity(
                f"the {called} in {settings.file} is another workload's: {error} (set the SPIFFE ID to the workload's)"
            ) from error
        self._enrolled(host_key)
        self.how = called
        return accepted

    async def _join(self, deadline_seconds: float) -> Accepted:
        token = self._token()
        host_key = self._new_host_key()
        request = draw_request(self._spiffe_id)
        try:
            issued = await self._client.join(token, host_key, request.csr, deadline_seconds)
        except WrongRoot:
            raise
        except IdentityRefused as error:
            raise IdentityRefused(
                f"the join token in {self._join_token_file} was refused: {error} "
                f"(put a new token into that file, {self._minting}, and start again)"
            ) from error
        try:
            accepted = accept(issued, request.private_key, self._spiffe_id)
        except WrongIdentity as error:
            raise WrongIdentity(
                f"the join token in {self._join_token_file} is another workload's: {error} "
                f"(put a new token into that file, {self._minting}, and start again)"
            ) from error
        self._enrolled(host_key)
        self.how = "join token"
        return accepted

    def _candidates(self) -> list[HostKey]:
        try:
            return self._host_keys.candidates()
        except StateError as error:
            raise IdentityRefused(f"no identity for {self._spiffe_id}: {error}") from error

    def _new_host_key(self) -> HostKey:
        try:
            return self._host_keys.draw()
        except StateError as error:
            # Better no identity now than a token or evidence spent on a key that is lost with the process.
            raise IdentityUnavailable(f"cannot keep a host key: {error}") from error

    def _enrolled(self, host_key: HostKey) -> None:
        try:
            self._host_keys.enrolled(host_key)
        except StateError as error:
            # The key is on disk under its pending name and will be found there.
            self._log.warning("host key not settled", reason=str(error))

    def _evidence_of(self, settings: EvidenceSettings, called: str) -> bytes:
        """What is in the file now; white space around it is no part of it."""
        try:
            with settings.file.open("rb") as file:
                content = file.read(EVIDENCE_LIMIT_BYTES + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise IdentityRefused(f"cannot read the {called} in {settings.file}: {reason}") from error
        if len(content) > EVIDENCE_LIMIT_BYTES or not content.strip():
            raise IdentityRefused(f"{settings.file} holds no {called} (1 to {EVIDENCE_LIMIT_BYTES} bytes)")
        return content.strip()

    def _token(self) -> str:
        path = self._join_token_file
        if path is None:
            raise IdentityRefused(
                f"there is no enrolled host key and no join token (give --join-token-file FILE, {self._minting})"
            )
        try:
            with path.open("rb") as file:
                content = file.read(_TOKEN_LIMIT_BYTES + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise IdentityRefused(f"cannot read the join token file {path}: {reason}") from error
        token = content.decode("ascii", "replace").strip()
        if len(content) > _TOKEN_LIMIT_BYTES or not token.isprintable() or not token.isascii() or not token:
            raise IdentityRefused(f"{path} holds no join token (one line of text)")
        return token
