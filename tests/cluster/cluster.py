"""A whole cluster: started, used by `kubectl`, and gone at the end of the block."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.cluster.images import pause_archive
from tests.cluster.machine import ClusterError, Daemon, Machine, environment, until
from tests.cluster.node import CLUSTER_DNS, FEATURES, Node, NodePlace
from tests.cluster.pki import Pki
from tests.cluster.traces import PREFIX, folder_of, remove

SERVICES: Final = "10.96.0.0/16"
_INOTIFY_INSTANCES: Final = 1024
_ETCD: Final = "http://127.0.0.1:2379"
_ISSUER: Final = "https://kubernetes.default.svc.cluster.local"


def new_name() -> str:
    return f"{PREFIX}{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a cluster is made of."""

    programs: Path
    name: str = field(default_factory=new_name)
    nodes: int = 1
    images: tuple[Path, ...] = ()
    """Archives that every node gets before it starts."""


class Cluster:
    """A running cluster."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.folder = folder_of(settings.name)
        self.nodes: list[Node] = []
        self.machines: list[Machine] = []
        self._pki: Pki | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.conf"

    @property
    def server(self) -> str:
        return f"https://{NodePlace(number=1).address}:6443"

    @property
    def first(self) -> Machine:
        return self.nodes[0].machine

    def start(self) -> None:
        """Start all and wait until its nodes are ready; on an error, what came up so far is for `remove`."""
        self.folder.mkdir(mode=0o700)
        _let_all_watch()
        self._pki = Pki(self.folder / "pki")
        self.add_node_machine()
        self._start_control_plane(self._pki)
        for _ in range(1, self.settings.nodes):
            self.add_node_machine()
        for node in self.nodes:
            self._start_node(node, self._pki)
        self._start_dns(self._pki)
        until(self._ready, "nodes that are ready")

    def add_node_machine(self) -> Node:
        place = NodePlace(number=len(self.nodes) + 1)
        machine = Machine(self.name, place.name, self.folder / place.name, self.settings.programs)
        node = Node(place, machine, self.settings.programs)
        self.machines.append(machine)
        machine.start()
        node.address(self.nodes[0] if self.nodes else None)
        self.nodes.append(node)
        return node

    def kubectl(self, *words: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl; what it printed, or ClusterError with what it complained of."""
        ran = self.try_kubectl(*words, given=given, seconds=seconds)
        if ran.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(words)}: {ran.stderr.strip()}")
        return ran.stdout

    def try_kubectl(
        self, *words: str, given: str | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.kubectl_words(*words),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=environment(self.name),
        )

    def kubectl_words(self, *words: str) -> list[str]:
        program = str(self.settings.programs / "kubectl")
        return [*network_words(self.name), program, f"--kubeconfig={self.kubeconfig}", *words]

    def helm(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run helm, which finds and keeps its own things in the cluster's folder."""
        program = str(self.settings.programs / "helm")
        homes = {f"HELM_{name}_HOME": str(self.folder / "helm" / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(
            [*network_words(self.name), program, f"--kubeconfig={self.kubeconfig}", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=environment(self.name) | homes,
        )

    def volume(self, name: str) -> None:
        """Make a PersistentVolume that any claim may take: a folder of the first node."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(folder)},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        }
        self.apply(volume)

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a namespace in which pods can be made at once: until its account is there, they are refused."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = ("get", "serviceaccount", "default", f"--namespace={name}")
        until(lambda: self.try_kubectl(*account).returncode == 0, "the account of a namespace")

    def get(self, *words: str) -> Any:
        """`kubectl get` as a JSON document."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def apply(self, *documents: object) -> None:
        """`kubectl apply` of objects."""
        self.kubectl(
            "apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        )

    def daemon(self, name: str) -> Daemon:
        """A program of the control plane or of the first node, to be stopped or started again."""
        return self.first.daemons[name]

    def again(self, name: str) -> None:
        """Start once more what was stopped, and wait until the API server answers."""
        self.first.again(name)
        until(lambda: self.try_kubectl("get", "--raw=/readyz").returncode == 0, "the API server")

    def _start_control_plane(self, pki: Pki) -> None:
        programs, first, place = self.settings.programs, self.first, self.nodes[0].place
        names = [".".join(["kubernetes", "default", "svc", "cluster", "local"][:count]) for count in (1, 2, 3, 5)]
        pki.issue("apiserver", "kube-apiserver", names=("localhost", *names, "127.0.0.1", "10.96.0.1", place.address))
        for file, name, organization in _CLIENTS:
            pki.issue(file, name, organization)
            pki.kubeconfig(self.folder / f"{file}.conf", self.server, file)
        peers = ("--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync")
        clients = ("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD)
        first.daemon("etcd", str(programs / "etcd"), "--data-dir", str(self.folder / "etcd"), *clients, *peers)
        server = first.daemon("kube-apiserver", str(programs / "kube-apiserver"), *self._server_words(pki, place))
        until(lambda: server.check() and self.try_kubectl("get", "--raw=/readyz").returncode == 0, "the API server")
        for program in ("kube-controller-manager", "kube-scheduler"):
            words = self._manager_words(pki) if program == "kube-controller-manager" else []
            config = ("--kubeconfig", str(self.folder / f"{program}.conf"), "--leader-elect=false")
            first.daemon(program, str(programs / program), *config, *words)

    def _server_words(self, pki: Pki, place: NodePlace) -> list[str]:
        folder = pki.folder
        return [
            f"--etcd-servers={_ETCD}",
            "--secure-port=6443",
            f"--advertise-address={place.address}",
            f"--tls-cert-file={folder}/apiserver.crt",
            f"--tls-private-key-file={folder}/apiserver.key",
            f"--client-ca-file={folder}/ca.crt",
            f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={folder}/ca.crt",
            f"--kubelet-client-certificate={folder}/admin.crt",
            f"--kubelet-client-key={folder}/admin.key",
            "--feature-gates=" + ",".join(f"{feature}=true" for feature in FEATURES),
            "--runtime-config=certificates.k8s.io/v1beta1=true",
        ]

    def _manager_words(self, pki: Pki) -> list[str]:
        return [
            f"--service-account-private-key-file={pki.folder}/sa.key",
            f"--root-ca-file={pki.folder}/ca.crt",
            "--use-service-account-credentials",
            f"--cluster-signing-cert-file={pki.folder}/ca.crt",
            f"--cluster-signing-key-file={pki.folder}/ca.key",
        ]

    def _start_node(self, node: Node, pki: Pki) -> None:
        node.start_containerd()
        node.load(pause_archive(self.settings.programs / "pause", self.folder / "pause.tar"))
        for image in self.settings.images:
            node.load(image)
        node.start_kubelet(pki, self.server)
        node.start_proxy(self.folder / "kube-proxy.conf")

    def _start_dns(self, pki: Pki) -> None:
        address = self.nodes[0].place.address
        path = self.folder / "Corefile"
        path.write_text(
            f".:53 {{\n  bind {address}\n  errors\n  kubernetes cluster.local in-addr.arpa ip6.arpa {{\n"
            f"    pods insecure\n    kubeconfig {self.kubeconfig}\n  }}\n}}\n"
        )
        self.first.daemon("coredns", str(self.settings.programs / "coredns"), "-conf", str(path))
        self.apply(*_dns_service(address))

    def _ready(self) -> bool:
        for node in self.nodes:
            for daemon in node.machine.daemons.values():
                daemon.check()
        if self.try_kubectl("get", "serviceaccount", "default").returncode != 0:
            return False  # no pod could be made yet
        listed = self.get("nodes")["items"]
        return len(listed) == len(self.nodes) and all(_is_ready(node) for node in listed)


_CLIENTS: Final = (
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
)


def _let_all_watch() -> None:
    """Permit each user more inotify instances. A cluster has 16 before its first pod, so several at once need more than
    the kernel's 128; without, containerd starts without its CRI service, and the kubelet ends."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) >= _INOTIFY_INSTANCES:
        return
    try:
        limit.write_text(str(_INOTIFY_INSTANCES))
    except OSError as error:  # in a container, whose machine has to permit them
        print(
            f"{limit} cannot be set to {_INOTIFY_INSTANCES}: {error}; several clusters may not start", file=sys.stderr
        )


def network_words(name: str) -> list[str]:
    """The words before a command that is to run in a cluster's network, on its first node."""
    return ["nsenter", f"--net=/run/netns/{name}-{NodePlace(number=1).name}"]


def _is_ready(node: Any) -> bool:
    return any(told["type"] == "Ready" and told["status"] == "True" for told in node["status"]["conditions"])


def _dns_service(address: str) -> Sequence[object]:
    name = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": name,
        "spec": {"clusterIP": CLUSTER_DNS, "ports": ports},
    }
    # Not from a selector: it runs beside the node's programs, not in a pod.
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**name, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [address]}],
    }
    return (service, endpoints)


@contextmanager
def running(settings: Settings) -> Iterator[Cluster]:
    """A cluster for the length of the block; afterwards nothing of it is left, also when its start failed."""
    cluster = Cluster(settings)
    try:
        cluster.start()
        yield cluster
    finally:
        remove(settings.name)
        for machine in cluster.machines:
            machine.bury()
