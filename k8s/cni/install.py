"""Puts the plugin onto a node, and keeps it there: a copy of the image, a script, and a place in the node's list.

The node needs nothing of ours but a shell: the script changes its root to the copy, and there the plugin runs. So it
works while no pod of ours does, also right after the node started again; and what it leaves in the list makes pods fail
that should be redirected and cannot be.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from k8s.objects import names
from ringfence.policy.problems import shown

PLUGIN: Final = "ringfence-cni"
_ACCESS: Final = "/run/ringfence-cni/access.json"
_COPIED: Final = ("bin", "etc", "lib", "lib64", "opt", "sbin", "usr")
_ROOTS_KEPT: Final = 2
_LIST_LIMIT_BYTES: Final = 1024 * 1024
_SCRIPT: Final = """\
#!/bin/sh
# Ringfence's CNI plugin, written by `ringfence k8s cni-install`. It runs from a copy of its image's files.
set -eu
if [ -n "${CNI_NETNS:-}" ] && [ -e "$CNI_NETNS" ]; then
  exec 9<"$CNI_NETNS"
  export RINGFENCE_CNI_NETNS=/proc/self/fd/9
fi
exec unshare --mount --propagation=private /bin/sh -euc '
mount --bind /proc "$1/proc"
mount --bind /dev "$1/dev"
export PATH=/opt/ringfence/code/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
exec chroot "$1" ringfence k8s cni' sh '@ROOT@'
"""


class InstallError(Exception):
    """The plugin cannot be put onto the node; one line with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Of the node, as this process sees them; ``roots_on_node``: ``roots`` as the node itself sees it. ``account``: the
    folder with token and authority of this pod; ``image``: whose files are copied."""

    programs: Path
    lists: Path
    roots: Path
    roots_on_node: Path
    account: Path
    server: str
    exclude_namespaces: tuple[str, ...] = ()
    image: Path = Path("/")


def with_plugin(document: Mapping[str, Any], plugin: Mapping[str, Any]) -> dict[str, Any]:
    """A list of plugins with ours as its last, in place of an older one. Raises InstallError."""
    return {**document, "plugins": [*_others(document), dict(plugin)]}


def without_plugin(document: Mapping[str, Any]) -> dict[str, Any]:
    """The list as it was before. Raises InstallError."""
    return {**document, "plugins": _others(document)}


def _others(document: Mapping[str, Any]) -> list[Any]:
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(one, dict) for one in plugins):
        raise InstallError("the node's CNI configuration has no list of plugins (write it as a .conflist)")
    return [one for one in plugins if one.get("type") != PLUGIN]


class Installer:
    """``start`` once, then ``keep`` again and again."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._root: Path | None = None

    def start(self, name: str) -> None:
        """Copy the image's files under ``name``, and let the script run from there. Raises InstallError."""
        places = self._places
        root = places.roots / name
        try:
            # Before anything is in it: what the image has of setuid programs is older than the node's own one day, and
            # is nothing for the node's users.
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)
            for folder in ("proc", "dev", "run/ringfence-cni", "tmp"):
                (root / folder).mkdir(parents=True, exist_ok=True)
            (root / "run/ringfence-cni").chmod(0o700)
            self._copy(root)
            self._root = root
            self._write_access(root)
            script = _SCRIPT.replace("@ROOT@", str(places.roots_on_node / name))
            _replace(places.programs / PLUGIN, script.encode(), 0o755)
            self._forget_others(name)
        except OSError as error:
            raise InstallError(f"{error.filename}: {error.strerror} (mount the node's folders, writable)") from error

    def keep(self) -> bool:
        """Put back what is not as it should be; whether anything was. Raises InstallError."""
        if self._root is None:
            raise AssertionError("start comes first")
        try:
            changed = self._write_access(self._root)
            return self._list(put=True) or changed
        except OSError as error:
            raise InstallError(f"{error.filename}: {error.strerror} (mount the node's folders, writable)") from error

    def remove(self) -> bool:
        """Take all away, first the place in the list, so that no pod asks for what is gone; whether anything was there.
        Raises InstallError."""
        script = self._places.programs / PLUGIN
        try:
            there = self._list(put=False)
            there = script.exists() or there
            script.unlink(missing_ok=True)
            for root in self._places.roots.iterdir():
                there = True
                shutil.rmtree(root, ignore_errors=True)
        except OSError as error:
            raise InstallError(f"{error.filename}: {error.strerror} (mount the node's folders, writable)") from error
        return there

    def list_path(self) -> Path | None:
        """The configuration that the runtime takes: the first by name; None while there is none."""
        found = sorted(path for path in self._places.lists.iterdir() if path.suffix in (".conf", ".conflist", ".json"))
        return found[0] if found else None

    def _list(self, *, put: bool) -> bool:
        path = self.list_path()
        if path is None:
            if put:
                raise InstallError(f"{self._places.lists}: no CNI configuration (install the node's network first)")
            return False
        document = _read(path)
        plugin = {
            "type": PLUGIN,
            "access": _ACCESS,
            "excludeNamespaces": sorted({*names.NEVER_MESHED, *self._places.exclude_namespaces}),
        }
        wanted = with_plugin(document, plugin) if put else without_plugin(document)
        if wanted == document:
            return False
        _replace(path, json.dumps(wanted, indent=2).encode() + b"\n", path.stat().st_mode & 0o777)
        return True

    def _copy(self, root: Path) -> None:
        sources = [str(self._places.image / name) for name in _COPIED if (self._places.image / name).exists()]
        done = subprocess.run(
            [
                "cp",
                "--recursive",
                "--no-dereference",
                "--preserve=mode,links",
                "--one-file-system",
                *sources,
                str(root),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise InstallError(
                f"the image's files cannot be copied to {root}: {shown(done.stderr.strip())} (make room)"
            )

    def _write_access(self, root: Path) -> bool:
        """The token ends after an hour, and the kubelet renews it in the folder."""
        token = (self._places.account / "token").read_text().strip()
        authority = (self._places.account / "ca.crt").read_text()
        said = json.dumps({"server": self._places.server, "authority": authority, "token": token}).encode()
        path = root / _ACCESS.lstrip("/")
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == said:
                return False
        _replace(path, said, 0o600)
        return True

    def _forget_others(self, name: str) -> None:
        """Old copies, but for the last, from which a pod may be starting just now."""
        others = sorted((one for one in self._places.roots.iterdir() if one.name != name), key=lambda one: one.name)
        for old in others[: len(others) - _ROOTS_KEPT + 1]:
            shutil.rmtree(old, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(_LIST_LIMIT_BYTES + 1)
    try:
        document = json.loads(content) if len(content) <= _LIST_LIMIT_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InstallError(f"{path}: no CNI configuration (mend it)")
    return document


def _replace(path: Path, content: bytes, mode: int) -> None:
    """At once, so that nobody reads half of it."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(mode)
    part.replace(path)
