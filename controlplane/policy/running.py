"""The files that a running control plane has in force, got over its admin socket. Adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from controlplane.intake.sources import PolicyFolder, SourceFiles
from controlplane.operate.admin_client import AdminUnreachableError, ask
from ringfence.kit.watch import FileContent

_SECONDS: Final = 30.0


def running_sources(admin_socket: Path) -> SourceFiles:
    """The mesh file and the policies in force. Raises AdminUnreachableError."""
    status, document = ask(admin_socket, "GET", "/policy/sources", seconds=_SECONDS)
    if status != 200:
        raise AdminUnreachableError(f"{admin_socket}: {document.get('error', f'answers {status}')}")
    try:
        policies = document["policies"]
        files = tuple(_file(file) for file in policies["files"])
        return SourceFiles(
            mesh=_file(document["mesh"]), policies=PolicyFolder(path=Path(policies["folder"]), files=files)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise AdminUnreachableError(f"{admin_socket} answers something else than files ({error!r})") from error


def _file(document: Mapping[str, Any]) -> FileContent:
    return FileContent(path=Path(document["file"]), content=document["text"].encode())
