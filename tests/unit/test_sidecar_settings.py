"""Settings: read from document, variables and flags, every error told at once with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands import sidecar
from sidecar.settings import (
    AccessLog,
    EvidenceSettings,
    Given,
    HostPort,
    SettingsError,
    load,
    parse_duration,
    parse_fingerprint,
    parse_host_port,
)
from sidecar.settings_sources import SETTINGS, given_by_document, given_by_environment, given_by_flags

FINGERPRINT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
FLAGS: dict[str, str | None] = {
    "spiffe-id": "spiffe://shop.example/ns/shop/sa/orders",
    "join": "127.0.0.1:7401",
    "control": "127.0.0.1:7402",
    "root-fingerprint": FINGERPRINT,
    "state": "/var/lib/ringfence/orders",
}
DOCUMENT = f"""\
apiVersion: ringfence.io/v1alpha1
kind: Sidecar
metadata: {{name: orders}}
spec:
  spiffeId: spiffe://shop.example/ns/shop/sa/orders
  controlPlane:
    join: 127.0.0.1:7401
    address: 127.0.0.1:7402
    rootFingerprint: {FINGERPRINT}
  joinTokenFile: token
  evidence: {{kind: kubernetes, file: /var/run/ringfence/token/token}}
  state: state
  signals: 127.0.0.1:9402
  accessLog: all
  lifetime: 1h
  workers: 4
  drain: 500ms
