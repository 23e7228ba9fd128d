"""Identities as workloads get them: a join token, a CSR, and what the CA's issuing line makes of them."""

from __future__ import annotations

from ca.keys import new_key
from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid
from tests.authorities import HostKeyPair, OpenAuthority, make_csr, serve, svid_of


class Joined:
    """The SVIDs of those who joined, in the form in which the data path of the tests asks for them."""

    def __init__(self, bundle: TrustBundle, svids: dict[SpiffeId, X509Svid]) -> None:
        self._bundle = bundle
        self._svids = svids

    def bundle(self) -> TrustBundle:
        return self._bundle

    def svid(self, spiffe_id: SpiffeId) -> X509Svid:
        return self._svids[spiffe_id]


async def join(authority: OpenAuthority, *spiffe_ids: SpiffeId) -> Joined:
    """Have each of them join the authority over gRPC."""
    svids: dict[SpiffeId, X509Svid] = {}
    async with serve(authority) as served:
        for spiffe_id in spiffe_ids:
            key = new_key()
            request = HostKeyPair().join(authority.token(spiffe_id), make_csr(key))
            svids[spiffe_id] = svid_of(await served.joining.Join(request), key)
    return Joined(authority.authority.bundle(), svids)
