"""What comes of an import: documents of ours, and what could not be said, with its place and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import yaml

from ringfence.policy.documents import read_documents
from ringfence.policy.envelope import API_VERSION
from ringfence.policy.problems import Place, Problem, shown

Words = dict[str, Any]
"""A part of a document, as YAML has it."""

_FILE: Final = "imported"
_PLAINTEXT: Final = "callers without an identity are left out, as only permissive ports take them (give --permissive)"


class _Plain(yaml.SafeDumper):
    """Writes what stands at two places twice: our reader takes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Weight(StrEnum):
    """What it means that something is not said here."""

    DENY = "deny"  # what was refused there may pass here
    ALLOW = "allow"  # what was permitted there is refused here
    NOTE = "note"  # it decides about no call, or is said elsewhere here


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Unsaid:
    """Something that has no place in our documents; ``source`` is the object in which it stands."""

    place: Place
    source: str
    why: str
    weight: Weight

    def __str__(self) -> str:
        return str(Problem(self.place.file, self.place.line, self.place.column, f"{self.source}: {self.why}"))


class CannotSayError(Exception):
    """The rest of a rule or an object cannot be said, for this reason."""

    def __init__(self, place: Place, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A document of ours."""

    kind: str
    namespace: str
    name: str
    spec: Words

    def as_yaml(self) -> str:
        """Its YAML; the control plane reads it like any other."""
        document = {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": self.spec,
        }
        return str(yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=False, width=110))


@dataclass(slots=True, kw_only=True)
class Import:
    """Filled object by object. ``permissive``: some ports of the mesh take callers without an identity."""

    permissive: bool = False
    documents: list[Made] = field(default_factory=list)
    unsaid: list[Unsaid] = field(default_factory=list)

    @property
    def is_weaker(self) -> bool:
        """Whether something is refused there that may pass here."""
        return any(one.weight is Weight.DENY for one in self.unsaid)

    def add(self, made: Made, place: Place, source: str) -> None:
        """Keep a document, under a name that no other of its kind has in its namespace.

        Where no port takes them, a document that names callers without an identity would be refused as a slip.
        """
        if made.kind == "Allowlist" and not self.permissive:
            rules = [_identified(rule) for rule in made.spec["rules"]]
            if rules != made.spec["rules"]:
                made = replace(made, spec={**made.spec, "rules": rules})
                self.unsaid.append(Unsaid(place=place, source=source, why=_PLAINTEXT, weight=Weight.ALLOW))
        taken = {(one.kind, one.namespace, one.name) for one in self.documents}
        name, number = made.name, 1
        while (made.kind, made.namespace, name) in taken:
            number += 1
            name = f"{made.name}-{number}"
        self.documents.append(Made(kind=made.kind, namespace=made.namespace, name=name, spec=made.spec))


def _identified(rule: Words) -> Words:
    return {**rule, "from": [caller for caller in rule["from"] if "unauthenticated" not in caller]}


def selector_of(labels: Mapping[str, str]) -> Words:
    """Selects the services of the document's namespace that have ``labels``; without any, all of them."""
    return {"labels": dict(labels)} if labels else {"scope": "namespace"}


def checked(made: Made, place: Place) -> Made:
    """``made``, read back as the control plane would. Raises CannotSayError for what it would refuse."""
    _, problems = read_documents(made.as_yaml(), _FILE)
    if problems:
        mend = f" ({problems[0].mend})" if problems[0].mend else ""
        raise CannotSayError(place, f"{problems[0].message}{mend}")
    return made


def checked_rule(kind: str, rule: Words, place: Place) -> Words:
    """A rule, read back as one of a document of ``kind``. Raises CannotSayError."""
    checked(Made(kind=kind, namespace="default", name="one", spec={"scope": "namespace", "rules": [rule]}), place)
    return rule


def either(conditions: Sequence[str]) -> str:
    """Conditions any of which suffices."""
    return conditions[0] if len(conditions) == 1 else "(" + " || ".join(conditions) + ")"


def quoted(text: str) -> str:
    """A text in CEL."""
    if not text.isprintable() or len(text) > 1000:
        raise ValueError(f"{shown(text)} is no text for a condition")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
