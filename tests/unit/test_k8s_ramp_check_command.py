"""``ringfence k8s check`` as a command: what it reads, prints and ends with."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from k8s.commands import k8s
from k8s.ramp.check import check, is_clean, report_lines
from k8s.ramp.snapshot import Cluster
from tests.fake_cluster import FakeCluster
from tests.ramp_objects import ANNOTATED, API, INJECTOR, NAMESPACE, POLICY, found, objects, only, pod


def run(text: str, *args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(k8s, ["check", "-f", "-", *args], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_a_cluster_is_read_and_what_may_not_be_read_is_told() -> None:
    live = FakeCluster(NAMESPACE + "---" + ANNOTATED, gitversion="v1.28.3")
    live.forbidden.add("nodes")
    result = CliRunner().invoke(k8s, ["check", "--json"], obj=live.opener)
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert {one["code"] for one in told["findings"]} == {"cluster_version", "scraper"}
    assert any("nodes could not be read" in one for one in told["unread"])
    assert "feature gates could not be read" in result.stderr
    unknown = CliRunner().invoke(k8s, ["check", "-n", "shop,nowhere"], obj=live.opener)
    assert (unknown.exit_code, "'nowhere'" in unknown.stderr) == (2, True)


def test_secrets_are_never_asked_for() -> None:
    from k8s.ramp import reading

    assert not {"secrets", "configmaps"} & {one.plural for one in reading._READ}


def test_what_is_printed_can_be_applied() -> None:
    status, out, _ = run(NAMESPACE + "---" + ANNOTATED)
    assert status == 1
    [document] = [one for one in yaml.safe_load_all(out) if one]
    assert document["kind"] == "Allowlist"
    assert "# finding: Deployment shop/api" in out


def test_a_clean_cluster_ends_with_0_and_json_is_one_object() -> None:
    assert run(NAMESPACE + "---" + API)[0] == 0
    status, out, _ = run(NAMESPACE + "---" + ANNOTATED, "--json")
    assert status == 1
    assert json.loads(out)["findings"][0]["code"] == "scraper"
    assert json.loads(out)["namespaces"] == ["shop"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "standard input:2:1"),
        ("just text", "no object with a kind"),
        ("kind: Namespace\nmetadata: {name: x}", "there is nothing in 'shop'"),
        ("\x00", "standard input"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(text: str, told: str) -> None:
    status, out, err = run(text, "--namespace", "shop")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_names_that_speak_to_the_terminal_or_the_shell_are_escaped() -> None:
    evil = pod("'x\\e[31m; rm -rf /'").replace("'x\\e[31m", '"x\\e[31m').replace("/'", '/"')
    lines = list(report_lines(found(evil, INJECTOR)))
    assert "\x1b" not in "".join(lines)
    policy = POLICY.replace("name: guard", "name: 'guard; reboot'") + "  ingress: [{ports: [{port: 80}]}]"
    assert shlex.split(only(found(API, policy)).commands[0])[5] == "guard; reboot"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"a": 1}])
@pytest.mark.parametrize(
    "kind", ["Pod", "Service", "Ingress", "NetworkPolicy", "Event", "Deployment", "Node", "Allowlist"]
)
def test_objects_of_any_shape_are_read_as_far_as_they_go(kind: str, value: Any) -> None:
    whole = {"kind": kind, "metadata": value, "spec": value, "status": value, "webhooks": value}
    parts = {
        "kind": kind,
        "metadata": {"name": "x", "namespace": "shop", "labels": value},
        "spec": {"containers": value, "ports": value, "rules": value, "ingress": value},
    }
    assert isinstance(is_clean(check(Cluster(items=(*objects(NAMESPACE, API), whole, parts)))), bool)
