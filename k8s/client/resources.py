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


def resource(api_version: str, plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    """The kind of that name. ``api_version``: as its objects say it, such as ``apps/v1``."""
    group, _, version = api_version.rpartition("/")
    return Resource(group=group, version=version, plural=plural, kind=kind, namespaced=namespaced)


NAMESPACES: Final = resource("v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = resource("v1", "nodes", "Node", namespaced=False)
PODS: Final = resource("v1", "pods", "Pod")
SERVICES: Final = resource("v1", "services", "Service")
CONFIG_MAPS: Final = resource("v1", "configmaps", "ConfigMap")
SECRETS: Final = resource("v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = resource("v1", "serviceaccounts", "ServiceAccount")
EVENTS: Final = resource("v1", "events", "Event")
ENDPOINT_SLICES: Final = resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS: Final = resource("apps/v1", "deployments", "Deployment")
DAEMON_SETS: Final = resource("apps/v1", "daemonsets", "DaemonSet")
STATEFUL_SETS: Final = resource("apps/v1", "statefulsets", "StatefulSet")
REPLICA_SETS: Final = resource("apps/v1", "replicasets", "ReplicaSet")
CONTROLLER_REVISIONS: Final = resource("apps/v1", "controllerrevisions", "ControllerRevision")
JOBS: Final = resource("batch/v1", "jobs", "Job")
CRON_JOBS: Final = resource("batch/v1", "cronjobs", "CronJob")
LEASES: Final = resource("coordination.k8s.io/v1", "leases", "Lease")
NETWORK_POLICIES: Final = resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
INGRESSES: Final = resource("networking.k8s.io/v1", "ingresses", "Ingress")
TOKEN_REVIEWS: Final = resource("authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False)
MUTATING_WEBHOOKS: Final = resource(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)
VALIDATING_WEBHOOKS: Final = resource(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
CUSTOM_RESOURCE_DEFINITIONS: Final = resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
CLUSTER_TRUST_BUNDLES: Final = resource(
    "certificates.k8s.io/v1beta1", "clustertrustbundles", "ClusterTrustBundle", namespaced=False
)
POD_CERTIFICATE_REQUESTS: Final = resource(
    "certificates.k8s.io/v1beta1", "podcertificaterequests", "PodCertificateRequest"
)
