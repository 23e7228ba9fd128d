"""What a value in a document can be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text that ``pattern`` matches from end to end; ``name`` is what the page calls it."""

    name: str
    pattern: str
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """``true``, or, unless ``only_true``, ``false``."""

    only_true: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """A list of ``least`` to ``most`` items, none twice."""

    item: Shape
    most: int
    least: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A mapping with the author's own keys, at least one."""

    key: Text
    value: Shape
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to fill an object: the fields that are there, those that are not, and fields with a fixed value."""

    there: tuple[str, ...]
    absent: tuple[str, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an object; ``default`` tells what its absence means."""

    name: str
    shape: Shape
    summary: str
    required: bool = False
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Where field ``beside`` is there, the list ``field`` holds ``word``, or is absent."""

    beside: str
    field: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A mapping with known fields: at least one of ``any_of``, exactly one of ``variants``, not all of ``apart``."""

    name: str
    summary: str
    fields: tuple[Field, ...]
    variants: tuple[Variant, ...] = ()
    any_of: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    needed: Needed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """A value of one of some shapes."""

    shapes: tuple[Shape, ...]


Shape = Text | Number | Flag | Choice | Many | Named | Object | Either


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of document, with whole documents as examples."""

    name: str
    summary: str
    spec: Object
    examples: tuple[str, ...]
