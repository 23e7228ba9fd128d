"""Every word that the mesh puts on objects of a cluster, or looks for on them. Pure.

Labels choose (selectors can see them), annotations say how. What a pod says wins over what its namespace says.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "ringfence.io"

# Labels.
INJECT: Final = "ringfence.io/inject"
"""On a namespace or a pod: whether its pods get a sidecar; ``ENABLED`` or ``DISABLED``, anything else is refused."""
ENABLED: Final = "enabled"
DISABLED: Final = "disabled"
REVISION: Final = "ringfence.io/rev"
"""On a namespace or a pod: which revision of the control plane injects it; absent: the default one."""
INJECTED: Final = "ringfence.io/injected"
"""On every pod that has a sidecar; its value is ``TRUE``."""
TRUE: Final = "true"

# Annotations: what was done.
STATUS: Final = "ringfence.io/status"
"""On every pod that has a sidecar: JSON with ``version``, ``revision``, ``image``, ``containers``, ``redirect``."""

# Annotations: wishes.
MODE: Final = "ringfence.io/mode"
"""On a pod, a Service or a namespace: ``strict`` or ``permissive``."""
EXCLUDE_INBOUND_PORTS: Final = "ringfence.io/exclude-inbound-ports"
EXCLUDE_OUTBOUND_PORTS: Final = "ringfence.io/exclude-outbound-ports"
EXCLUDE_OUTBOUND_CIDRS: Final = "ringfence.io/exclude-outbound-cidrs"
CPU_REQUEST: Final = "ringfence.io/cpu-request"
CPU_LIMIT: Final = "ringfence.io/cpu-limit"
MEMORY_REQUEST: Final = "ringfence.io/memory-request"
MEMORY_LIMIT: Final = "ringfence.io/memory-limit"
LOG_LEVEL: Final = "ringfence.io/log-level"
ACCESS_LOG: Final = "ringfence.io/access-log"
IMAGE: Final = "ringfence.io/image"
DRAIN: Final = "ringfence.io/drain"
WISHES: Final = (
    MODE,
    EXCLUDE_INBOUND_PORTS,
    EXCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_CIDRS,
    CPU_REQUEST,
    CPU_LIMIT,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
    LOG_LEVEL,
    ACCESS_LOG,
    IMAGE,
    DRAIN,
)

# Places.
SYSTEM_NAMESPACE: Final = "ringfence-system"
"""Where the control plane runs, unless its chart is installed elsewhere; the root namespace of documents."""
NEVER_MESHED: Final = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces whose pods are never touched: the cluster would depend on itself."""
TRUST_CONFIG_MAP: Final = "ringfence-trust"
"""Kept in every namespace with meshed pods; by its key ``TRUST_KEY`` a pod knows the control plane at first."""
TRUST_KEY: Final = "bundle.pem"
SIGNER: Final = "ringfence.io/svid"
"""Of ClusterTrustBundles and PodCertificateRequests, where the cluster has such objects."""
CLUSTER_TRUST_BUNDLE: Final = "ringfence.io:svid:bundle"
AUDIENCE: Final = "ringfence"
"""Of the service account token that a sidecar shows as evidence."""
EVIDENCE_KIND: Final = "kubernetes"
CONTROL_SERVICE: Final = "ringfence"
JOIN_PORT: Final = 7401
CONTROL_PORT: Final = 7402
WEBHOOK_PORT: Final = 9443
WEBHOOK_SERVICE_PORT: Final = 443

# In a pod.
REDIRECT_CONTAINER: Final = "ringfence-redirect"
SIDECAR_CONTAINER: Final = "ringfence-sidecar"
STATE_VOLUME: Final = "ringfence-state"
TOKEN_VOLUME: Final = "ringfence-token"
TRUST_VOLUME: Final = "ringfence-trust"
OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
MESH_PORT: Final = 15008
SIGNALS_PORT: Final = 15020
"""/healthz, /readyz, /metrics and the answers to the app's probes; never redirected."""
OWN_PORTS: Final = frozenset({OUTBOUND_PORT, INBOUND_PORT, MESH_PORT, SIGNALS_PORT})
APP_HEALTH: Final = "/app-health"
"""Under it the sidecar answers the app's probes: ``/app-health/<container>/<probe>``."""
