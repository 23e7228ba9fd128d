"""YAML text to a tree of nodes that know their line and column. Pure; imports PyYAML and ``problems`` only.

The tree is built from parser events, not by PyYAML's composer: depth, number of nodes and size are bounded before
anything is kept, and what makes YAML dangerous or surprising is refused with its place: anchors and aliases (the
"billion laughs" bomb), explicit tags, duplicate keys, keys that are no text. No scalar gets a type here; ``yamlnodes``
reads them by what the field wants, so no ``no`` becomes False and no ``1:30`` becomes ninety.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

from ringfence.policy.problems import Problem, shown

LIMIT_BYTES: Final = 1 << 20
LIMIT_DEPTH: Final = 32
LIMIT_NODES: Final = 50_000

# libyaml where PyYAML was built with it; the same events and marks either way.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A scalar as written; ``plain`` when it had no quotes and is not a block (``|``, ``>``)."""

    line: int
    column: int
    text: str
    plain: bool


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list; ``items`` in the order of the text."""

    line: int
    column: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping; ``entries`` in the order of the text, no key twice."""

    line: int
    column: int
    entries: tuple[tuple[ScalarNode, Node], ...]


@dataclass(frozen=True, slots=True)
class RefusedNode:
    """Stands where something was refused already (an alias), so that nothing is said of it twice."""

    line: int
    column: int


Node = ScalarNode | SequenceNode | MappingNode | RefusedNode


def load_yaml(source: str | bytes, file: str, problems: list[Problem]) -> list[Node]:
    """The documents of ``source``, empty ones left out; what is wrong is appended to ``problems`` under ``file``.

    After a syntax error, or past a limit, the answer is empty: half a file is no policy. After a smaller refusal (an
    alias, a tag, a duplicate key) the rest is still answered, so that its errors are found in the same turn.
    """
    text = _decode(source, file, problems)
    return _parse(text, file, problems) if text is not None else []


def _decode(source: str | bytes, file: str, found: list[Problem]) -> str | None:
    """``source`` as text within the size limit."""
    try:
        encoded = source if isinstance(source, bytes) else source.encode()
        if len(encoded) > LIMIT_BYTES:
            found.append(Problem(file, 1, 1, f"file of more than {LIMIT_BYTES} bytes", "split it into several files"))
            return None
        return encoded.decode()
    except UnicodeError as error:
        before = encoded[: error.start].count(b"\n") if isinstance(error, UnicodeDecodeError) else 0
        found.append(Problem(file, before + 1, 1, "text is not valid UTF-8", "save the file as UTF-8"))
        return None


def _parse(text: str, file: str, found: list[Problem]) -> list[Node]:
    builder = _Builder(file, found)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if not builder.take(event):
                return []
        return builder.documents
    except yaml.MarkedYAMLError as error:
        _syntax_problem(text, file, error, found)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        message = f"control character {shown(text[error.position : error.position + 1])}"
        found.append(Problem(file, line, column, message, "remove it"))
    return []


def _syntax_problem(text: str, file: str, error: yaml.MarkedYAMLError, found: list[Problem]) -> None:
    """The parser's complaint, or, where a tab is the cause, every line that is indented by one."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = text.split("\n")
    if line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        for number, content in enumerate(lines, 1):
            indentation = content[: len(content) - len(content.lstrip(" \t"))]
            if "\t" in indentation:
                place = indentation.index("\t") + 1
                found.append(Problem(file, number, place, "tab in the indentation", "indent with spaces"))
        return
    what = ", ".join(part for part in (error.context, error.problem) if part)
    if mark is not None and "cannot start any token" in what and line < len(lines):
        what = f"{shown(lines[line][column : column + 1])} cannot start a value"
        found.append(Problem(file, line + 1, column + 1, what, "put the value in quotes"))
        return
    if "nesting depth" in what:  # the scanner's own bound, far above ours, which it meets before we hear of the levels
        found.append(Problem(file, line + 1, column + 1, f"nested deeper than {LIMIT_DEPTH} levels", "flatten it"))
        return
    found.append(Problem(file, line + 1, column + 1, f"not valid YAML: {what}"))


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("column", "items", "key", "line", "mapping", "seen")

    def __init__(self, line: int, column: int, mapping: bool) -> None:
        self.line = line
        self.column = column
        self.mapping = mapping
        self.items: list[Any] = []
        self.key: ScalarNode | RefusedNode | None = None
        self.seen: dict[str, ScalarNode] = {}


class _Builder:
    """Events in, documents out; ``take`` is False when a limit was passed and reading must stop."""

    __slots__ = ("_file", "_found", "_nodes", "_open", "documents")

    def __init__(self, file: str, found: list[Problem]) -> None:
        self._file = file
        self._found = found
        self._nodes = 0
        self._open: list[_Open] = []
        self.documents: list[Node] = []

    def _problem(self, line: int, column: int, message: str, mend: str) -> None:
        self._found.append(Problem(self._file, line, column, message, mend))

    def take(self, event: yaml.Event) -> bool:
        if isinstance(event, yaml.NodeEvent):
            return self._begin(event)
        if isinstance(event, yaml.CollectionEndEvent):
            closed = self._open.pop()
            kind = MappingNode if closed.mapping else SequenceNode
            self._place(kind(closed.line, closed.column, tuple(closed.items)))
        return True

    def _begin(self, event: yaml.NodeEvent) -> bool:
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        self._nodes += 1
        if self._nodes > LIMIT_NODES:
            self._problem(line, column, f"more than {LIMIT_NODES} values in one file", "split it into several files")
            return False
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            name = shown(event.anchor or "")
            self._problem(line, column, f"anchor or alias {name}", "aliases are not supported: write the value out")
        if isinstance(event, yaml.AliasEvent):
            self._place(RefusedNode(line, column))
            return True
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            self._problem(line, column, f"tag {shown(tag)}", "tags are not supported: remove it")
        if isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:
                # No path, argument or environment variable can hold one; those that take them fall over it.
                self._problem(line, column, "NUL character in a value", "remove it")
                return False
            self._place(ScalarNode(line, column, event.value, event.style in (None, "") and event.implicit[0]))
            return True
        if len(self._open) >= LIMIT_DEPTH:
            self._problem(line, column, f"nested deeper than {LIMIT_DEPTH} levels", "flatten it")
            return False
        self._open.append(_Open(line, column, isinstance(event, yaml.MappingStartEvent)))
        return True

    def _place(self, node: Node) -> None:
        """Put a finished node where it belongs: a document, an item, a key or a value."""
        if not self._open:
            if not (isinstance(node, ScalarNode) and node.plain and node.text == ""):
                self.documents.append(node)
            return
        parent = self._open[-1]
        if not parent.mapping:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = self._key(parent, node)
        else:
            if isinstance(parent.key, ScalarNode):
                parent.items.append((parent.key, node))
            parent.key = None

    def _key(self, parent: _Open, node: Node) -> ScalarNode | RefusedNode:
        if not isinstance(node, ScalarNode):
            if not isinstance(node, RefusedNode):
                self._problem(node.line, node.column, "a key that is not text", "use plain words as keys")
            return RefusedNode(node.line, node.column)
        first = parent.seen.setdefault(node.text, node)
        if first is not node:
            message = f"duplicate key {shown(node.text)}"
            self._problem(node.line, node.column, message, f"first given on line {first.line}: keep one")
            return RefusedNode(node.line, node.column)
        return node
