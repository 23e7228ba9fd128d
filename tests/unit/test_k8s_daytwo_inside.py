"""``ringfence k8s why|tap|logs|config|loglevel``: the sidecars of pods are asked, whatever names the pods."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from k8s.commands import k8s
from k8s.daytwo.cluster import ClusterError, Place
from k8s.daytwo.references import NoReferenceError, Reference, parse_reference
from tests.fake_cluster import Answer, FakeCluster, ran

SIDECAR = "{name: ringfence-sidecar, image: 'ringfence:1'}"


def pod(name: str, app: str = "api", containers: str = SIDECAR) -> str:
    return f"""
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}
spec: {{initContainers: [{containers}], containers: [{{name: app}}]}}
---
"""


OWNERS = """
kind: Deployment
metadata: {name: api, namespace: shop}
spec: {selector: {matchLabels: {app: api}}}
---
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {selector: {matchLabels: {app: db}}}
---
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}}
---
"""


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster(OWNERS, pod("api-1"), pod("api-2"), pod("db-0", "db"), pod("plain", "none", ""))

    def answers(place: Place, argv: Sequence[str]) -> Answer:
        match list(argv)[1:3]:
            case ["policy", "why"]:
                return ran('{"calls": []}' if "--json" in argv else f"call {place.pod}\x1b[31m\n")
            case ["proxy", "config"]:
                return ran('{"revision": 7}')
            case ["proxy", "loglevel"]:
                return ran(json.dumps({"level": argv[-1] if argv[-1] != "--json" else "info"}))
        return ran("line 1\nline 2\n")

    made.answers = answers
    return made


def run(cluster: FakeCluster, *words: str) -> Result:
    return CliRunner().invoke(k8s, list(words), obj=cluster.opener)


@pytest.mark.parametrize(
    ("said", "pods"),
    [
        ("api-1", ["shop/api-1"]),
        ("shop/api-1", ["shop/api-1"]),
        ("deploy/api", ["shop/api-1", "shop/api-2"]),
        ("shop/deployment/api", ["shop/api-1", "shop/api-2"]),
        ("sts/db", ["shop/db-0"]),
        ("svc/api", ["shop/api-1", "shop/api-2"]),
    ],
)
def test_pods_are_named_as_people_name_them(cluster: FakeCluster, said: str, pods: list[str]) -> None:
    result = run(cluster, "why", said, "--since", "10m")
    assert result.exit_code == 0, result.output
    assert cluster.ran == [(one, ["ringfence", "policy", "why", "--since", "10m", "--limit", "20"]) for one in pods]


@pytest.mark.parametrize("said", ["", "a/b/c/d", "a b", "../x", "-n", "A", "shop/zoo/api", "x" * 300])
def test_what_names_no_pod_is_bad_input(cluster: FakeCluster, said: str) -> None:
    with pytest.raises(NoReferenceError):
        parse_reference(said, "shop")
    result = run(cluster, "config", "--", said)
    assert (result.exit_code, cluster.ran) == (2, [])


def test_a_namespace_named_like_a_kind_can_be_given_apart() -> None:
    assert parse_reference("x", "deploy") == Reference(kind="Pod", namespace="deploy", name="x")
    with pytest.raises(NoReferenceError):
        parse_reference("x", "no such")


@pytest.mark.parametrize(
    ("said", "told"),
    [("plain", "has no sidecar"), ("absent", "not found"), ("deploy/absent", "not found")],
)
def test_a_pod_that_cannot_be_asked_is_told(cluster: FakeCluster, said: str, told: str) -> None:
    result = run(cluster, "config", said)
    assert result.exit_code == 1
    assert told in result.stderr


def test_a_story_by_its_id_and_nothing_raw_reaches_the_terminal(cluster: FakeCluster) -> None:
    result = run(cluster, "why", "api-1", "00ff")
    assert cluster.ran == [("shop/api-1", ["ringfence", "policy", "why", "00ff"])]
    assert "\x1b" not in result.stdout
    assert "call api-1" in result.stdout


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (ran(stderr="refused nothing in 300 s", status=1), 1, "shop/api-1: refused nothing"),
        (ran(stderr="--since: 'x' is no span", status=2), 2, "is no span"),
        (ClusterError("container not running"), 1, "shop/api-1: container not running"),
    ],
)
def test_no_story_is_no_and_says_why(cluster: FakeCluster, answer: Answer, status: int, told: str) -> None:
    cluster.answers = lambda place, argv: answer
    result = run(cluster, "why", "api-1", "--since", "x")
    assert result.exit_code == status
    assert told in result.stderr


def test_an_id_that_is_none_asks_nobody(cluster: FakeCluster) -> None:
    assert run(cluster, "why", "api-1", "--", "--socket=/x").exit_code == 2
    assert cluster.ran == []


def test_configurations_are_told_by_pod(cluster: FakeCluster) -> None:
    assert json.loads(run(cluster, "config", "api-1").stdout) == {"revision": 7}
    several = json.loads(run(cluster, "config", "deploy/api").stdout)
    assert several == {"shop/api-1": {"revision": 7}, "shop/api-2": {"revision": 7}}


def test_one_that_does_not_answer_costs_the_others_nothing(cluster: FakeCluster) -> None:
    cluster.answers = lambda place, argv: ran('{"revision": 7}') if place.pod == "api-2" else ClusterError("gone")
    result = run(cluster, "config", "deploy/api")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"shop/api-2": {"revision": 7}}
    assert "shop/api-1: gone" in result.stderr


@pytest.mark.parametrize("words", [("config", "api-1"), ("loglevel", "api-1"), ("why", "api-1", "--json")])
@pytest.mark.parametrize("answer", ["<html>", "[]", "[" * 50_000])
def test_an_answer_that_is_no_json_is_told_in_a_line(cluster: FakeCluster, words: tuple[str, ...], answer: str) -> None:
    cluster.answers = lambda place, argv: ran(answer)
    result = run(cluster, *words)
    assert result.exit_code == 1
    assert result.stderr == "shop/api-1: the sidecar's answer is no JSON object\n"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_who_tells_no_story_is_named_beside_those_who_do(cluster: FakeCluster, more: tuple[str, ...]) -> None:
    cluster.answers = lambda place, argv: ran('{"calls": []}') if place.pod == "api-2" else ClusterError("gone")
    result = run(cluster, "why", "deploy/api", *more)
    assert (result.exit_code, result.stderr) == (0, "shop/api-1: gone\n")
    cluster.answers = lambda place, argv: ran('{"calls": []}', status=0 if place.pod == "api-2" else 1)
    assert run(cluster, "why", "deploy/api", *more).stderr == "", "one that refused nothing is no complaint"


@pytest.mark.parametrize("command", ["tap", "logs"])
def test_more_pods_than_can_be_watched_are_told_and_not_left_out(command: str) -> None:
    cluster = FakeCluster(OWNERS, *(pod(f"api-{number}") for number in range(21)))
    result = run(cluster, command, "deploy/api")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "21 pods are more than 20 to watch at once (name one)" in result.stderr


def test_a_log_level_is_shown_and_set(cluster: FakeCluster) -> None:
    shown = run(cluster, "loglevel", "api-1")
    assert (shown.stdout, shown.stderr) == ("shop/api-1  info\n", "")
    assert run(cluster, "loglevel", "deploy/api", "debug").stdout == "shop/api-1  debug\nshop/api-2  debug\n"
    assert run(cluster, "loglevel", "api-1", "loud").exit_code == 2


def test_a_tap_passes_its_filters_on_and_ends_with_its_limit(cluster: FakeCluster) -> None:
    result = run(cluster, "tap", "api-1", "--denied", "--from", "--socket", "--limit", "1")
    assert (result.exit_code, result.stdout) == (0, "line 1\n")
    assert cluster.ran == [("shop/api-1", ["ringfence", "tap", "--denied", "--from=--socket"])]
    both = run(cluster, "tap", "deploy/api").stdout.splitlines()
    assert sorted(both) == sorted(f"{name}  line {number}" for name in ("api-1", "api-2") for number in (1, 2))


def test_a_tap_that_fails_says_so(cluster: FakeCluster) -> None:
    cluster.answers = lambda place, argv: ran(stderr="4 taps are open already", status=1)
    result = run(cluster, "tap", "api-1")
    assert (result.exit_code, "4 taps" in result.stderr) == (1, True)


def test_logs_are_shown_and_kept_plain(cluster: FakeCluster) -> None:
    cluster.texts["/api/v1/namespaces/shop/pods/api-1/log"] = 'one\n{"msg": "\x1b[31m"}\n'
    result = run(cluster, "logs", "api-1", "--tail", "5")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[0] == "one"
    lines = run(cluster, "logs", "api-1", "--json").stdout.splitlines()
    assert [json.loads(one) for one in lines] == [
        {"pod": "shop/api-1", "line": "one"},
        {"pod": "shop/api-1", "line": '{"msg": "\x1b[31m"}'},
    ]
    assert "\x1b" not in "".join(lines)
