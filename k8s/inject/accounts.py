"""The user and group of one pod's sidecar, by which the kernel tells the sidecar's connections from the app's. Pure.

They are drawn for each pod, so that no image can have been made with them: what user an image runs as is nothing that a
webhook sees. Both must fit, and each is one of 40,000. All of them lie below 65,536, since a pod with a user namespace
of its own has no more, nor has a node that is itself a container; and above what images and systems commonly use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from k8s.objects.fields import JsonObject, child, objects, optional_integer

_FIRST: Final = 20_000
_COUNT: Final = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Numbers, neither of them root's."""

    user: int
    group: int


def account_of(spec: JsonObject, sidecar: JsonObject | None, lot: str, fixed: int = 0) -> Account:
    """For the pod of that ``spec``, in which no container says that it runs as either. ``sidecar``: of an injection
    before this one, whose account is kept; ``lot``: from what it is drawn; ``fixed``: user and group of every pod's,
    where the cluster's settings name one. Raises MalformedObjectError."""
    if fixed:
        return Account(user=fixed, group=fixed)
    taken = frozenset(_used(spec))
    if sidecar is not None:
        user, group = (_number(sidecar, key) for key in ("runAsUser", "runAsGroup"))
        if all(_FIRST <= one < _FIRST + _COUNT and one not in taken for one in (user, group)):
            return Account(user=user, group=group)
    digest = sha256(f"account\0{lot}".encode()).digest()
    return Account(user=_free(digest[:8], taken), group=_free(digest[8:16], taken))


def _used(spec: JsonObject) -> Iterator[int]:
    for one in (spec, *(one for key in ("initContainers", "containers") for _, one in objects(spec, key, "spec"))):
        yield from (_number(one, key) for key in ("runAsUser", "runAsGroup"))


def _number(one: JsonObject, key: str) -> int:
    """0, which is never drawn, where nothing is said."""
    return optional_integer(child(one, "securityContext"), key, "securityContext") or 0


def _free(chance: bytes, taken: frozenset[int]) -> int:
    """Fewer are taken than there are: a pod has a thousand containers of each kind at most."""
    at = int.from_bytes(chance) % _COUNT
    while _FIRST + at in taken:
        at = (at + 1) % _COUNT
    return _FIRST + at
