"""The files of a question: a mesh file and policies, read and judged as the control plane would. Adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controlplane.intake.configuration import Configuration
from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import (
    POLICY_FILE_LIMIT,
    POLICY_LIMIT_BYTES,
    POLICY_SUFFIXES,
    PolicyFolder,
    SourceFiles,
    Sources,
)
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader, FileContent, list_files
from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import LIMIT_BYTES


class RefusedError(ValueError):
    """The files are not good as a whole; ``problems`` are all that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)


def read_sources(mesh: Path, policies: Sequence[Path] = ()) -> SourceFiles:
    """What the files say now: the folder that the mesh file names, or in its place ``policies``, files and folders."""
    reader = ContentReader(clock=SystemClock(), limit_bytes=LIMIT_BYTES)
    if not policies:
        return Sources(mesh, reader, policy_folder_named).read()
    return SourceFiles(mesh=reader.read(mesh), policies=_folder(policies, reader))


def judged(files: SourceFiles) -> Configuration:
    """The configuration that the files make. Raises RefusedError."""
    configuration, problems = Judge().judge(files)
    if configuration is None:
        raise RefusedError(problems)
    return configuration


def _folder(policies: Sequence[Path], reader: ContentReader) -> PolicyFolder:
    found: dict[Path, FileContent] = {}
    left = POLICY_LIMIT_BYTES
    for given in policies:
        try:
            paths = list_files(given, POLICY_SUFFIXES, POLICY_FILE_LIMIT) if given.is_dir() else [given]
        except OSError as error:
            return PolicyFolder(path=given, error=error.strerror or str(error))
        for path in paths:
            if path in found:
                continue
            found[path] = reader.read(path)
            left -= len(found[path].content)
            if left < 0 or len(found) > POLICY_FILE_LIMIT:
                limits = f"{POLICY_FILE_LIMIT} files or {POLICY_LIMIT_BYTES} bytes"
                return PolicyFolder(path=given, error=f"there are more than {limits}")
    return PolicyFolder(path=policies[0], files=tuple(found[path] for path in sorted(found)))
