"""Where a command gets flows from: a running control plane, or a file that was exported. Adapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import click

from controlplane.operate.admin_client import AdminUnreachableError, get_document
from controlplane.operate.admin_place import AdminPlaceError, find_admin_socket
from controlplane.policy.options import refuse
from ringfence.kit.clock import SystemClock
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.flow_file import LIMIT_BYTES, FlowFile, flows_from_documents, read_file
from ringfence.policy.problems import Problem

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")
_PATH: Final = click.Path(path_type=Path)


class Duration(click.ParamType[float]):
    """A whole number with a unit: ``90s``, ``15m``, ``24h``, ``7d``; seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!a} is no duration (write it like 90s, 15m, 24h or 7d)", param, ctx)
        return float(int(match[1]) * _UNITS[match[2]])


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowWords:
    """What a command was told of the flows that it is about; ``since``: seconds before now, None: all that is kept."""

    since: float | None = None
    caller: str | None = None
    service: str | None = None
    verdict: Verdict | None = None
    flows: Path | None = None
    admin_socket: Path | None = None
    state: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFlows:
    """``truncated``: there are more than could be told. ``now``: when it was asked, Unix seconds."""

    file: FlowFile
    truncated: bool
    now: float


_FILE: Final = click.option("--flows", type=_PATH, metavar="FILE", help="Flows of a file, not of a control plane.")
_PLACES: Final = (
    click.option("--admin-socket", type=_PATH, metavar="PATH", help="The control plane's admin socket."),
    click.option(
        "--state",
        type=_PATH,
        metavar="DIR",
        help="State folder of the control plane, or of `ringfence up`. [default: the only one under .ringfence]",
    ),
)
_FILTERS: Final = (
    click.option("--from", "caller", metavar="WHO", help="SPIFFE ID, NAMESPACE/ACCOUNT, or unauthenticated."),
    click.option("--to", "service", metavar="SERVICE", help="The service called: NAMESPACE/NAME."),
)


def asks_of_flows(*, since: str, who: bool = False, where: bool = False) -> Callable[[F], F]:
    """The options by which a command says which flows it is about; ``since`` tells the default of the age, which the
    command has to know itself; ``who``: also who calls whom; ``where``: also of which control plane."""
    age = click.option(
        "--since",
        type=Duration(),
        metavar="AGE",
        help=f"Flows seen at most so long ago, like 90s, 15m, 24h, 7d. [default: {since}]",
    )

    def options(command: F) -> F:
        for option in reversed((age, *(_FILTERS if who else ()), _FILE, *(_PLACES if where else ()))):
            command = option(command)
        return command

    return options


def flows_asked(words: FlowWords) -> FoundFlows:
    """The flows; ends the command where there are none to be had."""
    now = SystemClock().now()
    found = _of_file(words.flows, now) if words.flows is not None else _of_control_plane(words, now)
    flows = tuple(flow for flow in found.file.flows if _wanted(flow, words, now))
    unrecorded = {
        service: count for service, count in found.file.unrecorded.items() if count and words.service in (None, service)
    }
    return FoundFlows(file=FlowFile(flows=flows, unrecorded=unrecorded), truncated=found.truncated, now=now)


def _wanted(flow: Flow, words: FlowWords, now: float) -> bool:
    if words.since is not None and flow.last_seen < now - words.since:
        return False
    if words.service is not None and flow.service != words.service:
        return False
    if words.verdict is not None and flow.verdict is not words.verdict:
        return False
    if words.caller is None:
        return True
    if flow.caller is None:
        return words.caller == "unauthenticated"
    namespace, _, account = words.caller.partition("/")
    return words.caller == str(flow.caller) or flow.caller.segments == ("ns", namespace, "sa", account)


def _of_file(path: Path, now: float) -> FoundFlows:
    try:
        with path.open("rb") as stream:
            content = stream.read(LIMIT_BYTES + 1)
    except OSError as error:
        refuse([Problem(str(path), 1, 1, f"file cannot be read: {error.strerror or error}")])
    file, problems = read_file(content, str(path))
    if problems:
        refuse(problems)
    return FoundFlows(file=file, truncated=False, now=now)


def _of_control_plane(words: FlowWords, now: float) -> FoundFlows:
    asked: dict[str, str] = {}
    if words.since is not None:
        asked["since"] = repr(now - words.since)
    if words.service is not None:
        asked["service"] = words.service
    if words.verdict is not None:
        asked["verdict"] = words.verdict.value
    try:
        admin_socket = find_admin_socket(words.admin_socket, words.state)
        document = get_document(admin_socket, "/flows?" + urlencode(asked))
        flows = flows_from_documents(document["flows"])
        unrecorded = {str(service): int(count) for service, count in document["unrecorded"].items()}
    except (AdminPlaceError, AdminUnreachableError) as error:
        refuse([str(error)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        refuse([f"the control plane answers no flows: {error}"])
    return FoundFlows(
        file=FlowFile(flows=tuple(flows), unrecorded=unrecorded), truncated=bool(document.get("truncated")), now=now
    )
