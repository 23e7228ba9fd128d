from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import connections, http1, machine, tcp
from benchmarks.__main__ import WORKS, main
from benchmarks.chain import Chain, total
from benchmarks.h2load import Outcome
from benchmarks.loading import Turn, requests_for
from benchmarks.profile import read_samples, tables
from benchmarks.results import Bar, Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work, turns


def chain(name: str) -> Chain:
    return Chain(name=name, port=1, client_side=1, server_side=1)


def turn(client_side: float, server_side: float, rate: float = 10) -> Turn:
    outcome = Outcome(requests=1, rate_per_second=rate, p50_milliseconds=1, p99_milliseconds=2)
    return Turn(client_side_cpu=client_side, server_side_cpu=server_side, outcome=outcome)


def test_peers_take_turns_and_change_who_is_first() -> None:
    assert list(turns(["a", "b"], 3)) == [(0, ["a", "b"]), (1, ["b", "a"]), (2, ["a", "b"])]


def test_http1_asks_for_a_thousand_distinct_paths_none_of_them_forbidden() -> None:
    assert len(http1.PATHS) == 1000
    assert len(set(http1.PATHS)) == 1000
    assert {path.split("/")[1] for path in http1.PATHS} == {"orders", "items", "u"}
    assert http1.FORBIDDEN_PATH not in http1.PATHS


def test_http1_gives_a_bar_to_each_of_its_levels() -> None:
    assert set(http1.LEVELS) == set(http1.CPU_BARS)
    assert http1.LOGGED_LEVEL in http1.LEVELS


def test_http1_rows_compare_both_sidecars_together_round_by_round() -> None:
    three = http1.Chains(ours=chain("ringfence"), logged=chain("logged"), peer=chain("envoy"))
    measured = http1.Measured(
        turns={
            ("ringfence", 32): [turn(10, 20), turn(20, 20)],
            ("envoy", 32): [turn(100, 100), turn(100, 100)],
            ("logged", 32): [turn(30, 30), turn(30, 30)],
        },
        idle_megabytes={"ringfence": 80, "envoy": 160},
        loaded_megabytes={"ringfence": 90, "envoy": 100},
    )

    rows = {(row.metric, row.level): row for row in http1.rows([32], three, measured)}

    cpu = rows["cpu_us_per_request", "c=32"]
    assert (cpu.ours, cpu.theirs, cpu.ratio, cpu.bar, cpu.met) == (35, 200, 0.175, 0.30, True)
    assert rows["cpu_us_per_request_client_side", "c=32"].ours == 15
    assert rows["cpu_us_per_request_client_side", "c=32"].bar is None
    assert rows["resident_megabytes", "idle"].met is True
    assert rows["resident_megabytes", "after load"].met is False
    assert rows["cpu_us_per_request_access_log_all", "c=32"].ratio == pytest.approx(1.75)


def test_a_turn_has_at_least_some_requests_on_each_connection() -> None:
    assert requests_for(10_000, 2, 32) == 20_000
    assert requests_for(3, 0.5, 128) == 512


def test_json_without_a_file_goes_to_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    three = http1.Chains(ours=chain("ringfence"), logged=chain("logged"), peer=chain("envoy"))
    measured = http1.Measured(
        turns={("ringfence", 1): [turn(1, 1)], ("envoy", 1): [turn(1, 1)]},
        idle_megabytes={"ringfence": 1, "envoy": 2},
        loaded_megabytes={"ringfence": 1, "envoy": 2},
    )
    rows = http1.rows([1], three, measured)
    work = WORKS["http1"]
    monkeypatch.setitem(WORKS, "http1", type(work)(name="http1", summary="", run=lambda _plan, _say: rows))
    monkeypatch.setattr(machine, "describe", lambda: {"cpu": "a processor"})  # its load moves from moment to moment

    to_output = CliRunner().invoke(main, ["http1", "--json"])
    to_file = CliRunner().invoke(main, ["http1", "--json", str(tmp_path / "report.json")])

    report = json.loads(to_output.stdout)
    assert set(report) == {"machine", "rows", "failed", "met"}
    assert report["met"] is False
    assert to_output.exit_code == 3
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert "MISSED" in to_file.stdout


