"""``limits`` of a Route document: how much of its callers a service takes. Pure."""

from __future__ import annotations

from ringfence.policy.envelope import read_label
from ringfence.policy.lists import read_items, read_list, read_method, read_path
from ringfence.policy.problems import Place, Problem, choose_from, shown
from ringfence.policy.yamlnodes import MappingReader
from ringfence.routing import bounds
from ringfence.routing.groups import HttpWords, check_path_count
from ringfence.routing.model import Per, RateLimit
from ringfence.routing.rates import BYTE_RATE_MEND, RATE_MEND, parse_byte_rate, parse_rate

_RATES = ("requests", "connections", "bytes")


def read_limits(spec: MappingReader, words: HttpWords, problems: list[Problem]) -> tuple[RateLimit, ...]:
    """The limits, none if there are none; a name that comes twice is told at the second."""
    if "limits" not in spec:
        spec.known("limits")
        return ()
    limits = []
    seen: dict[str, Place] = {}
    before = len(problems)
    items = read_items(spec, "limits", bounds.LIMIT_LIMIT)
    if not items and len(problems) == before:
        spec.problem("limits is empty", "remove it, or name a limit", key="limits")
    for item in items:
        reader = item.mapping()
        limit = _read_limit(reader, words, problems)
        place = reader.place("name")
        if limit.name and seen.setdefault(limit.name, place) is not place:
            mend = f"first used on line {seen[limit.name].line}: rename one"
            reader.problem(f"duplicate limit name {shown(limit.name)}", mend, key="name")
        limits.append(limit)
    check_path_count(spec, "limits", limits)
    return tuple(limits)


def _read_limit(reader: MappingReader, words: HttpWords, problems: list[Problem]) -> RateLimit:
    mend = "remove it to limit all, or name what is limited"
    limit = RateLimit(
        name=read_label(reader, "name"),
        per=_read_per(reader),
        methods=tuple(value for value, _ in read_list(reader, "methods", read_method, problems, mend)),
        paths=tuple(value for value, _ in read_list(reader, "paths", read_path, problems, mend)),
        requests=reader.parsed("requests", parse_rate, mend=RATE_MEND, default=None),
        burst=reader.integer("burst", *bounds.BURST, default=None),
        connections=reader.parsed("connections", parse_rate, mend=RATE_MEND, default=None),
        bytes=reader.parsed("bytes", parse_byte_rate, mend=BYTE_RATE_MEND, default=None),
    )
    words.note(reader, "methods", "paths", "requests")
    _check(reader)
    if limit.burst_seconds > bounds.BURST_SECONDS:
        message = f"burst of {limit.burst} takes more than ten years to be earned again"
        reader.problem(message, "lower it, or raise the rate", key="burst")
    reader.finish()
    return limit


def _read_per(reader: MappingReader) -> Per:
    value = reader.value("per")
    text = value.text() if value is not None else ""
    if text in list(Per):
        return Per(text)
    if value is not None and text == "token":
        mend = "use caller, which goes by SPIFFE ID, or route"
        value.problem("per: token needs the subjects of verified tokens, and tokens are not verified yet", mend)
    elif value is not None and text:
        value.problem(f"per {shown(text)} is not known", choose_from(text, list(Per)))
    return Per.ROUTE


def _check(reader: MappingReader) -> None:
    if not reader.present:
        return
    if not any(key in reader for key in _RATES):
        reader.problem("limit has no rate", "add requests, connections or bytes")
    if "burst" in reader and "requests" not in reader:
        reader.problem("burst is of requests, and there is no rate of requests", "add requests", key="burst")
    narrowed = next((key for key in ("methods", "paths") if key in reader), None)
    foreign = next((key for key in ("connections", "bytes") if key in reader), None)
    if narrowed is not None and foreign is not None:
        message = f"{foreign} cannot be limited by {narrowed}: it is counted before a request is known"
        reader.problem(message, f"give {foreign} a limit of its own, without methods and paths", key=foreign)
