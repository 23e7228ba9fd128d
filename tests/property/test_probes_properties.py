"""Probes from any text: one request each, to the port that was declared, whatever stands in path and headers."""

from __future__ import annotations

import json
import re

import h11
from hypothesis import given
from hypothesis import strategies as st

from sidecar.probes.asking import followed, request_of
from sidecar.probes.model import HttpProbe
from sidecar.probes.reading import TARGET_LIMIT_BYTES, ProbesError, read_probes, request_target

ANY = st.text(st.characters(), max_size=60)
NASTY = st.text(st.sampled_from(list("/%?#\\ \r\n\t\x00aä2eE:;@.[]\ud800")), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=12,
)
PORT = st.one_of(st.integers(-1, 70_000), JSON)
DECLARED = st.fixed_dictionaries(
    {},
    optional={
        "port": PORT,
        "path": ANY | NASTY | JSON,
        "scheme": st.sampled_from(["HTTP", "HTTPS", "ftp"]) | JSON,
        "host": st.just("") | JSON,
        "headers": st.lists(st.tuples(ANY | NASTY | st.just("host"), ANY | NASTY), max_size=4) | JSON,
    },
)


@given(st.dictionaries(st.sampled_from(["a/readiness", "a/prestop", "b", "a/b/c"]), JSON) | JSON)
def test_any_json_is_read_or_refused(declared: object) -> None:
    try:
        read_probes(json.dumps(declared))
    except ProbesError as error:
        assert error.problems


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_probes(text)
    except ProbesError as error:
        assert error.problems


@given(DECLARED)
def test_a_probe_is_exactly_one_get_of_its_own_target(declared: dict[str, object]) -> None:
    try:
        [probe] = read_probes(json.dumps({"app/liveness": {"http": declared}}))
    except ProbesError:
        return
    assert isinstance(probe.does, HttpProbe)
    assert probe.does.port == declared["port"]
    reading = h11.Connection(h11.SERVER, max_incomplete_event_size=128 * 1024)
    reading.receive_data(request_of(probe.does, probe.does.target, "10.0.0.7:8080"))
    request = reading.next_event()
    assert isinstance(request, h11.Request)
    assert request.method == b"GET"
    assert request.target == probe.does.target.encode()
    assert isinstance(reading.next_event(), h11.EndOfMessage)
    assert reading.trailing_data == (b"", False)
    framing = {name for name, _ in request.headers if name in (b"content-length", b"transfer-encoding")}
    assert not framing
    assert [value for name, value in request.headers if name == b"connection"] == [b"close"]


@given(ANY | NASTY)
def test_a_target_holds_nothing_that_ends_it(path: str) -> None:
    try:
        target = request_target(path)
    except UnicodeEncodeError:
        return
    assert re.fullmatch(r"/[!-~]*", target)
    assert "#" not in target
    if len(target) <= TARGET_LIMIT_BYTES:
        assert request_target(target) == target  # so a redirect to it is asked for as it is


@given(NASTY | ANY, st.sampled_from(["", "//", "http://", "https://10.0.0.7:8080", "http://10.0.0.7:8080"]))
def test_a_redirect_never_leads_elsewhere(rest: str, start: str) -> None:
    location = (start + rest).encode("latin-1", "replace")
    found = followed("http://10.0.0.7:8080", "/a", location)
    if found is not None:
        target, is_absolute = found
        assert re.fullmatch(r"/[!-~]*", target)
        assert not is_absolute or b"10.0.0.7:8080" in location
