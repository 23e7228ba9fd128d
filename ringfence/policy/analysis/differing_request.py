"""Differences in what a request asks for: method, path, host and headers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ringfence.policy.analysis.differing import Difference, Dimension, Mending
from ringfence.policy.analysis.examples import GRPC_HEADERS, example_host, example_path, grpc_path
from ringfence.policy.analysis.spelled import spelled_grpc, spelled_header
from ringfence.policy.model import HeaderMatch
from ringfence.policy.paths import judged_path


def differ_method(mending: Mending) -> None:
    """The method, wherever it goes."""
    methods = mending.rule.methods
    if methods and not mending.takes_at("/", methods=methods):
        difference = Difference(dimension=Dimension.METHOD, has=mending.call.method, wants=methods)
        mending.differ(difference, replace(mending.call, method=methods[0]))


def differ_host(mending: Mending) -> None:
    """The host asked for."""
    hosts = mending.rule.hosts
    if hosts and not mending.takes(hosts=hosts):
        difference = Difference(dimension=Dimension.HOST, has=mending.call.host or "none", wants=hosts)
        mending.differ(difference, replace(mending.call, host=example_host(hosts[0])))


def differ_headers(mending: Mending) -> None:
    """Each header that the rule speaks of."""
    for header in mending.rule.headers:
        if not mending.takes(headers=(header,)):
            _differ_header(mending, header)


def differ_path(mending: Mending) -> None:
    """The path, or the gRPC method."""
    rule, call = mending.rule, mending.call
    if mending.takes(paths=rule.paths, grpc=rule.grpc):
        return
    ambiguous = judged_path(call.path.encode()) is None
    difference = Difference(
        dimension=Dimension.PATH,
        # A gRPC method is a path and a POST, so that the method may be all that is wrong.
        has=(f"{call.method} " if rule.grpc else "")
        + call.path
        + (", which servers may read in several ways" if ambiguous else ""),
        wants=(*rule.paths, *(f"gRPC {spelled_grpc(one)}" for one in rule.grpc)) or ("any that is not ambiguous",),
    )
    if rule.grpc and not (rule.paths and call.method != "POST"):
        headers = _with(call.headers, GRPC_HEADERS)
        mended = replace(call, method="POST", path=grpc_path(rule.grpc[0]), headers=headers)
    else:
        mended = replace(call, path=example_path(rule.paths[0]) if rule.paths else "/")
    mending.differ(difference, mended)


def _differ_header(mending: Mending, match: HeaderMatch) -> None:
    call = mending.call
    had = [value for name, value in call.headers if name.lower() == match.name]
    difference = Difference(
        dimension=Dimension.HEADER,
        name=match.name,
        has=", ".join(had) + (" (several, so none)" if len(had) > 1 and match.values else "") if had else "absent",
        wants=match.values or (spelled_header(match),),
    )
    if match.values:
        headers = _with(call.headers, [(match.name, match.values[0])])
    elif match.present:
        headers = _with(call.headers, [(match.name, "any")])
    else:
        headers = tuple(one for one in call.headers if one[0].lower() != match.name)
    mending.differ(difference, replace(call, headers=headers))


def _with(headers: tuple[tuple[str, str], ...], new: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """``headers`` with each of ``new`` in place of what had its name."""
    added = tuple(new)
    names = {name for name, _ in added}
    return (*(one for one in headers if one[0].lower() not in names), *added)
