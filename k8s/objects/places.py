"""From a line and a column of a document to the field that stands there. Pure.

The API server keeps no text, so lines of what we are given are nobody's lines. Its users name fields by their path, as
`kubectl explain` does: ``spec.rules[0].to.paths``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import MappingNode, Node, SequenceNode, load_yaml


def at_fields(content: bytes, problems: list[Problem]) -> list[str]:
    """Each problem as one line, ``field: message (mend)``; one that stands nowhere without its field."""
    nodes = load_yaml(content, "", [])
    places = {place: path for node in nodes for place, path in _places(node, "")}
    return [_told(problem, places.get((problem.line, problem.column), "")) for problem in problems]


def _told(problem: Problem, path: str) -> str:
    line = f"{problem.message} ({problem.mend})" if problem.mend else problem.message
    line = f"{path}: {line}" if path else line
    return line if line.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def _places(node: Node, path: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Inner ones last, so that of two at one place the inner one is named."""
    yield (node.line, node.column), path
    if isinstance(node, MappingNode):
        for key, value in node.entries:
            inner = f"{path}.{key.text}" if path else key.text
            yield (key.line, key.column), inner
            yield from _places(value, inner)
    elif isinstance(node, SequenceNode):
        for number, item in enumerate(node.items):
            yield from _places(item, f"{path}[{number}]")
