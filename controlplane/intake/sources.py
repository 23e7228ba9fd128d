"""The files that make a configuration, read from disk. What is judged later is exactly the bytes read here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.kit.watch import ContentReader, FileContent, list_files

POLICY_FILE_LIMIT: Final = 10_000
POLICY_LIMIT_BYTES: Final = 64 << 20
POLICY_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFolder:
    """The folder of policies and its files in the order of their paths; ``error``: why it could not be listed."""

    path: Path
    files: tuple[FileContent, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """One reading of all files; equal readings say the same. No folder: the mesh file does not say which it is."""

    mesh: FileContent
    policies: PolicyFolder | None


def only_change(old: SourceFiles, new: SourceFiles) -> Path | None:
    """The policy file that is all that two readings differ in; None where it is another file, several, or one is gone:
    who saves a file by moving the old one away first has not written the new one yet."""
    if old.policies is None or new.policies is None or old.mesh != new.mesh:
        return None
    if (old.policies.path, old.policies.error) != (new.policies.path, new.policies.error):
        return None
    before = {file.path: file for file in old.policies.files}
    after = {file.path: file for file in new.policies.files}
    changed = [path for path, file in after.items() if file != before.get(path)]
    if len(changed) != 1 or before.keys() - after.keys() or after[changed[0]].error:
        return None
    return changed[0]


class Sources:
    """Reads the mesh file and the policy folder that it names; blocking, so call it off the loop.

    ``folder_named`` tells which folder a mesh file names, None if the file is too broken to say; then the folder that
    was named last is read on, so that problems there are still told.
    """

    __slots__ = ("_folder", "_folder_named", "_mesh", "_mesh_path", "_reader")

    def __init__(self, mesh_path: Path, reader: ContentReader, folder_named: Callable[[bytes], str | None]) -> None:
        self._mesh_path = mesh_path
        self._reader = reader
        self._folder_named = folder_named
        self._folder: Path | None = None
        self._mesh: FileContent | None = None

    def read(self) -> SourceFiles:
        """What the files say now; what cannot be read carries its error."""
        mesh = self._reader.read(self._mesh_path)
        if mesh != self._mesh:
            self._mesh = mesh
            named = self._folder_named(mesh.content)
            if named is not None:
                self._folder = self._mesh_path.parent / named
        return SourceFiles(mesh=mesh, policies=self._read_folder(self._folder) if self._folder is not None else None)

    def _read_folder(self, folder: Path) -> PolicyFolder:
        try:
            paths = list_files(folder, POLICY_SUFFIXES, POLICY_FILE_LIMIT)
        except OSError as error:
            return PolicyFolder(path=folder, error=error.strerror or str(error))
        if len(paths) > POLICY_FILE_LIMIT:
            return PolicyFolder(path=folder, error=f"it holds more than {POLICY_FILE_LIMIT} files")
        self._reader.keep({self._mesh_path, *paths})
        files: list[FileContent] = []
        left = POLICY_LIMIT_BYTES
        for path in paths:
            files.append(self._reader.read(path))
            left -= len(files[-1].content)
            if left < 0:
                self._reader.keep({self._mesh_path})
                return PolicyFolder(path=folder, error=f"it holds more than {POLICY_LIMIT_BYTES} bytes")
        return PolicyFolder(path=folder, files=tuple(files))
