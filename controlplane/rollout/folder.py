"""Puts a candidate into the policy folder: all of it, or, after a crash, the rest of it at the next start. Adapter.

What is to be done stands in a journal before the first file is touched. So a power cut between two files leaves no
policy that nobody wrote: the journal is carried out before the folder is read again. A disk that fails midway has the
change taken back; where that fails, too, the folder is not to be read.
"""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Final

from controlplane.rollout.files import Contents, FilesError, check_name, difference
from ringfence.kit.private_file import flush_folder, replace_private

_JOURNAL_LIMIT_BYTES: Final = 256 << 20


class FolderError(Exception):
    """The policy folder cannot be written; the message says why, with the mend."""


class PolicyFolderWriter:
    """Writes below the policy folder; ``lock`` is held meanwhile, so that whoever reads it under the same lock never
    sees half a change. Blocking."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._unfinished = False
        self.lock = threading.Lock()

    @property
    def unfinished(self) -> bool:
        """Whether a change was begun and neither carried out nor taken back: the folder says what nobody wrote."""
        return self._unfinished

    def write(self, folder: Path, held: Contents, wanted: Contents) -> None:
        """Make ``wanted`` of the folder that holds ``held``; on FolderError it holds what it held, unless
        ``unfinished``."""
        with self.lock:
            change = difference(held, wanted)
            todo = {name: wanted[name] for name in (*change.added, *change.altered)}
            document = {
                "version": 1,
                "folder": str(folder),
                "write": {name: base64.b64encode(content).decode() for name, content in todo.items()},
                "remove": list(change.removed),
            }
            try:
                _check_writable(folder, todo, change.removed)
                replace_private(self._journal, json.dumps(document).encode())
            except OSError as error:
                raise FolderError(_unwritable(folder, error)) from error
            self._unfinished = True
            try:
                _carry_out(folder, todo, change.removed)
            except OSError as error:
                self._take_back(folder, held, wanted)
                raise FolderError(_unwritable(folder, error)) from error
            self._done()

    def _take_back(self, folder: Path, held: Contents, wanted: Contents) -> None:
        back = difference(wanted, held)
        try:
            _carry_out(folder, {name: held[name] for name in (*back.added, *back.altered)}, back.removed)
            self._done()
        except OSError as error:
            message = f"policy folder {folder} is half changed and can be neither changed back: {error}"
            raise FolderError(
                f"{message} (mend the disk and restart the control plane, which ends the change)"
            ) from error

    def recover(self) -> bool:
        """Carry out what a crash interrupted; whether there was anything. Raises FolderError."""
        with self.lock:
            try:
                with self._journal.open("rb") as file:
                    content = file.read(_JOURNAL_LIMIT_BYTES + 1)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise FolderError(f"{self._journal} cannot be read: {error.strerror or error}") from error
            try:
                document = json.loads(content)
                folder = Path(document["folder"])
                todo = {str(name): base64.b64decode(text) for name, text in document["write"].items()}
                removed = tuple(str(name) for name in document["remove"])
                for name in (*todo, *removed):
                    check_name(name)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FilesError) as error:
                mend = "look whether the policy folder is as it should be, and remove the file"
                raise FolderError(f"{self._journal} is no journal: {error} ({mend})") from error
            try:
                _carry_out(folder, todo, removed)
                self._done()
            except OSError as error:
                raise FolderError(_unwritable(folder, error)) from error
            return True

    def _done(self) -> None:
        self._journal.unlink(missing_ok=True)
        flush_folder(self._journal.parent)
        self._unfinished = False


def _check_writable(folder: Path, todo: Contents, removed: tuple[str, ...]) -> None:
    """Find out before anything is touched that a folder is read-only, or a name leads out through a link."""
    for name in (*todo, *removed):
        parent = (folder / name).parent
        while not parent.exists():
            parent = parent.parent
        if not parent.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{name} leads out of it by a symbolic link")
        probe = parent / ".ringfence-probe"
        probe.touch(mode=0o600)
        probe.unlink()


def _carry_out(folder: Path, todo: Contents, removed: tuple[str, ...]) -> None:
    for name, content in todo.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        replace_private(path, content)
        path.chmod(mode)
    for name in removed:
        (folder / name).unlink(missing_ok=True)
        if (folder / name).parent.is_dir():
            flush_folder((folder / name).parent)


def _unwritable(folder: Path, error: OSError) -> str:
    mend = "let the control plane write there, or change the files where they come from"
    return f"policy folder {folder} cannot be written: {error.strerror or error} ({mend})"
