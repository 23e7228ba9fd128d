"""Where the admin sockets of a mesh's sidecars are, for commands that ask them all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

SOCKETS_LIMIT = 1_000


class AdminPlacesError(ValueError):
    """It cannot be told which sidecars are meant; the message says what to give."""


def own_socket(environ: Mapping[str, str]) -> Path | None:
    """The admin socket of the sidecar whose settings ``environ`` holds: in its container a command need not name it."""
    if named := environ.get("RINGFENCE_SIDECAR_ADMIN_SOCKET", ""):
        return Path(named)
    state = environ.get("RINGFENCE_SIDECAR_STATE", "")
    return Path(state) / "run" / "admin.sock" if state else None


def find_admin_sockets(given: tuple[Path, ...], state: Path | None) -> list[Path]:
    """``given`` themselves; else those in ``state``, a folder of ``up``; without either, of the only mesh that ``up``
    runs here. Raises AdminPlacesError."""
    if given:
        return list(given)
    if state is None:
        found = sorted(path for path in Path(".ringfence").glob("*") if (path / "sidecars").is_dir())
        if len(found) != 1:
            what = "no mesh" if not found else f"{len(found)} meshes"
            raise AdminPlacesError(f"--state: missing, and there is {what} under .ringfence (give --state or --socket)")
        [state] = found
    sockets = sorted((state / "sidecars").glob("*/admin.sock")) + _short(state.absolute())
    if not sockets:
        raise AdminPlacesError(f"--state: no sidecar of {state} has an admin socket (start them, or give --socket)")
    return sockets[:SOCKETS_LIMIT]


def _short(state: Path) -> list[Path]:
    """Where ``up`` puts sockets whose path would be too long for one; not what somebody else put there."""
    folder = Path("/tmp") / f"ringfence-{os.geteuid()}-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"
    try:
        held = folder.lstat()
    except OSError:
        return []
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
        return []
    return sorted(folder.glob("*.sock"))