def test_a_work_without_a_figure_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_plan: Plan, _say: Say) -> list[Row]:
        raise BenchmarkError("nginx died")

    met = compare("tcp", "c=8", "m", "envoy", [Pair(ours=1, theirs=1)], Bar(limit=1.0))
    monkeypatch.setitem(WORKS, "http1", Work(name="http1", summary="", run=fails))
    monkeypatch.setitem(WORKS, "tcp", Work(name="tcp", summary="", run=lambda _plan, _say: [met]))

    done = CliRunner().invoke(main, ["http1", "tcp", "--json"])

    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["failed"] == {"http1": "nginx died"}
    assert [found["work"] for found in report["rows"]] == ["tcp"]
    assert report["met"] is False


@pytest.mark.parametrize("arguments", [["http9"], ["http1", "--levels", "1,x"], ["--levels", "0"], ["--rounds", "0"]])
def test_arguments_that_name_nothing_are_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_profile_books_all_of_the_cpu_time() -> None:
    here = str(Path(http1.__file__).resolve().parent.parent)
    samples = read_samples(
        json.dumps(
            [
                [f"{here}/sidecar/tunnel/link.py", 10, "Link.flush", 30],
                [f"{here}/sidecar/tunnel/link.py", 12, "Link.flush", 10],
                ["/venv/lib/python3.11/site-packages/OpenSSL/SSL.py", 5, "Connection.send", 40],
                ["/usr/lib/python3.11/asyncio/runners.py", 118, "Runner.run", 20],
            ]
        )
    )

    lines = tables("c=32", samples, 50.0).splitlines()

    found = {tuple(line.split()[-3:]) for line in lines}
    assert ("sidecar/tunnel", "20.00", "40.0%") in found
    assert ("(pyOpenSSL)", "20.00", "40.0%") in found
    assert ("reads)", "10.00", "20.0%") in found
    assert ("Link.flush", "20.00", "40.0%") in found


def test_a_profile_of_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError):
        tables("c=32", {}, 50.0)


def test_what_a_sidecar_counted_is_summed_over_labels_and_nothing_else() -> None:
    text = """# HELP ringfence_requests_total Requests
# TYPE ringfence_requests_total counter
ringfence_requests_total{direction="inbound",status="200"} 7.0
ringfence_requests_total{direction="inbound",status="403"} 2.0
ringfence_requests_created{direction="inbound"} 1.8e9
# TYPE ringfence_connections_total counter
"""

    assert total(text, "requests") == 9
    assert total(text, "connections") == 0
    with pytest.raises(BenchmarkError):
        total(text, "bytes")


def test_tcp_rows_tell_what_a_cpu_second_of_both_sides_carries() -> None:
    measured = {("ringfence", 8): [turn(400, 600, rate=500)], ("envoy", 8): [turn(250, 250, rate=900)]}

    rows = {row.metric: row for row in tcp.rows([8], "ringfence", "envoy", measured)}

    carried = rows["megabytes_per_cpu_second"]
    assert (carried.ours, carried.theirs, carried.ratio) == (1000, 2000, 0.5)
    assert (carried.bar, carried.at_least, carried.met) == (1.0, True, False)
    assert rows["megabytes_per_cpu_second_client_side"].ours == 2500
    assert rows["megabytes_per_second"].ours == 500


def test_connections_rows_have_their_bar_where_there_is_a_handshake_to_save() -> None:
    measured = {("ringfence", 8): [turn(1, 1, rate=3000)], ("envoy", 8): [turn(4, 4, rate=1000)]}

    opaque = connections.rows("opaque", [8], "ringfence", "envoy", measured)
    http = connections.rows("http", [8], "ringfence", "envoy", measured)

    assert [(row.metric, row.met) for row in opaque if row.bar] == [("connections_per_second", True)]
    assert all(row.bar is None for row in http)
    assert {row.level for row in http} == {"http, c=8"}
