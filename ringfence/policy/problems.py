"""A problem in a document: where it is, what it is, how bad, and the mend. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_SHOWN_CHARACTERS: Final = 80
_COMPARED_CHARACTERS: Final = 64


class Severity(StrEnum):
    """Whether a document can be put in force as it is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a document, or with a warning surely not meant; ``line`` and ``column`` count from 1;
    problems sort by place.

    ``str`` gives the one line that every command prints: ``file:line:column: message (mend)``.
    """

    file: str
    line: int
    column: int
    message: str
    mend: str = ""
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        """Whether nothing can be put in force with it."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        kind = "" if self.is_error else "warning: "
        where = f"{self.file}:{self.line}:{self.column}: {kind}{self.message}"
        line = f"{where} ({self.mend})" if self.mend else where
        # A file may bear any name, and what is printed must stay one line that a terminal only shows.
        return line if line.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a document, kept for what is found out about it later."""

    file: str
    line: int
    column: int

    def problem(self, message: str, mend: str = "") -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.column, message, mend)

    def warning(self, message: str, mend: str = "") -> Problem:
        """At this place something that is surely not meant, and can be put in force all the same."""
        return Problem(self.file, self.line, self.column, message, mend, Severity.WARNING)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Absences:
    """Takes in what is amiss only because something is not there, or not as a document has it. ``lenient``: it may be
    there soon, as where services come and go by themselves: then it is a warning."""

    __slots__ = ("_lenient", "_problems")

    def __init__(self, problems: list[Problem], *, lenient: bool) -> None:
        self._problems = problems
        self._lenient = lenient

    def append(self, problem: Problem) -> None:
        """One of them."""
        self._problems.append(replace(problem, severity=Severity.WARNING) if self._lenient else problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Some of them."""
        for problem in problems:
            self.append(problem)


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those with which nothing can be put in force."""
    return [problem for problem in problems if problem.is_error]


def shown(text: str) -> str:
    """``text`` quoted for a message: ASCII only, so that a look-alike letter or a trailing newline can be seen; cut."""
    return ascii(text) if len(text) <= _SHOWN_CHARACTERS else ascii(text[:_SHOWN_CHARACTERS]) + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, whatever its case; None when none is near."""
    if len(name) > _COMPARED_CHARACTERS:
        return None
    import difflib  # 140 KiB that a sidecar, which imports this module by a detour, need not hold

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def choose_from(name: str, known: Iterable[str]) -> str:
    """The mend for an unknown ``name``: the nearest known one, or else all of them."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near}?" if near is not None else "use one of " + ", ".join(names) if names else ""
