"""``ringfence demo``: calls come out as planned, a difference shows in the exit status, nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import controlplane.demo.app as demo_app
from controlplane.demo.plan import PlannedCall, round_of_calls
from tests.processes import Marked, ringfence, until


@pytest.fixture
def marked(tmp_path: Path) -> Marked:
    """Processes whose temporary folders lie where this test can see what is left of them."""
    (tmp_path / "t").mkdir()
    return Marked(TMPDIR=str(tmp_path / "t"))


def test_every_call_comes_out_as_planned(tmp_path: Path, marked: Marked) -> None:
    command = [sys.executable, "-P", "-m", "ringfence", "demo", "--once", "--json"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=marked.environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["ok"] is True
    calls = told["calls"]
    assert all(call["expected"] == call["observed"] for call in calls)
    permitted = [call for call in calls if call["observed"].startswith("permitted")]
    refused = [call for call in calls if call["observed"].startswith("refused")]
    assert len(permitted) + len(refused) == len(calls) >= 14
    assert len(permitted) >= 6
    assert {"http", "tcp"} <= {call["protocol"] for call in permitted}
    assert {call["reason"] for call in refused} >= {
        "caller_not_allowed",
        "method_not_allowed",
        "path_not_allowed",
        "path_ambiguous",
        "no_certificate",
        "expired",
        "untrusted",
        "unknown_trust_domain",
        "not_tls",
        "not_own_address",
    }
    assert {"/orders/..%2fadmin", "//admin"} <= {call["request"].removeprefix("GET ") for call in refused}
    wanted = {"from", "to", "protocol", "request", "expected", "observed", "reason", "milliseconds"}
    assert all(call.keys() >= wanted for call in calls)
    assert all(call["told_by"] and call["story"] for call in refused)
    assert marked.pids() == []
    assert list((tmp_path / "t").iterdir()) == []


def test_without_once_it_goes_on_until_interrupted(tmp_path: Path, marked: Marked) -> None:
    with ringfence(marked, "demo", folder=tmp_path) as command:
        command.wait_for_stdout("all as expected")
        until(lambda: "steady traffic until Ctrl-C" in command.stderr, "the invitation")
        [log] = (tmp_path / "t").glob("*/mesh.log")
        round_lines = log.read_text().count('"msg":"request"')
        until(lambda: log.read_text().count('"msg":"request"') > round_lines + 8, "steady traffic")
        command.popen.send_signal(signal.SIGINT)
        assert command.wait() == 0
        assert marked.pids() == []
        assert "!!" not in command.stdout
    assert list((tmp_path / "t").iterdir()) == []


def test_a_call_that_comes_out_differently_shows_in_the_report_and_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def some_calls(*arguments: Any) -> list[PlannedCall]:
        """One call as it is planned, and two whose plan is wrong: refused where it is permitted, and the reverse."""
        planned = {call.request: call for call in round_of_calls(*arguments) if call.source == "web"}
        good, forbidden = planned["GET /orders/1"], planned["DELETE /orders/1"]
        return [good, _expecting(good, "refused: path_not_allowed"), _expecting(forbidden, "permitted: 200")]

    monkeypatch.setattr(demo_app, "round_of_calls", some_calls)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert demo_app.run_demo(once=True, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [call["observed"] for call in told["calls"]] == [
        "permitted: 200",
        "permitted: 200",
        "refused: method_not_allowed",
    ]
    [kept] = tmp_path.iterdir()
    assert '"msg":"request denied"' in kept.read_text()


def _expecting(call: PlannedCall, outcome: str) -> PlannedCall:
    return PlannedCall(
        source=call.source,
        target=call.target,
        protocol=call.protocol,
        request=call.request,
        expected=outcome,
        make=call.make,
    )
