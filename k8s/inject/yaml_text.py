"""YAML as people wrote it: read as JSON, and changed in its own text, so that comments and order stay. Pure.

What is new is written into the text at its place; lines that mean the same as before are not touched. Where a text is
written so that this cannot be done (aliases, a changed block of text), it is written anew as a whole: whoever edits
compares what the new text says with what it should say, and takes no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

LIMIT_CHARACTERS: Final = 32 * 1024 * 1024
_NODES: Final = 2_000_000
_DEPTH: Final = 100
_BASE: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """Scalars as Kubernetes reads them: no dates, no numbers to the base of sixty."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012 (PyYAML's own)


for _tag, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), ["" if one == "\0" else one for one in _first]
    )


class YamlTextError(ValueError):
    """The text is no YAML that can be read; ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class _CannotEdit(Exception):
    """This change cannot be written into the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a stream: what it says as JSON, and where it was read."""

    value: Any
    node: yaml.Node | None

    def place(self, path: tuple[str | int, ...] = ()) -> tuple[int, int]:
        """Line and column of what is at ``path``, or of the last that is there."""
        node = self.node
        for key in path:
            found = _below(node, key)
            if found is None:
                break
            node = found
        return (1, 1) if node is None else (node.start_mark.line + 1, node.start_mark.column + 1)


def read(text: str) -> list[Document]:
    """Every document of a stream. Raises YamlTextError."""
    if len(text) > LIMIT_CHARACTERS:
        raise YamlTextError(f"{len(text)} characters are too many (at most {LIMIT_CHARACTERS})")
    loader = _Loader(text)
    found = []
    try:
        _bounded(text)
        while loader.check_node():
            node = loader.get_node()
            if _size(node, {}) > _NODES:
                raise _error("aliases that say too much (write it out)", node.start_mark)
            value = loader.construct_document(node)
            found.append(Document(value=_json(value, node), node=node))
    except yaml.MarkedYAMLError as error:
        problem = " ".join((error.problem or "not YAML").split())[:200]
        if "nesting depth" in problem:  # the scanner's own bound, which it may meet before we hear of the levels
            mark = error.problem_mark or error.context_mark
            raise _error(f"nested deeper than {_DEPTH} levels (flatten it)", mark) from error
        raise _error(f"{problem} (mend the YAML)", error.problem_mark or error.context_mark) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        if isinstance(error, YamlTextError):
            raise
        raise YamlTextError("not YAML that can be read (mend it)") from error
    finally:
        loader.dispose()
    return found


def _bounded(text: str) -> None:
    """PyYAML's composer calls itself for each level and so ends the process by a text that is deep enough."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH:
                raise _error(f"nested deeper than {_DEPTH} levels (flatten it)", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def rewritten(text: str, documents: list[Document], values: list[Any]) -> tuple[str, bool]:
    """The text that says ``values``, document by document, and whether all else of it is as it was."""
    try:
        edits = [
            edit
            for document, value in zip(documents, values, strict=True)
            if document.node is not None
            for edit in _edits(text, document.node, document.value, value, top=True)
        ]
        made = text
        # From the end, so that places before stay what they are; at one place the inner thing stands before the outer.
        ordered = sorted(edits, key=lambda one: (one.start, one.end))
        for edit in reversed(ordered):
            made = made[: edit.start] + edit.text + made[edit.end :]
        if [one.value for one in read(made)] == values:
            return made, True
    except (_CannotEdit, YamlTextError):
        pass
    dumped: str = yaml.safe_dump_all(values, sort_keys=False, allow_unicode=True, width=10_000)
    return dumped, False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    start: int
    end: int
    text: str


def _edits(text: str, node: yaml.Node, old: Any, new: Any, *, top: bool = False) -> Iterator[_Edit]:
    if old == new:
        return
    flow = isinstance(node, yaml.CollectionNode) and node.flow_style
    if flow or (isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">")):
        start, end = node.start_mark.index, _end(text, node)
        said = json.dumps(new, ensure_ascii=False, indent=2 if top else None)
        yield _Edit(start=start, end=end, text=f" {said}" if start == end else said)
    elif isinstance(node, yaml.MappingNode) and isinstance(old, dict) and isinstance(new, dict):
        yield from _in_mapping(text, node, old, new)
    elif isinstance(node, yaml.SequenceNode) and isinstance(old, list) and isinstance(new, list):
        yield from _in_sequence(text, node, old, new)
    else:
        raise _CannotEdit


