"""Where a mesh of one machine keeps what it must keep: the state folder, the run folder in it, the passphrase outside.

The CA's keys lie encrypted in the state folder, so what opens them lies elsewhere: a copy of the one is worth nothing
without the other. Folders are made with mode 0700, files that hold a secret with 0600.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.kit.private_file import replace_private

_PASSPHRASE_BYTES: Final = 32
# sun_path holds 108 bytes with its closing NUL.
_SOCKET_PATH_LIMIT_BYTES: Final = 107


class PlaceError(Exception):
    """A folder or file cannot be used; the message names it and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """All paths of one mesh; ``state`` is absolute."""

    state: Path
    passphrase_file: Path

    @property
    def control_plane(self) -> Path:
        """State of the control plane."""
        return self.state / "controlplane"

    @property
    def authority(self) -> Path:
        """Data folder of the CA."""
        return self.control_plane / "ca"

    @property
    def admin_socket(self) -> Path:
        """The control plane's, for ``up`` itself and for ``ringfence status``, which looks for it here."""
        return self._socket(self.control_plane / "admin.sock")

    def sidecar(self, namespace: str, service: str, instance: str = "") -> Path:
        """State of one sidecar: its host key and last good snapshot."""
        return self.state / "sidecars" / _workload(namespace, service, instance)

    def sidecar_admin_socket(self, namespace: str, service: str, instance: str = "") -> Path:
        return self._socket(self.sidecar(namespace, service, instance) / "admin.sock")

    def join_token_file(self, namespace: str, service: str, instance: str = "") -> Path:
        return self.state / "run" / f"{_workload(namespace, service, instance)}.token"

    @property
    def short(self) -> Path:
        """Where sockets go whose place in the state folder has too long a path for a Unix socket."""
        return Path("/tmp") / f"ringfence-{os.geteuid()}-{_hash(self.state)}"

    def make(self) -> None:
        """Make the folders, each for its owner only. PlaceError if one cannot be, or is somebody else's."""
        for folder in (self.state, self.state / "run", self.state / "sidecars", self.control_plane):
            make_private_folder(folder)

    def make_short(self, sockets: Iterable[Path]) -> None:
        """Make the folder for short paths if one of ``sockets`` lies in it. PlaceError."""
        if any(socket.parent == self.short for socket in sockets):
            make_private_folder(self.short, through_link=False)  # anybody may put a link into /tmp

    def remove_short(self) -> None:
        """What is in it was made anew at each start, and lies outside the state folder."""
        shutil.rmtree(self.short, ignore_errors=True)

    def _socket(self, preferred: Path) -> Path:
        if len(os.fsencode(preferred)) <= _SOCKET_PATH_LIMIT_BYTES:
            return preferred
        return self.short / f"{_hash(preferred)}.sock"


def _workload(namespace: str, service: str, instance: str) -> str:
    """One name for each workload: none of its parts has a dot."""
    return ".".join(filter(None, (namespace, service, instance)))


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def default_state(mesh_file: Path, mesh_name: str) -> Path:
    """``.ringfence/<mesh>`` beside the mesh file."""
    return mesh_file.absolute().parent / ".ringfence" / mesh_name


def default_passphrase_file(state: Path, mesh_name: str, environ: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/ringfence/<mesh>-<hash of the state's path>.passphrase``; ``~/.config`` where that is not set.

    XDG Base Directory Specification: a relative value is to be ignored.
    """
    configured = Path(environ.get("XDG_CONFIG_HOME", ""))
    home = configured if configured.is_absolute() else Path.home() / ".config"
    return home / "ringfence" / f"{mesh_name}-{_hash(state)}.passphrase"


def make_private_folder(path: Path, *, through_link: bool = True) -> None:
    """Make ``path`` with mode 0700, or take it as it is if it is ours and nobody else may write. PlaceError else."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat(follow_symlinks=through_link)
    except OSError as error:
        raise PlaceError(f"{path} cannot be made: {error.strerror} (choose another --state)") from error
    if not stat.S_ISDIR(found.st_mode):
        raise PlaceError(f"{path} is no folder (remove it, or choose another --state)")
    if found.st_uid != os.geteuid():
        raise PlaceError(f"{path} belongs to user {found.st_uid} (choose another --state)")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise PlaceError(f"{path} may be written by others (chmod 700 {path})")


def ensure_passphrase(path: Path, *, authority_exists: bool) -> bool:
    """Make a random passphrase at ``path`` if there is none; whether it was made.

    PlaceError where it would be of no use: an authority is there already, sealed with one that is not here; or where
    others may read it.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if authority_exists:
            raise PlaceError(
                f"{path} is not there, and holds what opens the CA's keys (restore it, or name the file that does by "
                "--passphrase-file)"
            ) from None
        make_private_folder(path.parent)
        try:
            replace_private(path, secrets.token_urlsafe(_PASSPHRASE_BYTES).encode() + b"\n")
        except OSError as error:
            raise PlaceError(f"{path} cannot be written: {error.strerror}") from error
        return True
    except OSError as error:
        raise PlaceError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise PlaceError(f"{path} may be read by others (chmod 600 {path})")
    return False


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the state folder for this process; PlaceError if another one does. The kernel lets go when it ends."""
    descriptor = os.open(state / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise PlaceError(
                f"{state} is in use by process {holder or 'unknown'} (stop it, or choose another --state)"
            ) from error
        os.truncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(descriptor)
