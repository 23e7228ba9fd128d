"""Where the admin socket of a control plane is, for commands that ask it."""

from __future__ import annotations

from pathlib import Path


class AdminPlaceError(ValueError):
    """It cannot be told which control plane is meant; the message says what to give."""


def find_admin_socket(admin_socket: Path | None, state: Path | None) -> Path:
    """``admin_socket`` itself; else the socket in ``state``, a folder of the control plane or of ``up``; without
    either, of the only mesh that ``up`` runs here. Raises AdminPlaceError."""
    if admin_socket is not None:
        return admin_socket
    if state is not None:
        candidates = (state / "run" / "admin.sock", state / "admin.sock", state / "controlplane" / "admin.sock")
        return next((path for path in candidates if path.exists()), candidates[0])
    found = sorted(Path(".ringfence").glob("*/controlplane/admin.sock"))
    if len(found) != 1:
        what = "no mesh" if not found else f"{len(found)} meshes"
        raise AdminPlaceError(
            f"--state: missing, and there is {what} under .ringfence (give --state or --admin-socket)"
        )
    return found[0]
