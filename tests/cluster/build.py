"""The programs of a Kubernetes, from pinned Go modules: built once a set of pins, kept outside the checkout.

A build with nothing cached takes about fifteen minutes on two cores, and says what it is at. The folder is named for
the pins, so a changed pin builds anew, and two checkouts with different pins do not disturb each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GO: Final = Path(__file__).parent / "go"
CACHE_VARIABLE: Final = "RINGFENCE_CLUSTER_CACHE"


class BuildError(Exception):
    """A program could not be built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program and the Go package that it is built from."""

    name: str
    package: str
    version: str = ""
    """Of a module that is built by its own go.mod; empty: by ours."""
    kubernetes: bool = False
    """Is told Kubernetes' version, or its clients would see v0.0.0."""
    static: bool = False


def _kubernetes(name: str) -> Program:
    return Program(name=name, package=f"k8s.io/kubernetes/cmd/{name}", kubernetes=True)


def _containerd(name: str) -> Program:
    return Program(name=name, package=f"github.com/containerd/containerd/v2/cmd/{name}", version="v2.3.7")


def _network(folder: str, name: str) -> Program:
    package = f"github.com/containernetworking/plugins/plugins/{folder}/{name}"
    return Program(name=name, package=package, version="v1.9.1")


PROGRAMS: Final = (
    Program(name="pause", package="./pause", static=True),
    Program(name="etcd", package="go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    _kubernetes("kubectl"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    _network("main", "bridge"),
    _network("main", "loopback"),
    _network("ipam", "host-local"),
    _network("meta", "portmap"),
    Program(name="coredns", package="github.com/coredns/coredns", version="v1.15.0"),
    Program(name="helm", package="helm.sh/helm/v3/cmd/helm", version="v3.22.0"),
    Program(name="kubeconform", package="github.com/yannh/kubeconform/cmd/kubeconform", version="v0.8.0"),
)


def cache() -> Path:
    """Where all is kept that is costly to make: ``RINGFENCE_CLUSTER_CACHE``, or a folder of the user's cache."""
    told = os.environ.get(CACHE_VARIABLE)
    return Path(told) if told else Path.home() / ".cache" / "ringfence-cluster"


def pins() -> str:
    """What names a set of programs: a hash of all that says which sources they are built from."""
    digest = hashlib.sha256()
    for path in sorted(GO.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    digest.update(repr(PROGRAMS).encode())
    return digest.hexdigest()[:16]


def folder() -> Path:
    return cache() / pins() / "bin"


def missing() -> list[Program]:
    return [program for program in PROGRAMS if not (folder() / program.name).is_file()]


def ensure() -> Path:
    """The folder with all programs; builds those that are missing, one process at a time, and says which."""
    if not missing():
        return folder()
    if shutil.which("go") is None:
        raise BuildError("no go on the path (install Go 1.26 or newer)")
    folder().mkdir(parents=True, exist_ok=True)
    with alone(cache() / "build.lock"):
        wanted = missing()
        began = time.monotonic()
        for number, program in enumerate(wanted, 1):
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            say(f"building {program.name}, {number} of {len(wanted)}, after {minutes}:{seconds:02} of about 15:00")
            _build(program)
    return folder()


def _build(program: Program) -> None:
    scratch = folder() / f".{program.name}.{os.getpid()}"
    scratch.mkdir()
    environment = os.environ | {"GOBIN": str(scratch), "GOFLAGS": "-mod=mod" if program.version else ""}
    if program.static:
        environment["CGO_ENABLED"] = "0"
    flags = ["-ldflags", _version_flags()] if program.kubernetes else []
    if program.version:
        argv = ["go", "install", f"{program.package}@{program.version}"]
    else:
        argv = ["go", "build", *flags, "-o", str(scratch / program.name), program.package]
    try:
        built = subprocess.run(argv, cwd=GO, env=environment, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise BuildError(f"{program.name}: {' '.join(argv)}: {built.stderr[-2000:]}")
        (scratch / program.name).replace(folder() / program.name)
    finally:
        shutil.rmtree(scratch)


def _version_flags() -> str:
    listed = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"],
        cwd=GO,
        capture_output=True,
        text=True,
        check=True,
    )
    version = listed.stdout.strip()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    where = "k8s.io/component-base/version"
    return f"-X {where}.gitVersion={version} -X {where}.gitMajor={major} -X {where}.gitMinor={minor}"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Of all processes of this machine, one at a time in here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    """Progress, for whoever waits: past what pytest captures."""
    print(line, file=sys.__stderr__, flush=True)
