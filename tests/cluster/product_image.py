"""The product's image for the nodes of a test cluster, from the product's own Dockerfile, without a container engine.

The base image is made by debootstrap, once. It and every layer stay in a store beside the built programs, so that a
change of our code builds anew in seconds. Where pip finds packages is this machine's affair: its settings are handed in
as a secret that is there only while the image is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster import build
from tests.cluster.machine import ClusterError

REPOSITORY: Final = Path(__file__).parent.parent.parent
NAME: Final = "localhost/ringfence:test"
BASE: Final = "localhost/debian:bookworm"
_SUITE: Final = "bookworm"
_TIME: Final = "1577836800"
"""Of all files and layers: one for all, or a layer that is kept would differ from one that is built."""
_UNUSED_SECONDS: Final = 3 * 3600.0
"""An archive that nobody asked for so long is removed; of several checkouts each may be at work with its own."""
_STORE_IMAGES: Final = 100
"""More in the store than this: it is made anew."""
_DEADLINE_SECONDS: Final = 1800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A folder with images, and the layers of builds that went before."""

    folder: Path

    def buildah(self, *words: str) -> str:
        """Run buildah on it; what it printed."""
        where = [f"--root={self.folder}", "--storage-driver=overlay", "--storage-opt=skip_mount_home=true"]
        # In mounts of its own: what a build mounts is gone with it, also when it is killed; so nothing may remember it.
        apart = ["unshare", "--mount", "--propagation=private"]
        with _scratch() as scratch:
            return _run([*apart, "buildah", *where, f"--runroot={scratch}", *words])

    def has(self, name: str) -> bool:
        return bool(self.buildah("images", "--quiet", "--filter", f"reference={name}"))


def kept() -> Store:
    """The store beside the built programs."""
    return Store(folder=build.cache() / "containers")


def archive() -> Path:
    """An archive of the image of this checkout, built if its sources changed."""
    with build.alone(build.cache() / "image.lock"):
        store = kept()
        if len(store.buildah("images", "--quiet").split()) > _STORE_IMAGES:
            shutil.rmtree(store.folder)
        ensure_base(store)
        identity = build_image(store, REPOSITORY)
        folder = build.cache() / "images"
        folder.mkdir(exist_ok=True)
        path = folder / f"{identity}.tar"
        if not path.exists():
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            store.buildah("push", identity, f"docker-archive:{part}:{NAME}")
            part.replace(path)
        os.utime(path)
        for old in folder.glob("*.tar"):
            if time.time() - old.stat().st_mtime > _UNUSED_SECONDS:
                old.unlink()
        return path


def build_image(store: Store, context: Path) -> str:
    """Build the image of a checkout; its identity, which is a hash of all that it is."""
    with _scratch() as scratch:
        identity = scratch / "identity"
        file = context / "k8s" / "image" / "Dockerfile"
        store.buildah(
            "bud",
            *("--isolation=chroot", "--network=host", "--layers", f"--timestamp={_TIME}", f"--build-arg=BASE={BASE}"),
            *(f"--file={file}", f"--ignorefile={file}.dockerignore", f"--iidfile={identity}", f"--tag={NAME}"),
            *_package_settings(scratch),
            str(context),
        )
        return identity.read_text().strip().removeprefix("sha256:")


def ensure_base(store: Store) -> None:
    """Make the base image where it is not there yet."""
    if store.has(BASE):
        return
    build.say(f"making {BASE} by debootstrap, which takes a minute or two")
    with _scratch() as scratch:
        root = scratch / "root"
        _run(["debootstrap", "--variant=minbase", _SUITE, str(root), *_mirror()])
        for emptied in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / emptied)
            (root / emptied).mkdir()
        _run(["tar", "--directory", str(root), "--create", "--file", f"{scratch}/root.tar", "."])
        shutil.rmtree(root)
        (scratch / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["/bin/sh"]\n')
        store.buildah("bud", "--isolation=chroot", f"--timestamp={_TIME}", f"--tag={BASE}", str(scratch))


def _mirror() -> list[str]:
    """Where this machine itself has its packages from, where it is of the same family."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split()[1] for line in told.stdout.splitlines() if line.startswith(f"{_SUITE} ")][:1]


def _package_settings(scratch: Path) -> list[str]:
    """pip's settings on this machine, as secrets of a build: in no layer, and not in what names one."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:") and key != "find-links":
            settings[key] = value.strip("'\"")
    file = scratch / "pip.conf"
    words = [f"--secret=id=pip.conf,src={file}"]
    if certificate := settings.get("cert"):
        words.append(f"--secret=id=pip.crt,src={certificate}")
        settings["cert"] = "/run/pip.crt"
    file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    return words


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=build.cache()) as folder:
        yield Path(folder)


def _run(argv: list[str]) -> str:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(build.cache())}
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_DEADLINE_SECONDS, env=environment)
    if ran.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: {(ran.stdout + ran.stderr)[-4000:]}")
    return ran.stdout.strip()
