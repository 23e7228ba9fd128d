"""One accepted state of the policy folder: when, by whom, and what it held. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controlplane.rollout.files import Contents

MESSAGE_LIMIT: Final = 500


class Cause(StrEnum):
    """How a state of the folder came into force."""

    START = "start"  # what the folder held when a control plane first kept records
    FILES = "files"  # somebody edited the folder
    APPLY = "apply"  # ``ringfence policy apply``
    ROLLBACK = "rollback"  # ``ringfence policy rollback``


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who asked: a user of this machine, as the kernel tells who opened the admin socket; ``uid`` -1: nobody asked."""

    uid: int = -1
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why a state of the folder came to be. ``back_to``: the record that a rollback restores; 0: none."""

    cause: Cause
    author: Author = Author()
    message: str = ""
    back_to: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The policy folder from ``at`` (Unix seconds) on.

    ``number`` grows by one with each record; ``revision`` is the mesh's at that moment, which other changes raise, too.
    """

    number: int
    revision: int
    at: float
    origin: Origin
    digest: str
    contents: Contents
