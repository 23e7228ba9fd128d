"""The chart in a cluster of a test's own: what helm says of it, and what it keeps."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k8s.manifests.render import CHART
from tests.cluster.cluster import Cluster, Settings, network_words, running
from tests.cluster.machine import environment, until
from tests.cluster.product_image import NAME

SYSTEM = "ringfence-system"
_IMAGE, _, _TAG = NAME.rpartition(":")
_LOST = re.compile("holds no authority.*bring back its volume, or a backup by ringfence ca import", re.DOTALL)
VALUES = [
    "--set=trustDomain=shop.example",
    f"--set=image.repository={_IMAGE},image.tag={_TAG},image.pullPolicy=Never",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A cluster, and the folder of its only volume."""

    cluster: Cluster
    volume: Path

    def helm(self, *words: str) -> subprocess.CompletedProcess[str]:
        folder = self.cluster.folder / "helm"
        homes = {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        argv = [str(self.cluster.settings.programs / "helm"), f"--kubeconfig={self.cluster.kubeconfig}", *words]
        return subprocess.run(
            [*network_words(self.cluster.name), *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=environment(self.cluster.name) | homes,
        )

    def done(self, *words: str) -> str:
        """What helm said, of which nothing is a complaint."""
        ran = self.helm(*words)
        told = ran.stderr + self.state()
        assert ran.returncode == 0, told
        assert ran.stderr == "", told
        return ran.stdout

    def install(self, *more: str) -> str:
        words = ("--create-namespace", "--wait", "--timeout=180s", *VALUES, *more)
        return self.done("install", "ringfence", str(CHART), f"--namespace={SYSTEM}", *words)

    def lose_volume(self) -> None:
        """Stop the control plane, empty its volume, and start it: it says what is missing, and does not come up."""
        cluster, where = self.cluster, f"--namespace={SYSTEM}"
        ours = ("--selector=app.kubernetes.io/component=control-plane", "--output=name")
        cluster.kubectl("scale", "deploy/ringfence", "--replicas=0", where)
        until(lambda: not cluster.kubectl("get", "pods", where, *ours), "no control plane")
        for path in self.volume.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        cluster.kubectl("scale", "deploy/ringfence", "--replicas=1", where)
        # In one look: the container starts again and again, and each time its log is empty at first.
        until(lambda: _LOST.search(self.authority_log()), "words about the loss and its mend")

    def authority_log(self) -> str:
        """What the container says that makes the authority, or finds it."""
        words = ("logs", "deploy/ringfence", "--container=authority", f"--namespace={SYSTEM}")
        return self.cluster.try_kubectl(*words).stdout

    def state(self) -> str:
        words = ("logs", "deploy/ringfence", f"--namespace={SYSTEM}", "--all-containers", "--tail=20")
        listed = self.cluster.try_kubectl("get", "pods,events", f"--namespace={SYSTEM}").stdout
        return listed + self.cluster.try_kubectl(*words).stdout

    def secrets(self) -> tuple[str, str]:
        """The passphrase, and the root on record."""
        passphrase = self.cluster.get("secret", "ringfence-passphrase", f"--namespace={SYSTEM}")["data"]["passphrase"]
        record = self.cluster.get("configmap", "ringfence-root", f"--namespace={SYSTEM}")["data"]["root.pem"]
        return passphrase, record

    def root(self) -> str:
        """The root by which the control plane issues."""
        return self.run("ca", "bundle", "--data", "/var/lib/ringfence/ca")

    def run(self, *words: str) -> str:
        where = ("exec", "deploy/ringfence", "--container=ringfence", f"--namespace={SYSTEM}", "--", "ringfence")
        return self.cluster.kubectl(*where, *words)


@contextmanager
def placed(programs: Path, image: Path) -> Iterator[Place]:
    """A cluster with a volume, in which nothing is installed yet."""
    with running(Settings(programs=programs, images=(image,))) as cluster:
        volume = cluster.folder / "volumes" / "authority"
        volume.mkdir(parents=True)
        shutil.chown(volume, 15200, 15200)
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(volume)},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        head = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "authority"}}
        cluster.apply({**head, "spec": spec})
        yield Place(cluster=cluster, volume=volume)
