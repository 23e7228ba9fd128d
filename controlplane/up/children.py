"""The children of a mesh: what to run for the control plane, for each sidecar and each app. Pure.

Nothing secret goes onto a command line or into an environment: those are shown to the whole machine, or passed on to
whatever a child starts. Secrets go by files that only their owner may read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.up.places import Places
from controlplane.up.process import Launch
from controlplane.up.supervisor import ChildSpec, Tier
from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import Instance, Mesh, Run, Service

# Not the script beside the interpreter: that exists only where the package was installed with scripts. -P: the folder
# that `up` was called in may hold a folder `sidecar` of its own, and must not be searched.
_RINGFENCE: Final = (sys.executable, "-P", "-m", "ringfence")
_SIDECAR: Final = (sys.executable, "-P", "-m", "sidecar")  # `ringfence sidecar`, and 2 MB smaller
_OWN_PREFIX: Final = "RINGFENCE_"
_SIDECAR_DRAIN_SECONDS: Final = 5
_SIDECAR_GRACE_SECONDS: Final = 8.0

CONTROL_PLANE: Final = "control plane"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshLaunch:
    """A mesh, where its files are, and the environment that its children start from."""

    mesh: Mesh
    mesh_file: Path
    places: Places
    environment: Mapping[str, str] = field(repr=False)


def sidecar_name(service: Service, instance: Instance) -> str:
    return f"{service.name_of(instance)} sidecar"


def app_name(service: Service, instance: Instance) -> str:
    return f"{service.name_of(instance)} app"


def control_plane_child(launch: MeshLaunch) -> ChildSpec:
    command = (
        *_RINGFENCE,
        "controlplane",
        *("--mesh", str(launch.mesh_file)),
        *("--state", str(launch.places.control_plane)),
        *("--passphrase-file", str(launch.places.passphrase_file)),
        *("--admin-socket", str(launch.places.admin_socket)),
    )
    return ChildSpec(
        name=CONTROL_PLANE,
        tier=Tier.CONTROL_PLANE,
        launch=Launch(command=command, directory=Path("/"), environment=_own_environment(launch.environment)),
    )


def sidecar_child(
    launch: MeshLaunch, service: Service, instance: Instance, signals: SocketAddress, root_fingerprint: str
) -> ChildSpec:
    """The sidecar of an instance; ``signals``: where it serves /readyz, chosen by us where the mesh leaves it open."""
    addresses, places = launch.mesh.control_plane, launch.places
    names = service.namespace, service.name, instance.name
    command = (
        *_SIDECAR,
        *("--spiffe-id", str(service.spiffe_id)),
        *(("--instance", instance.name) if instance.name else ()),
        *("--join", str(reachable(addresses.join))),
        *("--control", str(reachable(addresses.listen))),
        *("--root-fingerprint", root_fingerprint),
        *("--join-token-file", str(places.join_token_file(*names))),
        *("--state", str(places.sidecar(*names))),
        *("--signals", str(signals)),
        *("--admin-socket", str(places.sidecar_admin_socket(*names))),
        *("--access-log", str(service.access_log.mode)),
        *_sample(service.access_log.sample),
        *_tracing(launch),
        *("--workers", str(service.workers)),
        *("--drain", f"{_SIDECAR_DRAIN_SECONDS}s"),
    )
    return ChildSpec(
        name=sidecar_name(service, instance),
        tier=Tier.SIDECAR,
        launch=Launch(command=command, directory=Path("/"), environment=_own_environment(launch.environment)),
        grace_seconds=_SIDECAR_GRACE_SECONDS,
    )


def _sample(share: float) -> tuple[str, ...]:
    return ("--access-log-sample", f"{share:.9f}") if share < 1.0 else ()


def _tracing(launch: MeshLaunch) -> tuple[str, ...]:
    tracing = launch.mesh.tracing
    if tracing is None:
        return ()
    flags = ("--tracing-endpoint", tracing.endpoint, "--tracing-sample", f"{tracing.sample:.9f}")
    if not tracing.headers_file:
        return flags
    return (*flags, "--tracing-headers-file", str(launch.mesh_file.parent / tracing.headers_file))


def app_child(launch: MeshLaunch, service: Service, instance: Instance, run: Run) -> ChildSpec:
    """The app of an instance: its folder starts at the mesh file's; the interpreter's own folder ends its PATH."""
    environment = app_environment(launch.environment, run)
    return ChildSpec(
        name=app_name(service, instance),
        tier=Tier.APP,
        launch=Launch(command=run.command, directory=app_directory(launch.mesh_file, run), environment=environment),
    )


def app_environment(environ: Mapping[str, str], run: Run) -> dict[str, str]:
    """Ours without our own settings, then what ``run`` says."""
    environment = _own_environment(environ)
    # So that ["python3", "app.py"] works where ringfence brought the only Python, in an image or a virtual environment.
    environment["PATH"] = ":".join(filter(None, (environment.get("PATH", ""), str(Path(sys.executable).parent))))
    environment["PYTHONUNBUFFERED"] = "1"  # an app's lines are to be seen when it writes them
    environment.update(run.environment)
    return environment


def app_directory(mesh_file: Path, run: Run) -> Path:
    return mesh_file.parent / run.directory


def reachable(address: SocketAddress) -> SocketAddress:
    """Where a process of this machine reaches a listener on ``address``: loopback for the unspecified addresses."""
    if not address.unspecified:
        return address
    return SocketAddress("::1" if ":" in address.host else "127.0.0.1", address.port)


def _own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Of this process, but for settings: what a child of ours is to do is on its command line, all of it."""
    return {name: value for name, value in environment.items() if not name.startswith(_OWN_PREFIX)}
