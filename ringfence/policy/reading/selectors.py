"""Which services a document speaks of, and whether it is in force. Pure.

Exactly one of: ``service: orders``, ``labels: {data: pii}``, ``scope: namespace``, ``scope: mesh`` (which may have
``labels`` beside it). All but the last stay in the document's namespace: who owns a namespace says nothing of others'.
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.envelope import read_label
from ringfence.policy.labels import read_labels
from ringfence.policy.problems import Problem
from ringfence.policy.written import (
    MeshSelector,
    Mode,
    NamespaceSelector,
    Placed,
    Selector,
    ServiceSelector,
)
from ringfence.policy.yamlnodes import MappingReader

SCOPES: Final = ("namespace", "mesh")
_FORMS: Final = ("service", "labels", "scope")


def read_selector(spec: MappingReader, problems: list[Problem], *, optional: bool = False) -> Placed[Selector]:
    """The selector of a document; without one and ``optional``, every service of the namespace. Where it is wrong, a
    service that does not exist stands in."""
    if optional and not any(form in spec for form in _FORMS):
        spec.known(*_FORMS)
        return Placed(NamespaceSelector(), spec.place())
    whole_mesh = "scope" in spec and spec.choice("scope", SCOPES) == "mesh"
    forms = ("service", "scope") if whole_mesh else _FORMS
    form = spec.one_of(*forms)
    spec.known(*_FORMS)
    labels = read_labels(spec, "labels", problems)
    selector: Selector = ServiceSelector(service="")
    if form == "service":
        selector = ServiceSelector(service=read_label(spec, "service"))
    elif form == "labels" and labels:
        selector = NamespaceSelector(labels=labels)
    elif form == "scope":
        selector = MeshSelector(labels=labels) if whole_mesh else NamespaceSelector()
    return Placed(selector, spec.place(form))


def read_mode(spec: MappingReader) -> Mode:
    """``enforce``, which is the default, or ``shadow``."""
    return Mode(spec.choice("mode", Mode, default=Mode.ENFORCE))
