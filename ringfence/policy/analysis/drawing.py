"""A graph as text, DOT, Mermaid or JSON; equal graphs give equal text. Pure.

Names come from documents and may hold anything, and DOT and Mermaid are read by programs that draw links and run
scripts: each name is quoted by the rules of its language, and only stands where that has a quoted text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from ringfence.policy.analysis.explained import place_document, printable
from ringfence.policy.analysis.graph import Edge, Grant, Graph, Node, NodeKind
from ringfence.policy.analysis.moments import format_moment
from ringfence.policy.analysis.spelled import spelled_grpc, spelled_header
from ringfence.policy.model import TokenMatch

_GRANTS_DRAWN: Final = 8
_MERMAID_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ./:_-,")


class Format(StrEnum):
    """How a graph is shown."""

    TEXT = "text"
    DOT = "dot"
    MERMAID = "mermaid"
    JSON = "json"


def spelled_grant(grant: Grant) -> str:
    """``8080 GET /orders/{id}``, with all else that is asked for."""
    rule = grant.rule
    words = [",".join(map(str, grant.ports))]
    words += [",".join(rule.methods)] if rule.methods else []
    what = [*rule.paths, *(spelled_grpc(method) for method in rule.grpc)]
    words += [", ".join(what)] if what else []
    words += [f"host {' or '.join(rule.hosts)}"] if rule.hosts else []
    words += [f"header {header.name}: {spelled_header(header)}" for header in rule.headers]
    words += [f"token {_spelled_token(rule.token)}".rstrip()] if rule.token is not None else []
    words += [f"from {', '.join(grant.cidrs)}"] if grant.cidrs else []
    words += [f"when {' '.join(rule.when.split())}"] if rule.when else []
    words += [f"but for {', '.join(grant.denied_by)}"] if grant.denied_by else []
    return " ".join(words)


def _spelled_token(token: TokenMatch) -> str:
    words = [f"of {' or '.join(token.issuers)}"] if token.issuers else []
    words += [f"scope {' and '.join(token.scopes)}"] if token.scopes else []
    words += [f"{name} {' or '.join(values)}" for name, values in token.claims]
    words += [f"acr {' or '.join(token.acr)}"] if token.acr else []
    words += [f"amr {' and '.join(token.amr)}"] if token.amr else []
    words += [f"not older than {token.max_age_seconds} s"] if token.max_age_seconds is not None else []
    return ", ".join(words)


def as_text(graph: Graph) -> Iterator[str]:
    """Each service with its callers, and what each may do."""
    observed = dict(graph.observed)
    edges = _by_target(graph)
    for node in graph.nodes:
        if node.kind is not NodeKind.SERVICE:
            continue
        yield printable(node.name)
        if node in graph.unjudged:
            yield "  judges its callers itself: it has no sidecar"
        elif node not in edges:
            yield "  no rule permits anybody to call it" if node in observed else "  nobody may call it"
        if node in observed:
            yield f"  observed until {format_moment(observed[node])}: until then what no rule permits passes, too"
        for edge in edges.get(node, ()):
            yield f"  from {printable(edge.source.name)}"
            for grant in edge.grants:
                yield f"    {printable(spelled_grant(grant))}  [{printable(grant.named.full_name)}]"


def as_dot(graph: Graph) -> Iterator[str]:
    """Graphviz; other callers than services are ellipses, edges with a condition are dashed."""
    names = {node: f"n{at}" for at, node in enumerate(graph.nodes)}
    yield "digraph policy {"
    yield "  rankdir=LR;"
    for node, name in names.items():
        shape = "box" if node.kind is NodeKind.SERVICE else "ellipse"
        yield f"  {name} [label={_dot(node.name)}, shape={shape}];"
    for edge in graph.edges:
        style = "dashed" if all(_is_conditional(grant) for grant in edge.grants) else "solid"
        label = "\\l".join(_dot_inner(line) for line in _lines(edge)) + "\\l"
        yield f'  {names[edge.source]} -> {names[edge.target]} [label="{label}", style={style}];'
    yield "}"


def as_mermaid(graph: Graph) -> Iterator[str]:
    """A Mermaid flowchart, drawn the same way."""
    names = {node: f"n{at}" for at, node in enumerate(graph.nodes)}
    yield "flowchart LR"
    for node, name in names.items():
        opening, closing = ("[", "]") if node.kind is NodeKind.SERVICE else ("([", "])")
        yield f'  {name}{opening}"{_mermaid(node.name)}"{closing}'
    for edge in graph.edges:
        arrow = "-.->" if all(_is_conditional(grant) for grant in edge.grants) else "-->"
        label = "<br/>".join(_mermaid(line) for line in _lines(edge))
        yield f'  {names[edge.source]} {arrow}|"{label}"| {names[edge.target]}'


def as_document(graph: Graph) -> dict[str, object]:
    """The JSON object, with every grant and where its rule stands."""
    return {
        "nodes": [
            {
                "kind": node.kind,
                "name": node.name,
                "observed_until": format_moment(until) if (until := dict(graph.observed).get(node)) else None,
                "judged": node.kind is NodeKind.SERVICE and node not in graph.unjudged,
            }
            for node in graph.nodes
        ],
        "edges": [
            {
                "from": _reference(edge.source),
                "to": _reference(edge.target),
                "grants": [_grant(grant) for grant in edge.grants],
            }
            for edge in graph.edges
        ],
    }


DRAWN: Final[Mapping[Format, Callable[[Graph], Iterator[str]]]] = {
    Format.TEXT: as_text,
    Format.DOT: as_dot,
    Format.MERMAID: as_mermaid,
}


def _by_target(graph: Graph) -> dict[Node, list[Edge]]:
    found: dict[Node, list[Edge]] = {}
    for edge in graph.edges:
        found.setdefault(edge.target, []).append(edge)
    return found


def _is_conditional(grant: Grant) -> bool:
    """Whether more than who, where and what decides."""
    rule = grant.rule
    return bool(rule.when or rule.token is not None or rule.headers or grant.cidrs or grant.denied_by)


def _lines(edge: Edge) -> list[str]:
    lines = [f"{spelled_grant(grant)} ({grant.named.full_name})" for grant in edge.grants[:_GRANTS_DRAWN]]
    more = len(edge.grants) - _GRANTS_DRAWN
    return [*lines, f"and {more} more"] if more > 0 else lines


def _dot(text: str) -> str:
    return f'"{_dot_inner(text)}"'


def _dot_inner(text: str) -> str:
    """Inside double quotes DOT knows ``\\"`` and its own escapes, which all begin with a backslash."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')


def _mermaid(text: str) -> str:
    """Inside double quotes Mermaid still reads HTML, Markdown and entities: whatever could be one becomes a number."""
    return "".join(one if one in _MERMAID_PLAIN else f"#{ord(one)};" for one in printable(text))


def _reference(node: Node) -> dict[str, object]:
    return {"kind": node.kind, "name": node.name}


def _grant(grant: Grant) -> dict[str, object]:
    rule = grant.rule
    return {
        "rule": grant.named.full_name,
        "place": place_document(grant.place),
        "ports": list(grant.ports),
        "methods": list(rule.methods),
        "paths": list(rule.paths),
        "grpc": [spelled_grpc(method) for method in rule.grpc],
        "hosts": list(rule.hosts),
        "headers": [{"name": one.name, "values": list(one.values), "present": one.present} for one in rule.headers],
        "token": _spelled_token(rule.token) if rule.token is not None else None,
        "when": rule.when or None,
        "cidrs": list(grant.cidrs),
        "denied_by": list(grant.denied_by),
    }
