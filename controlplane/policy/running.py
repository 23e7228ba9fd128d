"""The files that a running control plane has in force, got over its admin socket. Adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controlplane.hosting.plain_reading import reading_of
from controlplane.intake.sources import PolicyFolder, SourceFiles
from controlplane.operate.admin_client import AdminUnreachableError, ask
from ringfence.kit.watch import FileContent
from ringfence.platform import Reading

_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSources:
    """``tried``: what is judged in shadow everywhere before it is applied, None where nothing is."""

    in_force: SourceFiles
    tried: SourceFiles | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReading:
    """On a platform: what is in force of what it says."""

    platform: str
    reading: Reading


def running_sources(admin_socket: Path) -> RunningSources | RunningReading:
    """The mesh file and the policies in force, and those on trial; or what a platform says. AdminUnreachableError."""
    status, document = ask(admin_socket, "GET", "/policy/sources", seconds=_SECONDS)
    if status != 200:
        raise AdminUnreachableError(f"{admin_socket}: {document.get('error', f'answers {status}')}")
    try:
        if "platform" in document:
            return RunningReading(platform=str(document["platform"]), reading=reading_of(document))
        mesh, tried = _file(document["mesh"]), document["tried"]
        in_force = SourceFiles(mesh=mesh, policies=_folder(document["policies"]))
        return RunningSources(
            in_force=in_force,
            tried=SourceFiles(mesh=mesh, policies=_folder(tried)) if tried is not None else None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AdminUnreachableError(f"{admin_socket} answers something else than files ({error!r})") from error


def _folder(document: Mapping[str, Any]) -> PolicyFolder:
    return PolicyFolder(path=Path(document["folder"]), files=tuple(_file(file) for file in document["files"]))


def _file(document: Mapping[str, Any]) -> FileContent:
    return FileContent(path=Path(document["file"]), content=document["text"].encode())
