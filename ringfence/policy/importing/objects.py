"""Objects of Kubernetes as others wrote them: which there are, and their parts with places. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.policy.importing.imported import CannotSayError
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.yamlnodes import MappingReader, Node, load_yaml
from ringfence.policy.yamltree import ScalarNode


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeObject:
    """One object; ``group`` is that of its ``apiVersion``, without the version. ``problems``: what reading ``spec``
    finds wrong, for whoever reads it to take."""

    group: str
    kind: str
    namespace: str
    name: str
    place: Place
    spec: MappingReader
    problems: list[Problem] = field(compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def take_problem(self) -> None:
        """Raise CannotSayError for the first thing that reading found wrong, if there is any, and forget them."""
        if self.problems:
            first = min(self.problems)
            self.problems.clear()
            raise CannotSayError(Place(first.file, first.line, first.column), first.message)


def read_objects(text: str | bytes, file: str) -> tuple[list[KubeObject], list[Problem]]:
    """The objects of one file, those of a ``List`` each by itself; and what is no object at all."""
    problems: list[Problem] = []
    found: list[KubeObject] = []
    for node in load_yaml(text, file, problems):
        _read(node, file, found, problems)
    return found, sorted(problems)


def _read(node: Node, file: str, found: list[KubeObject], problems: list[Problem]) -> None:
    own: list[Problem] = []
    reader = MappingReader(node, file, own)
    if not reader.present:
        # An empty document, as a file may end with, is none.
        problems.extend(own if not (isinstance(node, ScalarNode) and node.text == "") else [])
        return
    kind = reader.text("kind")
    if kind == "List":
        for item in reader.sequence("items"):
            _read(item.node, file, found, problems)
        problems.extend(own)
        return
    metadata = reader.mapping("metadata")
    group, _, _ = reader.text("apiVersion").rpartition("/")
    name, namespace = metadata.text("name"), metadata.text("namespace", default="default")
    if own:
        problems.extend(own)
        return
    spec = reader.mapping("spec", default=None)
    found.append(
        KubeObject(
            group=group,
            kind=kind,
            namespace=namespace,
            name=name,
            place=reader.place("kind"),
            spec=spec,
            problems=own,
        )
    )


def match_labels(selector: MappingReader, found: KubeObject) -> dict[str, str]:
    """The labels of a selector that is nothing else than ``matchLabels``. Raises CannotSayError."""
    if not selector.present:
        return {}
    for key in selector:
        if key != "matchLabels":
            raise CannotSayError(selector.place(key), f"{shown(key)} selects by more than equal labels")
    labels = selector.text_mapping("matchLabels", default=None)
    found.take_problem()
    return labels
