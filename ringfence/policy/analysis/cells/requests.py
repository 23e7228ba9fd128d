"""The requests that rules can tell apart: paths, methods, hosts and headers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from ringfence.policy.analysis.cells.segments import (
    SegmentPattern,
    SegmentRules,
    TooManyClassesError,
    segment_classes,
)
from ringfence.policy.lists import METHODS
from ringfence.policy.model import HeaderMatch, Rule
from ringfence.policy.paths import parse_template

# The form of OPTIONS that asks of no path (RFC 9112 section 3.2.4); no template takes it.
ASTERISK: Final = "*"
OPTIONS: Final = "OPTIONS"
LIMIT_VALUE_SETS: Final = 4096
_OTHER_HOST: Final = "other.example"
_OTHER_VALUES: Final = ("other", "another")


@lru_cache(maxsize=10_000)
def _template(text: str) -> SegmentPattern:
    template = parse_template(text)
    words = (part.decode("ascii") if isinstance(part, bytes) else None for part in template.segments)
    return SegmentPattern(tuple(words), template.rest)


def path_patterns(rule: Rule) -> frozenset[SegmentPattern]:
    """The paths of a rule."""
    return frozenset(_template(text) for text in rule.paths)


def grpc_patterns(rule: Rule) -> frozenset[SegmentPattern]:
    """The paths of the gRPC methods of a rule."""
    return frozenset(SegmentPattern((one.service, one.method)) for one in rule.grpc)


def path_classes(patterns: Iterable[SegmentPattern]) -> list[tuple[str, list[SegmentPattern]]]:
    """A path for each set of ``patterns`` that are exactly those that take some path, with that set; but for the
    asterisk."""
    listed = sorted(patterns, key=lambda one: (one.rest, [word or "" for word in one.segments]))
    classes = segment_classes(listed, _PATHS)
    return [("/" + "/".join(word), [listed[at] for at in took]) for took, word in classes.items()]


def _fresh_segment(taken: frozenset[str]) -> str:
    number = 1
    while str(number) in taken:
        number += 1
    return str(number)


def _last_only(segment: str) -> bool:
    """Parameters before a slash are refused as ambiguous, and an empty segment before one, too."""
    return not segment or ";" in segment


_PATHS: Final = SegmentRules(fresh=_fresh_segment, last_only=_last_only, may_end_empty=True)


def other_method(named: Iterable[str]) -> str:
    """A method that is none of ``named``; one that a server knows, if there is one left."""
    taken = frozenset(named)
    for method in METHODS:
        if method not in taken:
            return method
    number = 1
    while f"OTHER{number}" in taken:
        number += 1
    return f"OTHER{number}"


def host_classes(patterns: Iterable[str]) -> list[str]:
    """A host for each set of ``patterns`` that are exactly those that take some host, first one that none takes.

    Which wildcards take a host is said by the longest of them, so a name of its own below each stands for all others.
    """
    listed = sorted(set(patterns))
    candidates = [one for one in listed if not one.startswith("*.")]
    for wildcard in (one[1:] for one in listed if one.startswith("*.")):
        number = 0
        while (name := f"host{number or ''}{wildcard}") in listed:
            number += 1
        candidates.append(name)
    other = _OTHER_HOST
    while any(host_matches(one, other) for one in listed):
        other = f"{other}{len(other)}"
    found: dict[frozenset[str], str] = {}
    for host in (other, *candidates):
        found.setdefault(frozenset(one for one in listed if host_matches(one, host)), host)
    return list(found.values())


def host_matches(pattern: str, host: str) -> bool:
    """Whether the pattern takes the host; ``*.`` is one or more labels."""
    return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1 if pattern[:2] == "*." else host == pattern


def header_lines(named: Iterable[str], refused: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The lines that a header may have, as far as rules tell apart that want one of the values ``named``, and others
    that refuse each of ``refused``, which look at every line."""
    listed = sorted(named)
    long = "x" * (1 + max(map(len, listed), default=0))
    other = next(value for value in (*_OTHER_VALUES, long) if value not in listed)
    once = [(), (other,), *((value,) for value in listed)]
    return [*once, *((*lines, *([other] * (2 - len(lines)))) for lines in value_sets(refused))]


def header_matches(match: HeaderMatch, lines: Sequence[str], *, refuses: bool) -> bool:
    """Whether a rule speaks of a header with these lines. One that is there twice has no value for a rule that permits,
    and each of its values for one that ``refuses``."""
    if match.values:
        return any(line in match.values for line in lines) and (refuses or len(lines) == 1)
    return bool(lines) == match.present


def value_sets(wanted: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Some values for each set of ``wanted`` of which values can hit just these, the empty one first."""
    sets = list(dict.fromkeys(wanted))
    hits: dict[frozenset[int], tuple[str, ...]] = {frozenset(): ()}
    for value in sorted({value for values in sets for value in values}):
        hit = frozenset(at for at, values in enumerate(sets) if value in values)
        for known, values in list(hits.items()):
            hits.setdefault(known | hit, (*values, value))
        if len(hits) > LIMIT_VALUE_SETS:
            raise TooManyClassesError(f"values of one name combine in more than {LIMIT_VALUE_SETS} ways")
    return list(hits.values())
