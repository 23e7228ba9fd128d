"""All that is checked and made before anything of a mesh is started: files, folders, passphrase, authority, sockets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ca import CaError, init_authority, read_passphrase_file
from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import Sources
from controlplane.up.children import MeshLaunch, app_directory, app_environment
from controlplane.up.places import (
    PlaceError,
    Places,
    default_passphrase_file,
    default_state,
    ensure_passphrase,
    only_one,
)
from controlplane.up.sockets import unavailable, wanted_sockets
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from ringfence.mesh import Mesh
from ringfence.policy.problems import Place, shown
from ringfence.policy.yamltree import LIMIT_BYTES


class BadMeshError(Exception):
    """The mesh file, a policy, or what they name is wrong; ``lines`` has one clear line for each problem."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class CannotStartError(Exception):
    """The mesh is good, but this machine cannot run it now; ``lines`` says why, one line for each reason."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def read_whole_mesh(mesh_file: Path) -> Mesh:
    """The mesh of a file that is good as a whole, its policies included. BadMeshError with all problems."""
    if not mesh_file.exists():
        raise BadMeshError([f"{mesh_file}:1:1: cannot be read: no such file (name the mesh file by --file)"])
    reader = ContentReader(clock=SystemClock(), limit_bytes=LIMIT_BYTES)
    configuration, problems = Judge().judge(Sources(mesh_file, reader, policy_folder_named).read())
    if configuration is None:
        raise BadMeshError([str(problem) for problem in problems])
    return configuration.document.mesh


def check_runs(mesh: Mesh, mesh_file: Path, environ: Mapping[str, str]) -> None:
    """What ``run`` names must be there: the folder, and the program. BadMeshError with all problems."""
    problems = []
    for service, instance in mesh.workloads:
        run = instance.run
        if run is None:
            continue
        place, name = Place(str(mesh_file), *run.place), service.name_of(instance)
        directory, program = app_directory(mesh_file, run), run.command[0]
        path = app_environment(environ, run)["PATH"]
        found = shutil.which(directory / program if "/" in program else program, path=path)
        if not directory.is_dir():
            what = f"run.directory of {name}: {directory} is no folder"
            problems.append(place.problem(what, "make it"))
        elif found is None:
            what = f"run.command of {name}: {shown(program)} is no program that can be run"
            problems.append(place.problem(what, "install it, or name another"))
    if problems:
        raise BadMeshError([str(problem) for problem in problems])


@contextmanager
def prepared(
    mesh_file: Path, environ: Mapping[str, str], *, state: Path | None = None, passphrase_file: Path | None = None
) -> Iterator[MeshLaunch]:
    """Everything that a mesh needs before its start; its state folder is held until the end of the block.

    Raises BadMeshError, with nothing made, or CannotStartError.
    """
    mesh = read_whole_mesh(mesh_file)
    check_runs(mesh, mesh_file, environ)
    state = (state or default_state(mesh_file, mesh.name)).absolute()
    places = Places(
        state=state,
        passphrase_file=(passphrase_file or default_passphrase_file(state, mesh.name, environ)).absolute(),
    )
    try:
        places.make()
        with only_one(state), _short_paths(mesh, places):
            _ensure_authority(mesh, places, own_passphrase=passphrase_file is None)
            if taken := unavailable(wanted_sockets(mesh)):
                raise CannotStartError([f"{mesh_file}: {line}" for line in taken])
            yield MeshLaunch(mesh=mesh, mesh_file=mesh_file.absolute(), places=places, environment=environ)
    except PlaceError as error:
        raise CannotStartError([str(error)]) from error


@contextmanager
def _short_paths(mesh: Mesh, places: Places) -> Iterator[None]:
    sidecars = (
        places.sidecar_admin_socket(service.namespace, service.name, instance.name)
        for service, instance in mesh.workloads
    )
    places.make_short([places.admin_socket, *sidecars])
    try:
        yield
    finally:
        places.remove_short()


def _ensure_authority(mesh: Mesh, places: Places, *, own_passphrase: bool) -> None:
    """Make the mesh's CA at its first start, and the passphrase where nobody named one."""
    exists = places.authority.exists()
    try:
        if own_passphrase:
            ensure_passphrase(places.passphrase_file, authority_exists=exists)
        if not exists:
            passphrase = read_passphrase_file(places.passphrase_file, places.authority)
            init_authority(places.authority, mesh.trust_domain, passphrase)
    except CaError as error:
        raise CannotStartError([str(error)]) from error
