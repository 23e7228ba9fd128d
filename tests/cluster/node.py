"""A node: containerd, kubelet and kube-proxy in a machine, and the network of its pods."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.machine import Machine, until
from tests.cluster.pki import Pki

CLUSTER_DNS: Final = "10.96.0.10"
PODS: Final = "10.244.0.0/16"
FEATURES: Final = ("ClusterTrustBundle", "ClusterTrustBundleProjection", "PodCertificateRequest")
SANDBOX_IMAGE: Final = "localhost/pause:1"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePlace:
    """What tells one node from another."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.250.0.{self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"


class Node:
    """One node; the first one's machine also carries the control plane."""

    def __init__(self, place: NodePlace, machine: Machine, programs: Path) -> None:
        self.place = place
        self.machine = machine
        self._programs = programs
        self._folder = machine.folder

    @property
    def socket(self) -> Path:
        return self._folder / "containerd.sock"

    def address(self, bridge_of: Node | None) -> None:
        """Give the machine its address: on a bridge of its own, or by a cable on the first node's."""
        machine, place = self.machine, self.place
        if bridge_of is None:
            machine.inside_ip("link", "add", "nodes", "type", "bridge")
            device = "nodes"
        else:
            other = bridge_of.machine
            device, far = "eth0", f"to-{place.name}"
            other.inside_ip("link", "add", far, "type", "veth", "peer", "name", device, "netns", machine.network)
            other.inside_ip("link", "set", far, "master", "nodes", "up")
        machine.inside_ip("addr", "add", f"{place.address}/24", "dev", device)
        machine.inside_ip("link", "set", device, "up")
        if bridge_of is None:
            # Whoever calls a service's address needs a route, even though kube-proxy then sends the call elsewhere.
            machine.inside_ip("route", "add", "default", "dev", device)
        else:
            machine.inside_ip("route", "add", "default", "via", bridge_of.place.address)
            bridge_of.machine.inside_ip("route", "add", place.pods, "via", place.address)
        machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def start_containerd(self) -> None:
        (self._folder / "cni").mkdir()
        (self._folder / "cni-bin").mkdir()
        (self._folder / "cni" / "10-pods.conflist").write_text(json.dumps(self._pod_network()))
        path = self._folder / "containerd.toml"
        path.write_text(
            f"""
version = 3
root = "{self._folder}/containerd"
state = "/run/containerd-state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{SANDBOX_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  # Lowering it needs a capability that containers mostly lack.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{self._programs}", "{self._folder}/cni-bin"]
    conf_dir = "{self._folder}/cni"
"""
        )
        made = self.machine.daemon("containerd", str(self._programs / "containerd"), "--config", str(path))
        until(lambda: made.check() and self.socket.exists(), "containerd")

    def load(self, image: Path) -> None:
        """Import an archive of images (of docker's or OCI's kind)."""
        ctr = str(self._programs / "ctr")
        words = ("--namespace", "k8s.io", "images", "import", "--local", str(image))
        self.machine.run(ctr, "--address", str(self.socket), *words)

    def tag(self, image: str, name: str) -> None:
        """Have an image that is here under another name, too."""
        ctr = str(self._programs / "ctr")
        self.machine.run(ctr, "--address", str(self.socket), "--namespace", "k8s.io", "images", "tag", image, name)

    def start_kubelet(self, pki: Pki, server: str) -> None:
        name, address = self.place.name, self.place.address
        pki.issue(name, f"system:node:{name}", "system:nodes", (name, address))
        kubeconfig = pki.kubeconfig(self._folder / "kubelet.conf", server, name)
        (self._folder / "resolv.conf").write_text(f"nameserver {CLUSTER_DNS}\n")
        settings = self._folder / "kubelet.json"
        settings.write_text(json.dumps(self._kubelet(pki)))
        where = ("--root-dir", str(self._folder / "kubelet"), "--node-ip", address, "--hostname-override", name)
        program = str(self._programs / "kubelet")
        self.machine.daemon("kubelet", program, "--config", str(settings), "--kubeconfig", str(kubeconfig), *where)

    def start_proxy(self, kubeconfig: Path) -> None:
        program = str(self._programs / "kube-proxy")
        # Sysctls of connection tracking can often only be read in a namespace; 0 leaves them alone.
        kept = [
            f"--conntrack-{what}=0" for what in ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")
        ]
        where = ("--kubeconfig", str(kubeconfig), "--hostname-override", self.place.name)
        self.machine.daemon("kube-proxy", program, *where, "--cluster-cidr", PODS, *kept)

    def _pod_network(self) -> dict[str, object]:
        addresses = {
            "type": "host-local",
            "dataDir": str(self._folder / "addresses"),
            "ranges": [[{"subnet": self.place.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}

    def _kubelet(self, pki: Pki) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.machine.group}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.folder / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.folder / f"{self.place.name}.crt"),
            "tlsPrivateKeyFile": str(pki.folder / f"{self.place.name}.key"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [CLUSTER_DNS],
            "resolvConf": str(self._folder / "resolv.conf"),
            "podLogsDir": str(self._folder / "pod-logs"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "featureGates": dict.fromkeys(FEATURES, True),
            # Changed Secrets and ConfigMaps reach pods within seconds, not minutes.
            "syncFrequency": "2s",
            "fileCheckFrequency": "0s",
            "nodeStatusUpdateFrequency": "5s",
            "registryPullQPS": 0,
            "maxPods": 250,
        }
