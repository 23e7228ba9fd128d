"""Typed reading of YAML documents, every error collected with its place and mend. Pure; generic, no policy words.

Used for policies, ``mesh.yaml`` and ``sidecar.yaml``. One list of problems goes through the whole reading; a method
that cannot answer appends to it and returns a stand-in of the right type, so that reading goes on and the author sees
all errors at once. When the list is not empty at the end, what was read must be thrown away.

    problems: list[Problem] = []
    for node in load_yaml(path.read_bytes(), str(path), problems):        # bytes or str; one node a document
        document = MappingReader(node, str(path), problems)
        document.choice("apiVersion", ["ringfence.io/v1alpha1"])
        document.choice("kind", ["Mesh"])
        spec = document.mapping("spec")                                   # required: no default given
        domain = spec.parsed("trustDomain", TrustDomain.parse)            # any text -> T that raises ValueError
        identities = spec.mapping("identities", default=None)             # MappingReader, an empty one if absent
        lifetime = identities.duration("lifetime", low=10, high=86400, default=3600.0)      # seconds
        for service in spec.mappings("services"):                         # a list of mappings
            name = service.text("name")
            namespace = service.text("namespace", default="default")
            mesh = service.integer("mesh", 1, 65535, default=None)        # int | None
            app = service.address("app", default_host="127.0.0.1")        # "host:port" or a bare port
            log = service.choice("accessLog", ["denied", "all"], default="denied")
            command = service.texts("command", default=())                # a list of texts
            environment = service.text_mapping("env", default=None)       # dict[str, str]
            if name in seen:
                service.problem(f"duplicate service {shown(name)}", "rename one", key="name")
            service.finish()                                              # unknown keys, with the nearest known name
        spec.finish(); identities.finish(); document.finish()
    if problems:
        for problem in sorted(problems): print(problem, file=sys.stderr)  # file:line:column: message (mend)
        raise SystemExit(2)

A key without ``default`` is required. Known keys are those that were asked for, so call ``finish`` last. A value of the
wrong shape never passes for another: ``8080`` is no text, ``"8080"`` no number, ``yes`` no boolean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar, overload

from ringfence.policy.problems import Place, Problem, choose_from, shown
from ringfence.policy.yamlscalars import (
    HostPort,
    UnreadableError,
    read_address,
    read_boolean,
    read_choice,
    read_duration,
    read_integer,
    read_share,
    read_text,
)
from ringfence.policy.yamltree import MappingNode, Node, RefusedNode, ScalarNode, SequenceNode, load_yaml

__all__ = ["HostPort", "MappingReader", "Node", "Place", "Problem", "ValueReader", "choose_from", "load_yaml", "shown"]

T = TypeVar("T")
D = TypeVar("D")

_UNKNOWN_KEYS_TOLD: Final = 20
_KINDS: Final = {ScalarNode: "a value", SequenceNode: "a list", MappingNode: "a mapping"}


class _Required:
    """The type of the mark "no default: the key must be there"."""

    __slots__ = ()


_REQUIRED: Final = _Required()


class ValueReader:
    """One value at one place; each method answers it as a type, or tells the problem and answers ``instead``."""

    __slots__ = ("_problems", "file", "node", "what")

    def __init__(self, node: Node, file: str, problems: list[Problem], what: str = "value") -> None:
        self.node = node
        self.file = file
        self.what = what
        self._problems = problems

    def problem(self, message: str, mend: str = "") -> None:
        """Tell a problem at this value's place."""
        self._problems.append(self.place.problem(message, mend))

    @property
    def place(self) -> Place:
        """Where the value stands."""
        return Place(self.file, self.node.line, self.node.column)

    def wrong_kind(self, wanted: str) -> None:
        """Tell that the value is not ``wanted``, unless something was told of it already."""
        if not isinstance(self.node, RefusedNode):
            found = "nothing" if _is_empty(self.node) else _KINDS[type(self.node)]
            self.problem(f"{self.what} must be {wanted}, not {found}")

    def _scalar(self, read: Callable[[ScalarNode], T], wanted: str, instead: T) -> T:
        if not isinstance(self.node, ScalarNode):
            self.wrong_kind(wanted)
            return instead
        try:
            return read(self.node)
        except UnreadableError as error:
            self.problem(f"{self.what} {error.message}", error.mend)
            return instead

    def text(self, instead: str = "") -> str:
        """Text that is not empty; a plain number, boolean or null is refused, as YAML gives it another type."""
        return self._scalar(read_text, "text", instead)

    def integer(self, low: int, high: int) -> int:
        """A decimal integer from ``low`` to ``high``; ``low`` stands in."""
        return self._scalar(lambda node: read_integer(node, low, high), "a whole number", low)

    def share(self) -> float:
        """A share of all: a decimal number from 0 to 1; 0 stands in."""
        return self._scalar(read_share, "a number", 0.0)

    def boolean(self) -> bool:
        """``true`` or ``false``, nothing else; False stands in."""
        return self._scalar(read_boolean, "true or false", False)

    def choice(self, options: Iterable[str]) -> str:
        """One of ``options``; the first stands in."""
        names = list(options)
        return self._scalar(lambda node: read_choice(node, names), "one of " + ", ".join(names), names[0])

    def address(self, default_host: str | None = None) -> HostPort:
        """``host:port``, ``[v6]:port``, or, with ``default_host``, a bare port; port 1 to 65535."""
        return self._scalar(lambda node: read_address(node, default_host), "an address", HostPort("", 0))

    def duration(self, low: float = 0.0, high: float = float("inf")) -> float:
        """Seconds, from ``500ms``, ``10s``, ``5m``, ``1h30m``, ``2d``; ``low`` stands in."""
        return self._scalar(lambda node: read_duration(node, low, high), "a duration", low)

    def parsed(self, parse: Callable[[str], T], mend: str = "") -> T | None:
        """The text through ``parse``; its ValueError becomes the problem; None stands in."""

        def read(node: ScalarNode) -> T | None:
            try:
                return parse(read_text(node))
            except ValueError as error:
                raise UnreadableError(f"{shown(node.text)} is not valid: {error}", mend) from error

        return self._scalar(read, "text", None)

    def mapping(self) -> MappingReader:
        """The value as a mapping."""
        return MappingReader(self.node, self.file, self._problems, self.what)

    def items(self) -> list[ValueReader]:
        """The value as a list of values; no items stand in."""
        if not isinstance(self.node, SequenceNode):
            self.wrong_kind("a list")
            return []
        return [ValueReader(item, self.file, self._problems, f"item of {self.what}") for item in self.node.items]


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.plain and node.text == ""


