"""From observed paths of one caller to path templates. Pure.

A segment that the sidecar has merged is a parameter. Of words, those at one place below which all paths look alike
become one where there are many of them; few keep their names, and words at the root always do: there the parts of an
API part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ringfence.policy.learning.shapes import MERGED, PARAMETER, REST

Segments = tuple[str, ...]
_ANY = PARAMETER


def templates_of(paths: Iterable[Segments], merge_above: int) -> dict[Segments, Segments]:
    """The template of each path, as segments: words, ``{id}`` for a parameter, at the end perhaps ``{rest}``."""
    known = {path: tuple(_ANY if word == MERGED else word for word in path) for path in paths}
    depth = max((len(path) for path in known), default=0)
    # From the leaves to the root, since whether words are alike is seen by what is below them.
    for at in range(depth - 1, 0, -1):
        merged = _merged_at(set(known.values()), at, merge_above)
        known = {
            path: (*template[:at], _ANY, *template[at + 1 :]) if template[: at + 1] in merged else template
            for path, template in known.items()
        }
    return known


def _merged_at(templates: set[Segments], at: int, merge_above: int) -> set[Segments]:
    """Of the beginnings of ``at + 1`` segments those whose last word becomes a parameter."""
    below: dict[Segments, set[Segments]] = {}
    for template in templates:
        if len(template) > at and template[at] not in (_ANY, REST, ""):
            below.setdefault(template[: at + 1], set()).add(template[at + 1 :])
    alike: dict[tuple[Segments, frozenset[Segments]], list[Segments]] = {}
    for beginning, ends in below.items():
        alike.setdefault((beginning[:at], frozenset(ends)), []).append(beginning)
    return {beginning for group in alike.values() if len(group) > merge_above for beginning in group}


def covers(wide: Segments, narrow: Segments) -> bool:
    """Whether every path that ``narrow`` takes is taken by ``wide``."""
    if wide[-1:] == (REST,):
        head = wide[:-1]
        return len(narrow) >= len(head) and covers(head, narrow[: len(head)])
    if len(wide) != len(narrow) or narrow[-1:] == (REST,):
        return False
    # An empty segment (a trailing slash) is no text, and a parameter takes some.
    return all(one == other or (one == _ANY and other != "") for one, other in zip(wide, narrow, strict=True))


def widest(templates: Mapping[Segments, frozenset[str]]) -> dict[Segments, Segments]:
    """For each template the one in whose place it need not stand: of those that cover it, with its methods and more,
    one that no other covers; itself, if there is none."""
    found: dict[Segments, Segments] = {}
    # Those with most parameters first: what covers another has at least as many.
    order = sorted(templates, key=lambda one: (one[-1] != REST, -sum(word == _ANY for word in one), len(one), one))
    wide: list[Segments] = []  # those that are no other's, and could be in the place of others
    for template in order:
        cover = next((one for one in wide if covers(one, template) and templates[template] <= templates[one]), None)
        found[template] = cover if cover is not None else template
        if cover is None and (_ANY in template or template[-1] == REST):
            wide.append(template)
    return found


def template_text(segments: Segments) -> str:
    """The template as documents have it, each parameter with a name of its own."""
    words: list[str] = []
    parameters = 0
    for word in segments:
        if word == _ANY:
            parameters += 1
            words.append("{id}" if parameters == 1 else f"{{id{parameters}}}")
        else:
            words.append("**" if word == REST else word)
    return "/" + "/".join(words)
