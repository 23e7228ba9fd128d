"""The files that a command is given, by the names that they get below the policy folder. Blocking."""

from __future__ import annotations

from pathlib import Path

from controlplane.intake.sources import POLICY_FILE_LIMIT, POLICY_LIMIT_BYTES, POLICY_SUFFIXES
from ringfence.kit.watch import list_files


class GivenError(ValueError):
    """A path that cannot be given; the message names it, with the mend."""


def read_given(paths: tuple[Path, ...]) -> tuple[dict[str, str], dict[str, Path]]:
    """Text by name, and from where: a file under its own name, those of a folder by their paths below it. Raises
    GivenError."""
    found: dict[str, str] = {}
    origins: dict[str, Path] = {}
    left = POLICY_LIMIT_BYTES
    for path in paths:
        for name, file in _files(path):
            if name in found:
                raise GivenError(f"{file} would be {name} in the policy folder, as would another (rename one)")
            try:
                content = file.read_bytes()[: left + 1]
                left -= len(content)
                found[name] = content.decode("utf-8")
                origins[name] = file
            except OSError as error:
                raise GivenError(f"{file} cannot be read: {error.strerror or error}") from error
            except UnicodeDecodeError as error:
                raise GivenError(f"{file} is no UTF-8 at byte {error.start} (write it as UTF-8)") from error
            if left < 0:
                raise GivenError(f"{path} and the others hold more than {POLICY_LIMIT_BYTES} bytes")
    return found, origins


def _files(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        if not path.name.endswith(POLICY_SUFFIXES):
            raise GivenError(f"{path} is no policy file (end its name in {' or '.join(POLICY_SUFFIXES)})")
        return [(path.name, path)]
    try:
        listed = list_files(path, POLICY_SUFFIXES, POLICY_FILE_LIMIT)
    except OSError as error:
        raise GivenError(f"{path} cannot be listed: {error.strerror or error}") from error
    if not listed:
        raise GivenError(f"{path} holds no policy file (give one whose files end in .yaml)")
    return [(file.relative_to(path).as_posix(), file) for file in listed]
