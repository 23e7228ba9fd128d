"""Files for their owner alone, replaced whole: a power cut leaves the old content or the new, never a half."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_private(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, mode 0600; when this returns, no power cut brings the old content back. OSError."""
    # A name of its own, so that neither a draft that a crash left nor a rival is in the way.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in ``folder`` outlive a power cut. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