"""


def problems_of(**changes: str | None) -> list[str]:
    flags = {**FLAGS, **{key.replace("_", "-"): value for key, value in changes.items()}}
    with pytest.raises(SettingsError) as error:
        load(given_by_flags(flags))
    return error.value.problems


def test_what_is_needed_suffices_and_the_rest_has_defaults() -> None:
    settings = load(given_by_flags(FLAGS))
    assert str(settings.identity.spiffe_id) == FLAGS["spiffe-id"]
    assert settings.identity.join == HostPort("127.0.0.1", 7401)
    assert settings.identity.renew == settings.control.address == HostPort("127.0.0.1", 7402)
    assert settings.identity.trust.root_fingerprint == FINGERPRINT
    assert settings.identity.join_token_file is None
    assert settings.identity.evidence is None
    assert settings.identity.lifetime_seconds == 0
    assert settings.signals.listen is None
    assert settings.signals.admin_socket == Path("/var/lib/ringfence/orders/run/admin.sock")
    assert settings.log.access_log is AccessLog.DENIED
    assert settings.log.level == "info"
    assert settings.drain_seconds == 10.0
    assert settings.workers == 1
    assert settings.control.instance == ""


def test_a_document_says_the_same_with_paths_from_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT)
    settings = load(given_by_document(path))
    assert settings.identity.join_token_file == tmp_path / "token"
    evidence = EvidenceSettings(kind="kubernetes", file=Path("/var/run/ringfence/token/token"))
    assert settings.identity.evidence == evidence
    assert settings.identity.state_dir == settings.control.state_dir == tmp_path / "state"
    assert settings.identity.lifetime_seconds == 3600
    assert settings.signals.listen == HostPort("127.0.0.1", 9402)
    assert settings.log.access_log is AccessLog.ALL
    assert settings.drain_seconds == 0.5
    assert settings.workers == 4


def test_an_access_log_may_name_the_share_of_all_that_it_wants(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT.replace("accessLog: all", "accessLog: {mode: all, sample: 0.25}"))
    settings = load(given_by_document(path))
    assert (settings.log.access_log, settings.log.access_log_sample) == (AccessLog.ALL, 0.25)
    assert load(given_by_flags(FLAGS | {"access-log": "all"})).log.access_log_sample == 1.0
    assert load(given_by_flags(FLAGS | {"access-log": "all", "access-log-sample": "0.000000001"}))
    for wrong in ("1.1", "-0.1", "10%", "1e-3", ".5", "nan", ""):
        [line] = problems_of(access_log="all", access_log_sample=wrong)
        assert line.startswith("--access-log-sample: not a share"), wrong
    [line] = problems_of(access_log_sample="0.5")
    assert line == "--access-log-sample: a sample of requests that are not logged (set the access log to all)"


def test_an_instance_is_named_by_flag_variable_and_document(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT.replace("spec:\n", "spec:\n  instance: a\n"))
    document, variable = given_by_document(path), given_by_environment({"RINGFENCE_SIDECAR_INSTANCE": "b"})
    assert load(document).control.instance == "a"
    assert load(document, variable).control.instance == "b"
    settings = load(document, variable, given_by_flags({"instance": "c"}))
    assert settings.control.instance == settings.redacted()["instance"] == "c"
    for wrong in ("", "A", "../a", "a..b", ".a", "a" * 254, ".".join(["a" * 60] * 5)):
        [line] = problems_of(instance=wrong)
        assert line.startswith("--instance: not the name of an instance"), wrong


def test_flags_win_over_variables_and_variables_over_the_document(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT)
    environment = {"RINGFENCE_SIDECAR_JOIN": "127.0.0.1:1", "RINGFENCE_SIDECAR_CONTROL": "127.0.0.1:2", "HOME": "/"}
    flags: dict[str, str | None] = {"control": "127.0.0.1:3", "join": None}
    settings = load(given_by_document(path), given_by_environment(environment), given_by_flags(flags))
    assert settings.identity.join.port == 1
    assert settings.control.address.port == 3


def test_every_error_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT.replace("127.0.0.1:7401", "nowhere").replace("sa/orders", "sa/or ders"))
    with pytest.raises(SettingsError) as error:
        load(given_by_document(path), {"drain": Given("soon", "--drain")})
    lines = sorted(error.value.problems)
    assert lines[0].startswith("--drain: not a duration: 'soon'")
    assert lines[1].startswith(f"{path}:5:13: ")
    assert lines[2].startswith(f"{path}:7:11: not a host and port: 'nowhere'")
    assert len(lines) == 3


def test_unknown_fields_are_told_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT.replace("accessLog", "accesLog") + "  extra: 1\n")
    with pytest.raises(SettingsError) as error:
        given_by_document(path)
    assert any("accesLog" in line and "accessLog" in line for line in error.value.problems)
    assert any(line.startswith(f"{path}:18:3: ") and "extra" in line for line in error.value.problems)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no document"),
        ("apiVersion: ringfence.io/v1alpha1\nkind: Mesh\nspec: {}\n", "'Mesh' is not known"),
        ("apiVersion: v2\nkind: Sidecar\nspec: {}\n", "'v2' is not known"),
        ("- a list\n", "mapping"),
        (DOCUMENT + "---\n" + DOCUMENT, "more than one document"),
        (DOCUMENT + "  drain: 1s\n", "drain"),
        (DOCUMENT.replace("  state:", "\tstate:"), "tab"),
        (DOCUMENT.replace("127.0.0.1:9402", "9402"), "must be text"),
        (DOCUMENT.replace("state: state", "state: &a state"), "anchor"),
    ],
)
def test_a_broken_document_is_told(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=told) as error:
        given_by_document(path)
    assert all(line.startswith(f"{path}:") for line in error.value.problems)


def test_a_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        given_by_document(tmp_path / "orders.yaml")


def test_a_variable_that_is_no_setting_is_told() -> None:
    with pytest.raises(SettingsError, match=r"\$RINGFENCE_SIDECAR_JION: no such setting"):
        given_by_environment({"RINGFENCE_SIDECAR_JION": "127.0.0.1:7401"})


@pytest.mark.parametrize("service", ["RINGFENCE_SIDECAR", "RINGFENCE_SIDECAR_CANARY_2"])
def test_what_kubernetes_tells_of_a_service_of_our_name_is_no_setting(service: str) -> None:
    told = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP_2", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR")
    assert given_by_environment({f"{service}_{name}": "10.0.0.1" for name in told}) == {}
    for name in ("SERVICE", "PORT_80", "PORTS", "PORT_80_TCP_WEIGHT"):
        with pytest.raises(SettingsError, match="no such setting"):
            given_by_environment({f"{service}_{name}": "10.0.0.1"})


@pytest.mark.parametrize("key", ["spiffe-id", "join", "control", "root-fingerprint", "state"])
def test_what_is_missing_is_told_by_its_flag(key: str) -> None:
    (line,) = problems_of(**{key: None})
    assert line.startswith(f"--{key}: missing")


@pytest.mark.parametrize(
    ("spiffe_id", "told"),
    [
        ("shop.example/ns/shop/sa/orders", "spiffe://"),
        ("spiffe://shop.example", "not a workload's"),
        ("spiffe://shop.example/orders", "not a workload's"),
        ("spiffe://shop.example/ns/ringfence-system/sa/orders", "reserved"),
    ],
)
def test_an_identity_that_no_workload_has_is_refused(spiffe_id: str, told: str) -> None:
    (line,) = problems_of(spiffe_id=spiffe_id)
    assert told in line


def test_a_fingerprint_and_a_bundle_exclude_each_other() -> None:
    (line,) = problems_of(bundle="roots.pem")
    assert "keep one" in line


def test_a_socket_path_the_kernel_cannot_hold_is_told() -> None:
    (line,) = problems_of(state="/" + "s" * 120)
    assert "give a shorter --admin-socket" in line
    assert load(given_by_flags({**FLAGS, "state": "/" + "s" * 120, "admin-socket": "/run/a.sock"}))


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.0.0.1:65535", "[::1]:80", "control.example:7401", "localhost:1"])
def test_addresses_that_are_taken(text: str) -> None:
    assert str(parse_host_port(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "[127.0.0.1]:80", "[::1]80",
        "host name:80", "127.1:80", "2130706433:80", "host:８０", "host:+80", "host\n:80", "a..b:80", "[::1:80", "",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_host_port(text)


@given(st.text(max_size=30))
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (parse_host_port, parse_duration, parse_fingerprint):
        try:
            read(text)
        except ValueError as error:
            assert "\n" not in str(error)


def test_a_fingerprint_is_read_as_other_tools_print_it() -> None:
    with_colons = ":".join(FINGERPRINT[at : at + 2] for at in range(0, 64, 2)).upper()
    assert parse_fingerprint(with_colons) == parse_fingerprint(f"sha256:{FINGERPRINT}") == FINGERPRINT


@pytest.mark.parametrize("text", ["", FINGERPRINT[:-1], FINGERPRINT + "0", "z" * 64, FINGERPRINT[:-1] + "é"])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        parse_fingerprint(text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("10s", 10.0), ("5m", 300.0), ("1h", 3600.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["10", "s", "-1s", "1.5h", "1d ", "1h\n", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lifetime": "0s"}, "--lifetime"),
        ({"lifetime": "500ms"}, "--lifetime"),
        ({"access_log": "some"}, "one of denied, all"),
        ({"log_level": "loud"}, "one of debug"),
        ({"state": ""}, "--state: not a path"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, str | None], told: str) -> None:
    (line,) = problems_of(**change)
    assert told in line


# ------------------------------------------------------------------------------------------------------- the command


def run_command(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(sidecar, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def arguments(**changes: str) -> list[str]:
    values = {**FLAGS, **{key.replace("_", "-"): value for key, value in changes.items()}}
    return [part for key, value in values.items() if value is not None for part in (f"--{key}", value)]


def test_help_has_an_example_and_every_setting() -> None:
    status, out, _ = run_command("--help")
    assert status == 0
    assert "ringfence sidecar --spiffe-id" in out
    assert all(f"--{setting.key}" in out for setting in SETTINGS)


def test_print_config_shows_the_effective_settings_and_no_secret(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("ringfence-secret-token")
    status, out, _ = run_command(*arguments(join_token_file=str(token)), "--print-config")
    assert status == 0
    shown = json.loads(out)
    assert shown["spiffe_id"] == FLAGS["spiffe-id"]
    assert shown["join_token_file"] == str(token)
    assert "ringfence-secret-token" not in out
    assert set(shown) >= {"join", "control", "root_fingerprint", "state", "admin_socket", "drain_seconds"}


def test_bad_input_is_exit_status_2_with_a_line_for_each_problem() -> None:
    status, out, err = run_command(*arguments(join="nowhere", drain="soon"))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 2


def test_problems_of_different_sources_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_SIDECAR_JION", "127.0.0.1:7401")
    path = tmp_path / "orders.yaml"
    path.write_text(DOCUMENT + "  extra: x\n")
    status, _, err = run_command("--config", str(path))
    assert status == 2
    assert "$RINGFENCE_SIDECAR_JION" in err
    assert f"{path}:18:3:" in err


def test_a_bundle_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    missing = tmp_path / "roots.pem"
    flags = arguments(bundle=str(missing))
    at = flags.index("--root-fingerprint")
    status, _, err = run_command(*flags[:at], *flags[at + 2 :])
    assert status == 2
    assert f"--bundle: cannot read the bundle {missing}" in err


def test_a_token_cannot_be_given_on_the_command_line() -> None:
    status, _, err = run_command(*arguments(), "--join-token", "secret")
    assert status == 2
    assert "No such option" in err


@pytest.mark.parametrize("text", ["0", "-1", "65", "2.0", "\N{ARABIC-INDIC DIGIT TWO}", "", "many"])
def test_a_number_of_workers_that_is_none_is_refused_with_the_range(text: str) -> None:
    assert problems_of(workers=text) == [f"--workers: not a number of workers: {text!r} (1 to 64)"]


def test_probes_are_read_and_shown_by_name_alone() -> None:
    probes = '{"app/readiness": {"http": {"port": 8080, "headers": [["authorization", "s3cret"]]}}}'
    flags = {**FLAGS, "probes": probes, "pod-address": "10.0.0.7, fd00::7", "signals": "0.0.0.0:15020"}
    settings = load(given_by_flags(flags))
    assert [probe.path for probe in settings.pod.probes] == ["/app-health/app/readiness"]
    assert settings.pod.addresses == ("10.0.0.7", "fd00::7")
    shown = settings.redacted()
    assert shown["probes"] == ["app/readiness"]
    assert "s3cret" not in str(shown)


def test_without_a_pod_there_are_no_probes() -> None:
    pod = load(given_by_flags(FLAGS)).pod
    assert (pod.probes, pod.addresses, pod.expect_redirect) == ((), (), False)


def test_every_problem_of_probes_is_told_with_where_they_were_given() -> None:
    wrong = '{"app/readiness": {"tcp": {"port": 0}}, "app": {}}'
    assert [problem.split(" (")[0] for problem in problems_of(probes=wrong)] == [
        "--probes: 'app/readiness': port: 0",
        "--probes: 'app': not a probe's name",
        "--probes: probes are answered nowhere",
    ]


@pytest.mark.parametrize("text", ["", "pod", "10.0.0.7/32", "10.0.0.7,", "0.0.0.0", "ff02::1", "fe80::1%eth0", "::"])
def test_what_is_no_address_of_a_pod_is_refused(text: str) -> None:
    assert len(problems_of(pod_address=text)) == 1


def test_evidence_needs_both_its_kind_and_its_file() -> None:
    assert problems_of(evidence_kind="kubernetes") == [
        "--evidence-kind: evidence without its file (give --evidence-file, too)"
    ]
    assert problems_of(evidence_file="/token") == [
        "--evidence-file: evidence without its kind (give --evidence-kind, too)"
    ]


@pytest.mark.parametrize("kind", ["", "Kubernetes", "a b", "x" * 32, "1st", "kuber\nnetes"])
def test_a_kind_of_evidence_is_a_word(kind: str) -> None:
    (problem,) = problems_of(evidence_kind=kind, evidence_file="/token")
    assert problem.startswith("--evidence-kind: not a kind of evidence: ")


def test_a_redirect_is_expected_where_it_is_said(tmp_path: Path) -> None:
    assert load(given_by_flags({**FLAGS, "expect-redirect": "true"})).pod.expect_redirect
    assert not load(given_by_flags({**FLAGS, "expect-redirect": "false"})).pod.expect_redirect
    document = tmp_path / "sidecar.yaml"
    document.write_text(DOCUMENT.replace("  workers: 4\n", "") + "  expectRedirect: true\n")
    assert load(given_by_document(document)).pod.expect_redirect


@pytest.mark.parametrize("text", ["", "yes", "1", "True"])
def test_what_is_neither_true_nor_false_is_refused(text: str) -> None:
    assert problems_of(expect_redirect=text) == [f"--expect-redirect: neither true nor false: {text!r}"]


def test_several_workers_cannot_try_a_redirect() -> None:
    assert problems_of(expect_redirect="true", workers="2") == [
        "--expect-redirect: one process tries it (leave workers at 1)"
    ]
