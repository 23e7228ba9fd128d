"""Differences in what a request asks for: method, path, host and headers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ringfence.policy.analysis.differing import Difference, Dimension, Mending
from ringfence.policy.analysis.examples import GRPC_HEADERS, example_host, example_path, grpc_path
from ringfence.policy.analysis.spelled import spelled_grpc, spelled_header
from ringfence.policy.model import HeaderMatch
from ringfence.policy.paths import judged_path


def differ_request(mending: Mending) -> None:
    """All of them, in this order."""
    rule = mending.rule
    if rule.methods and not mending.takes_at("/", methods=rule.methods):
        difference = Difference(dimension=Dimension.METHOD, has=mending.call.method, wants=rule.methods)
        mending.differ(difference, replace(mending.call, method=rule.methods[0]))
    _differ_path(mending)
    if rule.hosts and not mending.takes(hosts=rule.hosts):
        difference = Difference(dimension=Dimension.HOST, has=mending.call.host or "none", wants=rule.hosts)
        mending.differ(difference, replace(mending.call, host=example_host(rule.hosts[0])))
    for header in rule.headers:
        if not mending.takes(headers=(header,)):
            _differ_header(mending, header)


def _differ_path(mending: Mending) -> None:
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
