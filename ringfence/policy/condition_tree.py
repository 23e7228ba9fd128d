"""The checked tree of a condition, read from what the CEL runtime gives out, and what it may cost. Pure.

The runtime gives a compiled expression as ``cel.expr.CheckedExpr`` (github.com/google/cel-spec, checked.proto and
syntax.proto). Of these messages only the fields that are read here are declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

from ringfence.policy.conditions import LIMIT_ELEMENTS

LIMIT_NESTING: Final = 2
LIMIT_COST: Final = 10_000
# These go through a text, which may be a header of many kilobytes.
_COSTS: Final = {"matches": 200, "contains": 20, "size": 20}

# Message to (field, number, type); "*" before a type: repeated.
_MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "CheckedExpr": (("references", 2, "*Referred"), ("expr", 4, "Expr"), ("source_info", 5, "SourceInfo")),
    "Referred": (("key", 1, "int64"), ("value", 2, "Reference")),
    "Reference": (("overload_id", 3, "*string"),),
    "SourceInfo": (("positions", 4, "*Position"),),
    "Position": (("key", 1, "int64"), ("value", 2, "int64")),
    "Constant": (("null_value", 1, "int64"), ("string_value", 6, "string")),
    "Ident": (("name", 1, "string"),),
    "Select": (("operand", 1, "Expr"), ("field", 2, "string")),
    "Call": (("target", 1, "Expr"), ("function", 2, "string"), ("args", 3, "*Expr")),
    "List": (("elements", 1, "*Expr"),),
    "Entry": (("map_key", 3, "Expr"), ("value", 4, "Expr")),
    "Struct": (("message_name", 1, "string"), ("entries", 2, "*Entry")),
    "Comprehension": (
        ("iter_range", 2, "Expr"),
        ("accu_init", 4, "Expr"),
        ("loop_condition", 5, "Expr"),
        ("loop_step", 6, "Expr"),
        ("result", 7, "Expr"),
    ),
    "Expr": (
        ("id", 2, "int64"),
        ("const_expr", 3, "Constant"),
        ("ident_expr", 4, "Ident"),
        ("select_expr", 5, "Select"),
        ("call_expr", 6, "Call"),
        ("list_expr", 7, "List"),
        ("struct_expr", 8, "Struct"),
        ("comprehension_expr", 9, "Comprehension"),
    ),
}
_JOINING: Final = frozenset(("add_string", "add_bytes", "add_list"))


class RefusedTreeError(ValueError):
    """An expression that CEL would run and that is refused here; ``offset``: characters before the place, if known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What an expression reads: variables and request headers by their names, whether it goes through lists, and the
    patterns that it matches."""

    variables: frozenset[str]
    headers: tuple[str, ...]
    loops: bool
    patterns: tuple[str, ...]


class TreeReader:
    """Knows the messages; made once for however many expressions."""

    def __init__(self) -> None:
        file = descriptor_pb2.FileDescriptorProto(name="condition_tree.proto", package="tree", syntax="proto2")
        kinds = {"int64": 3, "string": 9}  # FieldDescriptorProto.Type
        for name, fields in _MESSAGES.items():
            message = file.message_type.add(name=name)
            for field, number, kind in fields:
                repeated, kind = kind.startswith("*"), kind.removeprefix("*")
                added = message.field.add(name=field, number=number, label=3 if repeated else 1)
                added.type = kinds.get(kind, 11)  # type: ignore[assignment]
                if kind not in kinds:
                    added.type_name = f".tree.{kind}"
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._checked = message_factory.GetMessageClass(pool.FindMessageTypeByName("tree.CheckedExpr"))

    def read(self, serialized: bytes) -> Reads:
        """What the expression reads; RefusedTreeError for one that could cost too much, or reads what nobody knows."""
        wrapped = any_pb2.Any.FromString(serialized)
        checked: Any = self._checked.FromString(wrapped.value)
        walk = _Walk(checked)
        cost, _ = walk.cost(checked.expr, 0)
        if cost > LIMIT_COST:
            raise RefusedTreeError(
                f"condition that may take {cost} steps, more than {LIMIT_COST} (go through fewer lists)"
            )
        return Reads(
            variables=frozenset(walk.variables),
            headers=tuple(sorted(walk.headers)),
            loops=walk.loops,
            patterns=tuple(sorted(walk.patterns)),
        )


def _nodes(expr: Any) -> Iterator[Any]:
    yield expr
    for part in _parts(expr):
        yield from _nodes(part)


def _parts(expr: Any) -> Iterator[Any]:
    """The expressions right below one."""
    if expr.HasField("select_expr"):
        yield expr.select_expr.operand
    elif expr.HasField("call_expr"):
        if expr.call_expr.HasField("target"):
            yield expr.call_expr.target
        yield from expr.call_expr.args
    elif expr.HasField("list_expr"):
        yield from expr.list_expr.elements
    elif expr.HasField("struct_expr"):
        for entry in expr.struct_expr.entries:
            if entry.HasField("map_key"):
                yield entry.map_key
            yield entry.value
    elif expr.HasField("comprehension_expr"):
        loop = expr.comprehension_expr
        yield from (loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result)


class _Walk:
    """One walk through one tree: what it reads, and steps and sizes as they may be at worst.

    What is refused although it takes few steps: values that double with each loop (``map(v, v + v)`` after one another,
    or ``map(v, [v, v])``), which would be as long as no machine has memory.
    """

    def __init__(self, checked: Any) -> None:
        self._offsets = {position.key: position.value for position in checked.source_info.positions}
        self._joins = {each.key for each in checked.references if _JOINING.intersection(each.value.overload_id)}
        self.variables: set[str] = set()
        self.headers: set[str] = set()
        self.patterns: set[str] = set()
        self.loops = False
        # A list that a variable or a function gives may be one that the expression itself wrote down.
        self._unknown = LIMIT_ELEMENTS + sum(len(node.list_expr.elements) for node in _nodes(checked.expr))

    def _refused(self, expr: Any, message: str) -> RefusedTreeError:
        return RefusedTreeError(message, self._offsets.get(expr.id))

    def cost(self, expr: Any, depth: int) -> tuple[int, int]:
        """(steps, elements if it is gone through) at worst; ``depth``: how many loops it stands in."""
        if expr.HasField("comprehension_expr"):
            return self._loop(expr, depth)
        if expr.HasField("call_expr"):
            return self._call(expr, depth)
        if expr.HasField("ident_expr"):
            self._variable(expr)
        elif expr.HasField("select_expr"):
            select = expr.select_expr
            if _is_variable(select.operand, "request.headers"):
                return self._header(expr, select.field)
            if _is_variable(select.operand, "token"):
                raise self._refused(expr, f"token has no {select.field} (it has issuer, subject, scopes and claims)")
        steps = 1 + sum(self.cost(part, depth)[0] for part in _parts(expr))
        if expr.HasField("list_expr"):
            return steps, len(expr.list_expr.elements)
        if expr.HasField("struct_expr"):
            return steps, len(expr.struct_expr.entries)
        return steps, self._unknown

    def _loop(self, expr: Any, depth: int) -> tuple[int, int]:
        self.loops = True
        loop = expr.comprehension_expr
        if depth >= LIMIT_NESTING:
            raise self._refused(expr, f"more than {LIMIT_NESTING} loops within each other (say it with fewer)")
        if any(node.HasField("comprehension_expr") for node in _nodes(loop.iter_range)):
            raise self._refused(expr, "loop through what another loop made (say it with one loop)")
        steps, size = self.cost(loop.iter_range, depth)
        each = sum(self.cost(part, depth + 1)[0] for part in (loop.loop_condition, loop.loop_step))
        around = sum(self.cost(part, depth)[0] for part in (loop.accu_init, loop.result))
        return steps + around + size * each, size

    def _call(self, expr: Any, depth: int) -> tuple[int, int]:
        call, parts = expr.call_expr, list(_parts(expr))
        if call.function == "_[_]" and _is_variable(parts[0], "request.headers"):
            return self._header(expr, _text(parts[1]))
        if call.function == "@in" and _is_variable(parts[1], "request.headers"):
            return self._header(expr, _text(parts[0]))
        if call.function in ("_==_", "_!=_") and any(map(_is_null, parts)) and any(map(_is_token, parts)):
            self.variables.add("token")
            return 3, 1
        if depth and expr.id in self._joins and parts[0].ident_expr.name != "@result":
            raise self._refused(expr, "texts or lists joined within a loop (join them outside)")
        if call.function == "matches":
            pattern = _text(parts[1])
            if pattern is None:
                raise self._refused(expr, "pattern of matches() that is not literal (write it out)")
            self.patterns.add(pattern)
        found = [self.cost(part, depth) for part in parts]
        steps = 1 + sum(taken for taken, _ in found) + _COSTS.get(call.function, 0)
        return steps, max(self._unknown, sum(size for _, size in found))

    def _variable(self, expr: Any) -> None:
        name = expr.ident_expr.name
        if name == "token":
            raise self._refused(expr, "token used as a value (compare it with null, or read token.claims)")
        if name == "request.headers":
            raise self._refused(expr, "request.headers used as a value (read one by name: request.headers['x-team'])")
        self.variables.add(name)

    def _header(self, expr: Any, name: str | None) -> tuple[int, int]:
        if name is None:
            raise self._refused(expr, "name of a header that is not literal (write it out)")
        if not name or name != name.lower() or not name.isascii():
            raise self._refused(expr, f"header {name!a} is not in lower case (names of headers are)")
        self.headers.add(name)
        self.variables.add("request.headers")
        return 2, self._unknown


def _is_variable(expr: Any, name: str) -> bool:
    return bool(expr.ident_expr.name == name)


def _is_token(expr: Any) -> bool:
    return _is_variable(expr, "token")


def _is_null(expr: Any) -> bool:
    return bool(expr.const_expr.HasField("null_value"))


def _text(expr: Any) -> str | None:
    """The literal text that it is, if it is one."""
    return str(expr.const_expr.string_value) if expr.const_expr.HasField("string_value") else None
