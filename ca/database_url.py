"""Where the database's URL comes from: a file, never an argument or the environment, as it may hold a password."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ca.errors import SettingsInvalid

DATABASE_URL_FILE_VARIABLE: Final = "RINGFENCE_CA_DATABASE_URL_FILE"
_LIMIT_BYTES: Final = 4096


def read_database_url_file(file: Path) -> str:
    """The URL in ``file``, without the space around it. SettingsInvalid if there is none."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LIMIT_BYTES + 1)
        url = content.decode().strip()
    except OSError as problem:
        raise SettingsInvalid(f"cannot read database url file {file}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise SettingsInvalid(f"database url file {file} is not valid UTF-8") from problem
    if not url or len(content) > _LIMIT_BYTES:
        raise SettingsInvalid(f"database url file {file} is empty or larger than {_LIMIT_BYTES} bytes")
    return url
