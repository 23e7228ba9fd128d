"""The sidecar's state folder: small private files, written atomically, refused when others could have touched them.

It holds the host key and the last good snapshot, never an SVID's key. Files are mode 0600 and owned by the user that
runs the sidecar; the folder is made with mode 0700 and must not be writable by anybody else, since whoever can write
it can swap a file behind a check of its mode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


class StateError(Exception):
    """A state file or its folder cannot be used; the message names the path and the mend."""


def make_private_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each with mode 0700; what is there stays as it is. OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        # mkdir(parents=True) would make all but the last with the umask's mode.
        folder.mkdir(mode=0o700, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


class StateFolder:
    """Reads and writes files of one folder; every path in an error message is the full one."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder if it is not there, and check owner and mode.

        Raises StateError if it cannot be made, belongs to somebody else or may be written by others.
        """
        try:
            make_private_folder(self.path)
            held = self.path.stat()
        except OSError as error:
            raise StateError(f"cannot use the state folder {self.path}: {_words(error)}") from error
        if held.st_uid != os.geteuid():
            raise StateError(
                f"the state folder {self.path} belongs to user {held.st_uid}, and this process runs as {os.geteuid()} "
                "(give each sidecar a folder of its own)"
            )
        if held.st_mode & 0o022:
            raise StateError(
                f"the state folder {self.path} has mode {stat.S_IMODE(held.st_mode):04o} and may be written by others "
                "(chmod 0700)"
            )

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """The content of a file, or None if there is none.

        Raises StateError if it is not a plain file of ours with mode 0600 or stricter, or is above ``limit_bytes``.
        """
        path = self.path / name
        try:
            # The checks are made on the open descriptor, so that nothing can be swapped between check and read.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot read {path}: {_words(error)}") from error
        with os.fdopen(descriptor, "rb") as file:
            held = os.fstat(file.fileno())
            if not stat.S_ISREG(held.st_mode):
                raise StateError(f"{path} is not a plain file (remove it)")
            if held.st_uid != os.geteuid():
                raise StateError(f"{path} belongs to user {held.st_uid}, not to {os.geteuid()} who runs this sidecar")
            if held.st_mode & 0o077:
                raise StateError(
                    f"{path} has mode {stat.S_IMODE(held.st_mode):04o} and others may read or write it "
                    "(if nobody did: chmod 0600)"
                )
            content = file.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise StateError(f"{path} is larger than {limit_bytes} bytes (remove it)")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replace a file by one of mode 0600, all or nothing, on disk before this returns. Raises StateError."""
        path = self.path / name
        draft = self.path / f".{name}.{os.getpid()}.draft"
        try:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._settle()
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StateError(f"cannot write {path}: {_words(error)}") from error

    def rename(self, name: str, to: str) -> None:
        """Give a file another name, replacing what bore it. Raises StateError."""
        try:
            (self.path / name).replace(self.path / to)
            self._settle()
        except OSError as error:
            raise StateError(f"cannot rename {self.path / name} to {to}: {_words(error)}") from error

    def remove(self, name: str) -> None:
        """Remove a file if it is there. Raises StateError."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"cannot remove {self.path / name}: {_words(error)}") from error

    def _settle(self) -> None:
        """Flush the folder itself: without it a rename may be lost with the power."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
