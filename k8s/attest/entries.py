"""Which identity a pod has: ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``. Pure.

The same as what its sidecar expects and as what the mesh is told of it; an entry that gave another would be of no use
to either. The namespace of the control plane, and those on which the cluster itself depends, have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from k8s.objects.names import NEVER_MESHED, SYSTEM_NAMESPACE
from ringfence.attestation import Attestation, RegistrationEntry
from ringfence.platform import identity_of
from ringfence.spiffe import SpiffeIdError

_NAMESPACE: Final = "k8s:ns:"
_SERVICE_ACCOUNT: Final = "k8s:sa:"


def entries_of(
    attestation: Attestation, trust_domain: str, *, system_namespace: str = SYSTEM_NAMESPACE
) -> Sequence[RegistrationEntry]:
    """The one entry of an attested pod; none where no workload may have an identity."""
    namespace, account = _value(attestation, _NAMESPACE), _value(attestation, _SERVICE_ACCOUNT)
    if not namespace or not account or namespace in (*NEVER_MESHED, SYSTEM_NAMESPACE, system_namespace):
        return ()
    try:
        spiffe_id = identity_of(namespace, account, trust_domain)
    except SpiffeIdError:
        return ()
    selectors = frozenset({_NAMESPACE + namespace, _SERVICE_ACCOUNT + account})
    return (RegistrationEntry(selectors=selectors, spiffe_id=spiffe_id),)


def _value(attestation: Attestation, what: str) -> str:
    """The value of the one selector of that kind; empty unless there is exactly one."""
    found = [one.removeprefix(what) for one in attestation.selectors if one.startswith(what)]
    return found[0] if len(found) == 1 else ""