def _in_mapping(text: str, node: yaml.MappingNode, old: dict[str, Any], new: dict[str, Any]) -> Iterator[_Edit]:
    children = {key.value: (key, value) for key, value in node.value}
    if children.keys() != old.keys() or not new:
        raise _CannotEdit
    for key, value in old.items():
        if key in new:
            yield from _edits(text, children[key][1], value, new[key])
        else:
            yield _without(text, *children[key])
    added = {key: value for key, value in new.items() if key not in old}
    if added:
        yield _after(text, node, _block(added, node.start_mark.column))


def _in_sequence(text: str, node: yaml.SequenceNode, old: list[Any], new: list[Any]) -> Iterator[_Edit]:
    more = len(new) - len(old)
    if more < 0 or not old:
        raise _CannotEdit
    column = node.start_mark.column
    if _names(new[more:]) == _names(old):
        for child, before, after in zip(node.value, old, new[more:], strict=True):
            yield from _edits(text, child, before, after)
        if more:
            at = node.start_mark.index
            yield _Edit(start=at, end=at, text=_block(new[:more], column) + "\n" + " " * column)
    elif _names(new[: len(old)]) == _names(old):
        for child, before, after in zip(node.value, old, new, strict=False):
            yield from _edits(text, child, before, after)
        yield _after(text, node, _block(new[len(old) :], column))
    else:
        raise _CannotEdit


def _without(text: str, key: yaml.Node, value: yaml.Node) -> _Edit:
    """The entry taken out, with its lines."""
    start = text.rfind("\n", 0, key.start_mark.index)
    if text[start + 1 : key.start_mark.index].strip(" "):
        raise _CannotEdit
    return _Edit(start=max(start, 0), end=_line_end(text, _end(text, value)), text="")


def _after(text: str, node: yaml.Node, block: str) -> _Edit:
    """``block`` behind the last line of a collection."""
    at = _line_end(text, _end(text, node))
    return _Edit(start=at, end=at, text="\n" + " " * node.start_mark.column + block)


def _block(value: Any, column: int) -> str:
    """``value`` as lines that begin in ``column``, but for the first, which is not indented."""
    lines = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000).rstrip("\n").split("\n")
    return ("\n" + " " * column).join(lines)


def _end(text: str, node: yaml.Node) -> int:
    """Behind the last character of what a node says: marks of blocks end where the next thing begins."""
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[: node.end_mark.index].rstrip())
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found


def _names(items: list[Any]) -> list[Any]:
    return [item.get("name") if isinstance(item, dict) else item for item in items]


def _below(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        found: yaml.Node = node.value[key]
        return found
    return None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes it is once aliases are written out; a node that contains itself is too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _NODES + 1
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_size(key, known) + _size(value, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_size(child, known) for child in node.value)
    known[id(node)] = min(size, _NODES + 1)
    return known[id(node)]


def _json(value: Any, node: yaml.Node) -> Any:
    """As JSON has it: every key text, as Kubernetes makes it, and nothing but JSON's types."""
    if isinstance(value, dict):
        return {_key(key, node): _json(one, node) for key, one in value.items()}
    if isinstance(value, list):
        return [_json(one, node) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _error(f"a {type(value).__name__} is nothing that Kubernetes reads (quote it)", node.start_mark)


def _key(key: Any, node: yaml.Node) -> str:
    if isinstance(key, str):
        return key
    raise _error(f"a key is no text: {str(key)[:80]!r} (quote it)", node.start_mark)


def _error(message: str, mark: Any) -> YamlTextError:
    return YamlTextError(message) if mark is None else YamlTextError(message, mark.line + 1, mark.column + 1)
