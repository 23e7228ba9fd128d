"""Files that hold one secret: private to their owner, small, one line of text. Adapter."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

SECRET_LIMIT_BYTES: Final = 2048


class SecretFileError(Exception):
    """There is no secret to be had; ``message`` names the file and never what it holds, ``mend`` what to do."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


def read_secret(path: Path) -> str:
    """The secret in ``path``, without the line's end; raises SecretFileError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    except OSError as error:
        reason = error.strerror or str(error)
        raise SecretFileError(f"secret file {path} cannot be read: {reason}", "make it, or name another") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SecretFileError(f"secret file {path} is no file", "name a regular file")
        if stat.S_IMODE(found.st_mode) & 0o037:
            raise SecretFileError(f"secret file {path} is open to others", f"chmod 600 {path}")
        content = file.read(SECRET_LIMIT_BYTES + 2)
    try:
        text = content.decode("ascii").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > SECRET_LIMIT_BYTES or not text.isprintable():
        mend = f"one line of 1 to {SECRET_LIMIT_BYTES} ASCII characters"
        raise SecretFileError(f"secret file {path} holds no secret", mend)
    return text
