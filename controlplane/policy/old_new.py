"""The two policies that ``ringfence policy diff`` compares, each as it is named on the command line. Blocking work.

A file or folder; ``git:REV:PATH``, a path as a revision of the repository here has it; or ``running``. What git says is
taken as what somebody else wrote: bounded, and only regular files of it.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from controlplane.policy.loading import load
from controlplane.policy.options import Asked, refuse
from ringfence.policy.analysis.world import World
from ringfence.policy.problems import shown

GIT: Final = "git:"
RUNNING: Final = "running"  # a folder of that name is ./running
LIMIT_ARCHIVE_BYTES: Final = 64 << 20
_GIT_SECONDS: Final = 30


def named_world(name: str, mesh: Path | None, admin_socket: Path | None = None, state: Path | None = None) -> World:
    """The world of one policy; ends the command when there is none. The last two say which mesh runs."""
    if name == RUNNING:
        return Asked(mesh=None, policies=(), running=True, admin_socket=admin_socket, state=state).world()
    if not name.startswith(GIT):
        return _world(Path(name), mesh)
    revision, colon, path = name.removeprefix(GIT).partition(":")
    if not colon or not revision or revision.startswith("-") or not path:
        refuse([f"{shown(name)} names no revision and path (write it like git:main:policies)"])
    with _checked_out(revision, path) as (root, file):
        return _world(file, mesh, hide=f"{root}/", show=f"{GIT}{revision}:")


def _world(path: Path, mesh: Path | None, *, hide: str = "", show: str = "") -> World:
    if not path.exists():
        refuse([f"{show}{str(path).removeprefix(hide)}: there is no such file or folder"])
    # A mesh file alone says where its policies are.
    loaded = load(
        [] if mesh is None and path.is_file() and path.name == "mesh.yaml" else [path],
        mesh=mesh or _own(path),
        here=False,
    )
    if loaded.world is None:
        refuse(str(problem).replace(hide, show) if hide else problem for problem in loaded.problems)
    return loaded.world


def _own(path: Path) -> Path | None:
    return path if path.is_file() and path.name == "mesh.yaml" else None


@contextmanager
def _checked_out(revision: str, path: str) -> Iterator[tuple[Path, Path]]:
    """A folder with what ``path`` is at ``revision``, and where in it; gone when the block ends."""
    command = ["git", "archive", "--format=tar", revision, "--", path]
    try:
        made = subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        refuse([f"git cannot be asked: {error}"])
    if made.returncode:
        said = made.stderr.decode(errors="replace").strip().splitlines()
        refuse([f"git:{revision}:{path}: {said[-1] if said else 'git archive failed'}"])
    if len(made.stdout) > LIMIT_ARCHIVE_BYTES:
        refuse([f"git:{revision}:{path} is larger than {LIMIT_ARCHIVE_BYTES} bytes (name the policy folder alone)"])
    with tempfile.TemporaryDirectory(prefix="ringfence-diff-") as folder:
        root = Path(folder)
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
            _extract(archive, root)
        yield root, root / path


def _extract(archive: tarfile.TarFile, root: Path) -> None:
    """Its plain files and folders below ``root``, and nothing anywhere else; links are left out. By hand, since
    ``tarfile`` has filters from Python 3.11.4 on only."""
    for member in archive.getmembers():
        place = root / member.name  # an absolute name leaves root behind
        if ".." in place.parts or not place.is_relative_to(root):
            continue
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif (content := archive.extractfile(member) if member.isfile() else None) is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.read())
