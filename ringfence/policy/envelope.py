"""What every document has around its ``spec``: version, kind, name and namespace. Pure.

A reader of a kind is given the envelope and reads ``spec``; keys that it did not ask for are told after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from ringfence.policy.problems import Place, Problem, nearest, shown
from ringfence.policy.yamlnodes import MappingReader, load_yaml

D = TypeVar("D")

API_VERSION: Final = "ringfence.io/v1alpha1"
LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
NAME_LIMIT_CHARACTERS: Final = 253  # as Kubernetes and DNS have it
NAME_MEND: Final = "use lower-case letters, digits and '-', at most 63, a letter or digit at both ends"
SUBDOMAIN: Final = re.compile(rf"{LABEL.pattern}(?:\.{LABEL.pattern})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One document: its name and namespace ("" for what is wrong), and its ``spec``, not read yet."""

    namespace: str
    name: str
    name_place: Place
    spec: MappingReader


KindReader = Callable[[Envelope, list[Problem]], D]


def read_kinds(text: str | bytes, file: str, kinds: Mapping[str, KindReader[D]]) -> tuple[list[D], list[Problem]]:
    """The documents of one file, each by the reader of its kind, and all that is wrong with it, in the order of the
    text. When there is any problem the documents are good for nothing but finding more problems."""
    problems: list[Problem] = []
    documents: list[D] = []
    for node in load_yaml(text, file, problems):
        reader = MappingReader(node, file, problems)
        if reader.present:
            _read_document(reader, kinds, documents, problems)
    return documents, sorted(problems)


def _read_document(
    reader: MappingReader, kinds: Mapping[str, KindReader[D]], documents: list[D], problems: list[Problem]
) -> None:
    reader.choice("apiVersion", [API_VERSION])
    kind = reader.text("kind")
    read = kinds.get(kind)
    if read is None:
        if kind:
            near = nearest(kind, kinds)
            mend = f"did you mean {near}?" if near is not None else f"use {' or '.join(kinds)}"
            reader.problem(f"kind {shown(kind)} is not known here", mend, key="kind")
        return
    metadata = reader.mapping("metadata")
    name = _read_name(metadata, "name", SUBDOMAIN)
    if len(name) > NAME_LIMIT_CHARACTERS:
        metadata.problem(f"name has {len(name)} characters", f"at most {NAME_LIMIT_CHARACTERS}: shorten it", key="name")
        name = ""
    namespace = _read_name(metadata, "namespace", LABEL, default="default")
    for key in ("labels", "annotations"):
        metadata.text_mapping(key, default=None)
    metadata.finish()
    spec = reader.mapping("spec")
    envelope = Envelope(namespace=namespace, name=name, name_place=metadata.place("name"), spec=spec)
    documents.append(read(envelope, problems))
    spec.finish()
    reader.finish()


def read_label(reader: MappingReader, key: str) -> str:
    """A name of one DNS label; an empty one stands in for what is wrong."""
    return _read_name(reader, key, LABEL)


def _read_name(reader: MappingReader, key: str, pattern: re.Pattern[str], default: str | None = None) -> str:
    """A name of the form that Kubernetes and DNS take; an empty one stands in for what is wrong."""
    text = reader.text(key) if default is None else reader.text(key, default=default)
    if text and not pattern.fullmatch(text):
        reader.problem(f"{key} {shown(text)} is not a valid name", NAME_MEND, key=key)
        return ""
    return text
