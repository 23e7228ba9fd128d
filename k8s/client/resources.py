"""Kinds of objects, and where the API server serves them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of objects. ``group``: empty for the core; ``plural``: as in paths."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects of this kind say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of an object, or of all of a namespace or of the cluster. Names are escaped, so that none leads elsewhere."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            if not self.namespaced:
                raise ValueError(f"{self.kind} is of no namespace")
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            if self.namespaced and not namespace:
                raise ValueError(f"{self.kind} {name} needs a namespace")
            parts.append(name)
        if subresource:
            if not name:
                raise ValueError(f"{subresource} of {self.kind} needs a name")
            parts.append(subresource)
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{parts!r} is no path")
        return "/" + "/".join(quote(part, safe="") for part in parts)


NAMESPACES: Final = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
NODES: Final = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
PODS: Final = Resource(group="", version="v1", plural="pods", kind="Pod")
SERVICES: Final = Resource(group="", version="v1", plural="services", kind="Service")
CONFIG_MAPS: Final = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
SECRETS: Final = Resource(group="", version="v1", plural="secrets", kind="Secret")
SERVICE_ACCOUNTS: Final = Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount")
EVENTS: Final = Resource(group="", version="v1", plural="events", kind="Event")
ENDPOINT_SLICES: Final = Resource(group="discovery.k8s.io", version="v1", plural="endpointslices", kind="EndpointSlice")
DEPLOYMENTS: Final = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
DAEMON_SETS: Final = Resource(group="apps", version="v1", plural="daemonsets", kind="DaemonSet")
STATEFUL_SETS: Final = Resource(group="apps", version="v1", plural="statefulsets", kind="StatefulSet")
REPLICA_SETS: Final = Resource(group="apps", version="v1", plural="replicasets", kind="ReplicaSet")
CONTROLLER_REVISIONS: Final = Resource(
    group="apps", version="v1", plural="controllerrevisions", kind="ControllerRevision"
)
JOBS: Final = Resource(group="batch", version="v1", plural="jobs", kind="Job")
CRON_JOBS: Final = Resource(group="batch", version="v1", plural="cronjobs", kind="CronJob")
LEASES: Final = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
NETWORK_POLICIES: Final = Resource(
    group="networking.k8s.io", version="v1", plural="networkpolicies", kind="NetworkPolicy"
)
INGRESSES: Final = Resource(group="networking.k8s.io", version="v1", plural="ingresses", kind="Ingress")
TOKEN_REVIEWS: Final = Resource(
    group="authentication.k8s.io", version="v1", plural="tokenreviews", kind="TokenReview", namespaced=False
)
MUTATING_WEBHOOKS: Final = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="mutatingwebhookconfigurations",
    kind="MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOKS: Final = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="validatingwebhookconfigurations",
    kind="ValidatingWebhookConfiguration",
    namespaced=False,
)
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
CLUSTER_TRUST_BUNDLES: Final = Resource(
    group="certificates.k8s.io",
    version="v1beta1",
    plural="clustertrustbundles",
    kind="ClusterTrustBundle",
    namespaced=False,
)
POD_CERTIFICATE_REQUESTS: Final = Resource(
    group="certificates.k8s.io", version="v1beta1", plural="podcertificaterequests", kind="PodCertificateRequest"
)
