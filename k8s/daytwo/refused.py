"""Documents that are not in force as they are written, and what stands in for them. Pure.

As the control plane has it: a document that is wrong stands as it was in force last; a denylist of which there is no
such version closes whatever it could speak of; any other is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k8s.controller.history import LABEL, NAME
from k8s.objects.lenient import Json, integer, objects, text
from ringfence.policy.closing import CLOSED_RULE

_DENYLIST: Final = "Denylist"
_EARLIER: Final = "EarlierVersionInForce"
_ERROR_LIMIT_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedDocument:
    """``error``: why it is not in force as it is written; ``revision``: the kept one that is in its place, 0 for
    none."""

    kind: str
    namespace: str
    name: str
    error: str
    revision: int = 0

    @property
    def file(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def closes(self) -> bool:
        """Whether what stands in for it refuses everybody."""
        return self.kind == _DENYLIST and not self.revision

    @property
    def rule(self) -> str:
        """Full name of the rule by which it does."""
        return f"{self.namespace}/{self.name}/{CLOSED_RULE}"

    def line(self) -> str:
        """For people."""
        if self.revision:
            return f"{self.file} is refused, and revision {self.revision} of it is in force: {self.error}"
        if self.closes:
            return f"{self.file} is refused, and what stands in for it refuses everybody: {self.error}"
        return f"left out: {self.file}: {self.error}"

    def document(self) -> dict[str, Any]:
        """For programs."""
        stands_in = f"revision {self.revision}" if self.revision else "refuses everybody" if self.closes else None
        return {"document": self.file, "error": self.error, "stands_in": stands_in}


def told_refusal(document: Json) -> str:
    """Why the control plane refuses this very version, by the status that it wrote; empty where it does not say so."""
    condition = _accepted(document)
    if condition is None or text(condition, "status") != "False":
        return ""
    said = text(condition, "message")
    return (said.partition("; ")[2] or said or "the control plane refuses it")[:_ERROR_LIMIT_CHARACTERS]


def may_stand_in(document: Json) -> bool:
    """Whether an earlier version may be in force: not where the control plane says that none is."""
    condition = _accepted(document)
    return condition is None or text(condition, "status") != "False" or text(condition, "reason") == _EARLIER


def _accepted(document: Json) -> Json | None:
    generation = integer(document, "metadata", "generation")
    return next(
        (
            one
            for one in objects(document, "status", "conditions")
            if text(one, "type") == "Accepted" and integer(one, "observedGeneration") == generation
        ),
        None,
    )


def newest_revisions(revisions: Iterable[Json]) -> dict[str, tuple[int, object]]:
    """The number and the spec of the newest kept revision of each document, by ``RefusedDocument.file``."""
    found: dict[str, tuple[int, object]] = {}
    for one in revisions:
        kind, name = text(one, "metadata", "labels", LABEL), text(one, "metadata", "annotations", NAME)
        file, number = f"{kind}/{text(one, 'metadata', 'namespace')}/{name}", integer(one, "revision") or 0
        data = one.get("data")
        if number > found.get(file, (0, None))[0] and isinstance(data, Mapping):
            found[file] = (number, data.get("spec"))
    return found


def closing(refused: Sequence[RefusedDocument], service: str, root_namespace: str) -> list[tuple[str, str]]:
    """By namespace and name, those that refuse everybody at ``service``."""
    namespace = service.partition("/")[0]
    return [(one.namespace, one.name) for one in refused if one.closes and one.namespace in (root_namespace, namespace)]
