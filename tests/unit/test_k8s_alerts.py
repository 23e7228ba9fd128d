"""Alerts and dashboard: what they ask exists, each alert leads to a page, and the page's commands exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ringfence.cli import COMMAND_GROUP, CommandLine
from tests.metrics_document import declared, declared_by_control_plane
from tests.walks import steps_of

REPOSITORY = Path(__file__).parents[2]
FILES = REPOSITORY / "k8s" / "chart" / "files"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
RULES: list[Any] = [
    rule for group in yaml.safe_load((FILES / "rules.yaml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: Any = json.loads((FILES / "dashboard.json").read_text())
KNOWN = {one.name for one in (*declared(), *declared_by_control_plane())}
PAGES = sorted(RUNBOOKS.glob("*.md"))
# Commands of other programs that the pages lean on, with what may follow.
KUBECTL = {"create", "delete", "describe", "exec", "get", "logs", "rollout"}
OTHERS = {"helm", "for", "done", "do"}


def metrics_of(expression: str) -> set[str]:
    found = set(re.findall(r"\bringfence_[a-z0-9_]+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert metrics_of(rule["expr"])
    assert metrics_of(rule["expr"]) <= KNOWN


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_a_page_that_names_it(rule: dict[str, Any]) -> None:
    page = REPOSITORY / rule["annotations"]["runbook_url"]
    assert page.is_file()
    assert f"`{rule['alert']}`" in page.read_text()
    assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_every_alert_that_a_page_names_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(Ringfence[A-Za-z]+)`", page.read_text())}
    assert named == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    # Blocks in lists are indented; the walker knows them without.
    steps = steps_of(re.sub(r"^   (?=```|\$ )", "", page.read_text(), flags=re.MULTILINE))
    assert steps
    for step in steps:
        for command in " ".join(step.command).split("; "):
            _check(command.split(" | ")[0].split(" || ")[0].split(" > ")[0].split())


def _check(words: list[str]) -> None:
    if words[0] == "do":
        words = words[1:]
    if words[0] == "ringfence":
        _parses(words[1:])
    elif words[0] == "kubectl":
        verb = words[3] if words[1] == "-n" else words[1]
        assert verb in KUBECTL, words
        if "--" in words:
            _check(words[words.index("--") + 1 :])
    else:
        assert words[0] in OTHERS, words


def _parses(words: list[str]) -> None:
    """The words lead to a command that takes its options."""
    command: click.Command = CommandLine(entry_points(group=COMMAND_GROUP))
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=words[0] if words else "")
    command.make_parser(context).parse_args([word.replace("$", "") for word in words])


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([a-z-]+\.md)\)", page.read_text()):
            assert (RUNBOOKS / target).is_file()


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(expressions) >= 10
    for expression in expressions:
        assert metrics_of(expression) <= KNOWN, expression
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool here (Debian's package prometheus has it)")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)


def test_prometheus_takes_the_rules() -> None:
    ran = promtool("check", "rules", str(FILES / "rules.yaml"))
    assert ran.returncode == 0, ran.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in ran.stdout


POD = 'namespace="shop",pod="web-1"'
DENIED = 'direction="inbound",service="shop/orders",reason="caller_not_allowed"'
# Series a minute apart, when to look, and which alerts are on then. Time begins at 0, so `time()` is the minute * 60.
CASES: dict[str, tuple[dict[str, str], str, set[str]]] = {
    # One hour of life: renewed at half of it, ever again.
    "renewed": (
        {
            f"ringfence_svid_age_seconds{{{POD}}}": "0+60x29 0+60x29",
            f"ringfence_svid_expiry_timestamp_seconds{{{POD}}}": "3600x29 5400x29",
        },
        "55m",
        set(),
    ),
    "not renewed": (
        {
            f"ringfence_svid_age_seconds{{{POD}}}": "0+60x59",
            f"ringfence_svid_expiry_timestamp_seconds{{{POD}}}": "3600x59",
        },
        "45m",
        {"RingfenceSvidNotRenewed"},
    ),
    "about to end": (
        {
            f"ringfence_svid_age_seconds{{{POD}}}": "0+60x59",
            f"ringfence_svid_expiry_timestamp_seconds{{{POD}}}": "3600x59",
        },
        "55m",
        {"RingfenceSvidNotRenewed", "RingfenceSvidEnds"},
    ),
    "a new authority": ({"ringfence_ca_issuing_not_after_timestamp_seconds": "94608000x120"}, "2h", set()),
    "an old authority": (
        {"ringfence_ca_issuing_not_after_timestamp_seconds": "40000000x120"},
        "2h",
        {"RingfenceAuthorityPastHalf"},
    ),
    "the end of an authority": (
        {"ringfence_ca_issuing_not_after_timestamp_seconds": "1000000x120"},
        "2h",
        {"RingfenceAuthorityPastHalf", "RingfenceAuthorityEnds"},
    ),
    "stale": (
        {f"ringfence_control_plane_staleness_seconds{{{POD}}}": "0x5 0+60x20"},
        "20m",
        {"RingfenceSidecarStale"},
    ),
    "heard": ({f"ringfence_control_plane_staleness_seconds{{{POD}}}": "0x20"}, "20m", set()),
    "overdue": (
        {
            'ringfence_controlplane_sidecars{standing="overdue"}': "2x20",
            'ringfence_controlplane_sidecars{standing="current"}': "9x20",
        },
        "10m",
        {"RingfenceRevisionUnacknowledged"},
    ),
    "pending for a moment": ({'ringfence_controlplane_sidecars{standing="overdue"}': "2x2 0x20"}, "10m", set()),
    "refused documents": ({"ringfence_controlplane_change_refused": "1x20"}, "10m", {"RingfenceDocumentsRefused"}),
    "a redirect that is gone": (
        {f"ringfence_redirect_missing{{{POD}}}": "0x5 1x20"},
        "10m",
        {"RingfenceRedirectMissing"},
    ),
    "a redirect that is not there yet": ({f"ringfence_redirect_missing{{{POD}}}": "1x1 0x20"}, "10m", set()),
    "pods without a sidecar": (
        {'ringfence_kubernetes_pods_not_injected{namespace="shop"}': "2x30"},
        "20m",
        {"RingfencePodsNotInjected"},
    ),
    "pods that are being made anew": (
        {'ringfence_kubernetes_pods_not_injected{namespace="shop"}': "2x5 _x30"},
        "20m",
        set(),
    ),
    "as many denials as ever": ({f"ringfence_denials_total{{{DENIED}}}": "0+60x180"}, "2h30m", set()),
    "a spike of denials": (
        {f"ringfence_denials_total{{{DENIED}}}": "0+6x120 720+300x60"},
        "2h30m",
        {"RingfenceDenialsSpike"},
    ),
    "the first denials ever": (
        {f"ringfence_denials_total{{{DENIED}}}": "0x100 0+300x60"},
        "2h",
        {"RingfenceDenialsSpike"},
    ),
    "few denials": ({f"ringfence_denials_total{{{DENIED}}}": "0x100 0+10x60"}, "2h", set()),
}


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_on_when_it_should_be(case: str, tmp_path: Path) -> None:
    series, moment, wanted = CASES[case]
    alive = {"ringfence_controlplane_revision": "1x300"}
    checks = []
    for rule in RULES:
        # What an alert says is not the matter here, but promtool compares it: so ask for the alert's own series.
        labels = {"alertname": rule["alert"]}
        checks.append(
            {
                "expr": f'count by (alertname) (ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}}) > 0',
                "eval_time": moment,
                "exp_samples": [{"labels": _metric(labels), "value": 1}] if rule["alert"] in wanted else [],
            }
        )
    test = {
        "rule_files": [str(FILES / "rules.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in {**alive, **series}.items()],
                "promql_expr_test": checks,
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    ran = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert ran.returncode == 0, ran.stderr + ran.stdout


def test_a_control_plane_that_is_away_is_told(tmp_path: Path) -> None:
    alert = 'ALERTS{alertname="RingfenceControlPlaneAway",alertstate="firing"}'
    test = {
        "rule_files": [str(FILES / "rules.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": "up", "values": "1x20"}],
                "promql_expr_test": [
                    {
                        "expr": f"count({alert})",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    ran = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert ran.returncode == 0, ran.stderr + ran.stdout


def _metric(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
