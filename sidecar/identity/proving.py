"""How a sidecar gets an identity without holding one: by its host key, and else by a join token.

The host key goes first, since a token is good once and may be spent. A CA that cannot be reached ends the attempt
before the token is shown; a CA that refuses the host key does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ringfence.kit.log import Logger
from ringfence.spiffe import SpiffeId
from sidecar.identity.acceptance import Accepted, accept
from sidecar.identity.client import Issuing
from sidecar.identity.errors import IdentityRefused, IdentityUnavailable, WrongIdentity, WrongRoot
from sidecar.identity.host_key import HostKey, HostKeyStore
from sidecar.identity.request import draw_request
from sidecar.state_folder import StateError

_TOKEN_LIMIT_BYTES: Final = 4_096


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
    ) -> None:
        self._spiffe_id = spiffe_id
        self._client = client
        self._host_keys = host_keys
        self._join_token_file = join_token_file
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

    async def _join(self, deadline_seconds: float) -> Accepted:
        token = self._token()
        try:
            host_key = self._host_keys.draw()
        except StateError as error:
            # Better no identity now than a token spent on a key that is lost with the process.
            raise IdentityUnavailable(f"cannot keep a host key: {error}") from error
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

    def _enrolled(self, host_key: HostKey) -> None:
        try:
            self._host_keys.enrolled(host_key)
        except StateError as error:
            # The key is on disk under its pending name and will be found there.
            self._log.warning("host key not settled", reason=str(error))

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