class MappingReader:
    """One mapping; see the module's docstring for its use. ``present`` is False for the stand-in of an absent one."""

    __slots__ = ("_asked", "_problems", "_values", "file", "node", "present", "what")

    def __init__(self, node: Node | None, file: str, problems: list[Problem], what: str = "document") -> None:
        self.node: Node = node if node is not None else RefusedNode(1, 1)
        self.file = file
        self.what = what
        self.present = isinstance(node, MappingNode)
        self._problems = problems
        self._asked: dict[str, None] = {}
        self._values: dict[str, tuple[ScalarNode, Node]] = {}
        if isinstance(node, MappingNode):
            self._values = {key.text: (key, value) for key, value in node.entries}
        elif node is not None:
            ValueReader(node, file, problems, what).wrong_kind("a mapping")

    def problem(self, message: str, mend: str = "", *, key: str | None = None) -> None:
        """Tell a problem: at the value of ``key`` if it is there, else where the mapping begins."""
        self._problems.append(self.place(key).problem(message, mend))

    def place(self, key: str | None = None) -> Place:
        """Where the value of ``key`` stands if it is there, else where the mapping begins."""
        node = self._values[key][1] if key is not None and key in self._values else self.node
        return Place(self.file, node.line, node.column)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        """The keys as written, in order; for mappings whose keys are the author's own."""
        return iter(self._values)

    def value(self, key: str, default: object = _REQUIRED) -> ValueReader | None:
        """The value at ``key``; None if absent, which is a problem unless a ``default`` says that it may be."""
        self._asked[key] = None
        found = self._values.get(key)
        if found is not None:
            return ValueReader(found[1], self.file, self._problems, key)
        if default is _REQUIRED and self.present:
            self.problem(f"{self.what} lacks {key}", f"add {key}")
        return None

    def known(self, *keys: str) -> None:
        """Count ``keys`` as known without reading them."""
        self._asked.update(dict.fromkeys(keys))

    def one_of(self, *keys: str) -> str | None:
        """Which one of ``keys`` is there; none or several is a problem and answers None."""
        self.known(*keys)
        there = [key for key in keys if key in self._values]
        if len(there) == 1:
            return there[0]
        if there:
            self.problem(f"{self.what} has {' and '.join(there)}", "keep one of them", key=there[1])
        elif self.present:
            self.problem(f"{self.what} lacks {' or '.join(keys)}", "add one of them")
        return None

    @overload
    def text(self, key: str) -> str: ...
    @overload
    def text(self, key: str, *, default: D) -> str | D: ...
    def text(self, key: str, *, default: object = _REQUIRED) -> object:
        """Text that is not empty."""
        value = self.value(key, default)
        return value.text() if value is not None else _or("", default)

    @overload
    def integer(self, key: str, low: int, high: int) -> int: ...
    @overload
    def integer(self, key: str, low: int, high: int, *, default: D) -> int | D: ...
    def integer(self, key: str, low: int, high: int, *, default: object = _REQUIRED) -> object:
        """A decimal integer from ``low`` to ``high``, both included."""
        value = self.value(key, default)
        return value.integer(low, high) if value is not None else _or(low, default)

    @overload
    def boolean(self, key: str) -> bool: ...
    @overload
    def boolean(self, key: str, *, default: D) -> bool | D: ...
    def boolean(self, key: str, *, default: object = _REQUIRED) -> object:
        """``true`` or ``false``."""
        value = self.value(key, default)
        return value.boolean() if value is not None else _or(False, default)

    @overload
    def choice(self, key: str, options: Iterable[str]) -> str: ...
    @overload
    def choice(self, key: str, options: Iterable[str], *, default: D) -> str | D: ...
    def choice(self, key: str, options: Iterable[str], *, default: object = _REQUIRED) -> object:
        """One of ``options`` (which may be a StrEnum class)."""
        names = [str(option) for option in options]
        value = self.value(key, default)
        return value.choice(names) if value is not None else _or(names[0], default)

    @overload
    def address(self, key: str, *, default_host: str | None = None) -> HostPort: ...
    @overload
    def address(self, key: str, *, default: D, default_host: str | None = None) -> HostPort | D: ...
    def address(self, key: str, *, default: object = _REQUIRED, default_host: str | None = None) -> object:
        """``host:port``; with ``default_host`` a bare port will do."""
        value = self.value(key, default)
        return value.address(default_host) if value is not None else _or(HostPort("", 0), default)

    @overload
    def duration(self, key: str, *, low: float = 0.0, high: float = float("inf")) -> float: ...
    @overload
    def duration(self, key: str, *, default: D, low: float = 0.0, high: float = float("inf")) -> float | D: ...
    def duration(
        self, key: str, *, default: object = _REQUIRED, low: float = 0.0, high: float = float("inf")
    ) -> object:
        """Seconds."""
        value = self.value(key, default)
        return value.duration(low, high) if value is not None else _or(low, default)

    def parsed(self, key: str, parse: Callable[[str], T], *, mend: str = "", default: object = _REQUIRED) -> T | None:
        """Text through ``parse``, whose ValueError becomes the problem; None if absent or not valid."""
        value = self.value(key, default)
        return value.parsed(parse, mend) if value is not None else None

    def mapping(self, key: str, *, default: object = _REQUIRED, short: str | None = None) -> MappingReader:
        """The mapping at ``key``; absent: an empty one with ``present`` False.

        ``short``: a single value stands for a mapping that has just that key.
        """
        value = self.value(key, default)
        if value is None:
            return MappingReader(None, self.file, self._problems, key)
        node = value.node
        if short is not None and isinstance(node, ScalarNode) and not _is_empty(node):
            name = ScalarNode(node.line, node.column, short, True)
            node = MappingNode(node.line, node.column, ((name, node),))
        return MappingReader(node, self.file, self._problems, key)

    def sequence(self, key: str, *, default: object = _REQUIRED) -> list[ValueReader]:
        """The items of the list at ``key``; none if absent."""
        value = self.value(key, default)
        return value.items() if value is not None else []

    def mappings(self, key: str, *, default: object = _REQUIRED) -> list[MappingReader]:
        """The items of the list at ``key``, each a mapping."""
        return [item.mapping() for item in self.sequence(key, default=default)]

    def texts(self, key: str, *, default: object = _REQUIRED) -> tuple[str, ...]:
        """The items of the list at ``key``, each a text; none if absent."""
        return tuple(item.text() for item in self.sequence(key, default=default))

    def text_mapping(self, key: str, *, default: object = _REQUIRED) -> dict[str, str]:
        """The mapping at ``key`` with the author's own keys and texts as values; empty if absent."""
        inner = self.mapping(key, default=default)
        return {name: inner.text(name) for name in inner}

    def finish(self) -> None:
        """Tell every key that nobody asked for, with the nearest known name. Call it last."""
        unknown = [key for key in self._values if key not in self._asked]
        for key in unknown[:_UNKNOWN_KEYS_TOLD]:
            node = self._values[key][0]
            message = f"unknown field {shown(key)} in {self.what}"
            self._problems.append(Problem(self.file, node.line, node.column, message, choose_from(key, self._asked)))
        if len(unknown) > _UNKNOWN_KEYS_TOLD:
            self.problem(f"{len(unknown) - _UNKNOWN_KEYS_TOLD} more unknown fields in {self.what}")


def _or(stand_in: object, default: object) -> object:
    """What an absent key answers."""
    return stand_in if default is _REQUIRED else default
