"""What a pod declares of its probes: read whole, or refused with every problem, and never more than was declared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.probes.model import PROBES_LIMIT, GrpcProbe, HttpProbe, Probe, TcpProbe
from sidecar.probes.reading import ProbesError, read_probes, request_target


def problems_of(declared: object) -> list[str]:
    with pytest.raises(ProbesError) as error:
        read_probes(declared if isinstance(declared, str) else json.dumps(declared))
    return error.value.problems


WORD = "a-word-that-nobody-guesses"


def http(**fields: Any) -> dict[str, object]:
    return {"app/readiness": {"http": {"port": 8080, **fields}}}


def test_each_kind_of_probe_is_read() -> None:
    declared = {
        "app/startup": {"http": {"port": 8080, "path": "/up?deep=1", "scheme": "HTTPS", "host": "", "headers": []}},
        "app/liveness": {"tcp": {"port": 7000}, "timeout": 5},
        "db/readiness": {"grpc": {"port": 9000, "service": "shop.Orders"}, "timeout": 600},
        "db/prestop": {"http": {"port": 8081, "headers": [["X-Why", " bye "], ["x-why", "now"]]}, "word": WORD},
    }
    assert read_probes(json.dumps(declared)) == (
        Probe(
            container="app",
            kind="startup",
            does=HttpProbe(port=8080, target="/up?deep=1", tls=True),
            timeout_seconds=1,
        ),
        Probe(container="app", kind="liveness", does=TcpProbe(port=7000), timeout_seconds=5),
        Probe(container="db", kind="readiness", does=GrpcProbe(port=9000, service="shop.Orders"), timeout_seconds=600),
        Probe(
            container="db",
            kind="prestop",
            does=HttpProbe(port=8081, headers=(("X-Why", "bye"), ("x-why", "now"))),
            timeout_seconds=600,
            word=WORD,
        ),
    )
    assert [probe.path for probe in read_probes(json.dumps(declared))][:2] == [
        "/app-health/app/startup",
        "/app-health/app/liveness",
    ]
    assert read_probes(json.dumps(declared))[-1].path == f"/app-health/db/prestop/{WORD}"
    assert read_probes("{}") == ()


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ("{", "not JSON: "),
        ('{"a/readiness": NaN}', "not JSON: NaN"),
        ('{"a/readiness": {}, "a/readiness": {}}', "not JSON: a key stands twice"),
        ("[" * 100_000, "not JSON: "),
        ("[]", "not an object"),
        (" " * (128 * 1024) + "{}", "probes above 131072 bytes"),
        ({f"a/{number}": {} for number in range(PROBES_LIMIT + 1)}, "129 probes (at most 128)"),
        ({"app": {"tcp": {"port": 1}}}, "'app': not a probe's name"),
        ({"app/ready": {"tcp": {"port": 1}}}, "'app/ready': not a probe's name"),
        ({"../readiness": {"tcp": {"port": 1}}}, "'../readiness': not a probe's name"),
        ({"a/b/readiness": {"tcp": {"port": 1}}}, "'a/b/readiness': not a probe's name"),
        ({"app/readiness": []}, "'app/readiness': app/readiness is no object"),
        ({"app/readiness": {}}, "'app/readiness': it does one thing"),
        ({"app/readiness": {"tcp": {"port": 1}, "grpc": {"port": 1}}}, "'app/readiness': it does one thing"),
        ({"app/readiness": {"exec": {}}}, "'app/readiness': unknown field 'exec'"),
        ({"app/readiness": {"tcp": {"port": 1, "prot": 1}}}, "'app/readiness': unknown field 'prot'"),
        ({"app/readiness": {"tcp": {"port": "http"}}}, "'app/readiness': port: 'http' (a whole number"),
        ({"app/readiness": {"tcp": {"port": 0}}}, "'app/readiness': port: 0"),
        ({"app/readiness": {"tcp": {"port": 65536}}}, "'app/readiness': port: 65536"),
        ({"app/readiness": {"tcp": {"port": True}}}, "'app/readiness': port: True"),
        ({"app/readiness": {"tcp": {}}}, "'app/readiness': port: None"),
        ({"app/readiness": {"tcp": {"port": 1}, "timeout": 0}}, "'app/readiness': timeout: 0"),
        ({"app/readiness": {"tcp": {"port": 1}, "timeout": 601}}, "'app/readiness': timeout: 601"),
        ({"app/readiness": {"tcp": {"port": 1, "host": "example.org"}}}, "host: 'example.org' is not this pod"),
        ({"app/readiness": {"grpc": {"port": 1, "service": "\u00e4"}}}, "'app/readiness': service: "),
        ({"app/readiness": {"grpc": {"port": 1, "service": "s" * 1025}}}, "'app/readiness': service: "),
        ({"app/prestop": {"tcp": {"port": 1}}}, "'app/prestop': word: a hook has one"),
        ({"app/prestop": {"tcp": {"port": 1}, "word": "short"}}, "'app/prestop': word: a hook has one"),
        ({"app/prestop": {"tcp": {"port": 1}, "word": "/.." * 10}}, "'app/prestop': word: a hook has one"),
        ({"app/readiness": {"tcp": {"port": 1}, "word": WORD}}, "'app/readiness': unknown field 'word'"),
        (http(host="169.254.169.254"), "host: '169.254.169.254' is not this pod (leave such a probe to the kubelet)"),
        (http(scheme="http"), "scheme: 'http' (one of HTTP, HTTPS)"),
        (http(path=1), "path is no text"),
        (http(path="/" + "a" * 4096), "path: above 4096 bytes"),
        (http(path="/\ud800"), "is no text"),
        (http(headers={}), "headers: not a list"),
        (http(headers=[["a", "b"]] * 33), "headers: not a list of at most 32 pairs"),
        (http(headers=[["a"]]), "headers: ['a'] is no field's name and value"),
        (http(headers=[["a b", "c"]]), "is no field's name and value"),
        (http(headers=[["a", "b\r\nhost: c"]]), "is no field's name and value"),
        (http(headers=[["a", "b\x00"]]), "is no field's name and value"),
        (http(headers=[["a", "\ud800"]]), "is no field's name and value"),
        (http(headers=[["a", "b" * 9000], ["c", "d" * 9000]]), "headers: above 16384 bytes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_probe(declared: object, problem: str) -> None:
    assert problem in problems_of(declared)[0]


def test_every_problem_is_told_at_once() -> None:
    declared = {"app/readiness": {"tcp": {"port": 0}}, "b": {}, "app/liveness": {"tcp": {"port": 1}}}
    assert len(problems_of(declared)) == 2


def test_fields_that_frame_a_request_are_left_out_as_the_kubelet_does() -> None:
    [probe] = read_probes(json.dumps(http(headers=[["Content-Length", "9"], ["connection", "upgrade"], ["a", "b"]])))
    assert isinstance(probe.does, HttpProbe)
    assert probe.does.headers == (("a", "b"),)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("healthz", "/healthz"),
        ("/healthz?full=1&x=%20", "/healthz?full=1&x=%20"),
        ("/a b", "/a%20b"),
        ("/\u00e4", "/%C3%A4"),
        ("/a#b", "/a"),
        ("/100%", "/100%25"),
        ("/100%?a", "/100%25%3Fa"),
        ("/a HTTP/1.1\r\nhost: b\r\n\r\n", "/a%20HTTP/1.1%0D%0Ahost:%20b%0D%0A%0D%0A"),
        ("/%2e%2e/%61", "/%2e%2e/%61"),
        ("//other.example/", "//other.example/"),
    ],
)
def test_a_path_is_asked_for_as_the_kubelet_would(path: str, target: str) -> None:
    assert request_target(path) == target
