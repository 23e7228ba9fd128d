"""Files to a world: the shared door of every command that answers from files.

``load(PATHS, mesh=…)`` reads documents from files and folders, and the mesh file that is named or found; it judges them
as the control plane would, and answers a world or every problem. What is read is bounded like a control plane's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane.intake.configuration import Configuration
from controlplane.intake.judging import Judge, policy_folder_named, read_policy_file
from controlplane.intake.sources import (
    POLICY_FILE_LIMIT,
    POLICY_LIMIT_BYTES,
    POLICY_SUFFIXES,
    PolicyFolder,
    SourceFiles,
)
from controlplane.intake.world import world_of
from ringfence.kit.clock import Clock, SystemClock
from ringfence.kit.watch import ContentReader, FileContent, list_files
from ringfence.policy.analysis.world import World
from ringfence.policy.problems import Problem, errors
from ringfence.policy.yamltree import LIMIT_BYTES, MappingNode, ScalarNode, load_yaml
from ringfence.routing.documents import RouteDocument

MESH_FILE: Final = "mesh.yaml"
_PARENTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the files say, warnings among ``problems``. ``configuration`` and ``world`` are None where there is an error
    (also: no mesh file). ``alone``: there is no mesh file, and each document was read by itself."""

    problems: tuple[Problem, ...]
    documents: int = 0
    alone: bool = False
    configuration: Configuration | None = None
    world: World | None = None
    mesh_file: Path | None = None


def load(
    paths: Sequence[Path],
    *,
    mesh: Path | None = None,
    clock: Clock | None = None,
    alone: bool = False,
    here: bool = True,
) -> Loaded:
    """The documents of ``paths``, files and folders, bound to the services of a mesh. Blocking work.

    The mesh file is ``mesh``; else one among ``paths``, or ``mesh.yaml`` beside one. A folder with a ``mesh.yaml``
    stands for that file and the folder of policies that it names, as does the mesh file where no other path is given.
    With ``alone`` no mesh file is no error. ``here``: whether secrets are to be found, as where the documents are put
    in force.
    """
    clock = clock or SystemClock()
    reader = ContentReader(clock=clock, limit_bytes=LIMIT_BYTES)
    problems: list[Problem] = []
    files = _read(_listed(paths, reader, problems), reader, problems)
    found = [file for file in files if mesh is None and _is_mesh(file)]
    if len(found) > 1:
        second = str(found[1].path)
        problems.append(Problem(second, 1, 1, f"a second mesh file, after {found[0].path}", "name one by --mesh"))
    mesh_file = reader.read(mesh) if mesh is not None else found[0] if found else _beside(paths, reader)
    if mesh_file is None and alone:
        return _alone(files, problems)
    if mesh_file is None:
        where = str(paths[0]) if paths else "."
        problems.append(Problem(where, 1, 1, "there is no mesh file here", "name it by --mesh"))
        return Loaded(problems=tuple(sorted(problems)))
    documents = [file for file in files if file.path.resolve() != mesh_file.path.resolve() and file not in found]
    if not documents:
        folder = policy_folder_named(mesh_file.content)
        if folder is not None:
            named = mesh_file.path.parent / folder
            documents = _read(_listed([named], reader, problems), reader, problems)
    sources = SourceFiles(mesh=mesh_file, policies=PolicyFolder(path=mesh_file.path.parent, files=tuple(documents)))
    configuration, told = Judge(clock, here=here).judge(sources)
    problems = sorted([*problems, *told])
    count = len(configuration.documents) if configuration is not None else 0
    if configuration is None or errors(problems):
        return Loaded(problems=tuple(problems), documents=count, mesh_file=mesh_file.path)
    return Loaded(
        problems=tuple(problems),
        documents=count,
        configuration=configuration,
        world=world_of(configuration),
        mesh_file=mesh_file.path,
    )


def _alone(files: Iterable[FileContent], problems: list[Problem]) -> Loaded:
    """Each document by itself."""
    documents = 0
    for file in files:
        found, told = read_policy_file(file)
        documents += sum(not isinstance(one, RouteDocument) for one in found)
        problems += told
    return Loaded(problems=tuple(sorted(problems)), documents=documents, alone=True)


def _read(paths: Iterable[Path], reader: ContentReader, problems: list[Problem]) -> list[FileContent]:
    """The files, as many as a control plane would read."""
    files: list[FileContent] = []
    left = POLICY_LIMIT_BYTES
    for path in paths:
        files.append(reader.read(path))
        left -= len(files[-1].content)
        if left < 0 or len(files) > POLICY_FILE_LIMIT:
            message = f"more than {POLICY_FILE_LIMIT} files or {POLICY_LIMIT_BYTES} bytes up to here"
            problems.append(Problem(str(path), 1, 1, message, "name fewer"))
            break
    return files


def _listed(paths: Iterable[Path], reader: ContentReader, problems: list[Problem]) -> list[Path]:
    """The files that ``paths`` mean, each once, those of a folder in the order of their paths."""
    found: dict[Path, None] = {}
    for given in paths:
        path, mesh_file = given, given / MESH_FILE
        if mesh_file.is_file():
            found[mesh_file] = None
            named = policy_folder_named(reader.read(mesh_file).content)
            if named is None:
                continue
            path = path / named
        try:
            files = list_files(path, POLICY_SUFFIXES, POLICY_FILE_LIMIT) if path.is_dir() else [path]
        except OSError as error:
            problems.append(Problem(str(path), 1, 1, f"cannot be read: {error.strerror or error}"))
            continue
        if len(files) > POLICY_FILE_LIMIT:
            problems.append(Problem(str(path), 1, 1, f"it holds more than {POLICY_FILE_LIMIT} files", "name fewer"))
            continue
        found.update(dict.fromkeys(files))
    return list(found)


def _is_mesh(file: FileContent) -> bool:
    """Whether it is called so, or its first document is of kind Mesh, however broken the rest of it is."""
    if file.path.name == MESH_FILE:
        return True
    if b"Mesh" not in file.content:
        return False
    nodes = load_yaml(file.content, str(file.path), [])
    return (
        bool(nodes)
        and isinstance(nodes[0], MappingNode)
        and any(
            key.text == "kind" and isinstance(value, ScalarNode) and value.text == "Mesh"
            for key, value in nodes[0].entries
        )
    )


def _beside(paths: Sequence[Path], reader: ContentReader) -> FileContent | None:
    """``mesh.yaml`` beside a path that was named, or, where none was, in this folder; or one further up whose folder of
    policies the path is in."""
    for path in paths or (Path("here"),):
        for folder in path.absolute().parents[:_PARENTS]:
            if not (folder / MESH_FILE).is_file():
                continue
            # Named as it was asked for, so that its problems are told by a path that is short.
            found = reader.read(path.parent / MESH_FILE if folder == path.absolute().parent else folder / MESH_FILE)
            named = policy_folder_named(found.content)
            if folder == path.absolute().parent or (named and (folder / named) in path.absolute().parents):
                return found
    return None
