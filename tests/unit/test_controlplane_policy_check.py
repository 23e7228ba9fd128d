"""``ringfence policy check``: errors and warnings at once, and what it answers to each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.policy.check import command
from tests.mesh_files import MeshFolder
from tests.policy_documents import document


@pytest.fixture
def files(tmp_path: Path) -> MeshFolder:
    return MeshFolder(tmp_path, "web", "orders")


def check(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def write(files: MeshFolder, *rules: str, service: str = "orders") -> Path:
    file = files.policies / "a.yaml"
    file.write_text(document("Allowlist", "a", f"{{service: {service}, rules: [{', '.join(rules)}]}}"))
    return file


GOOD = "{name: r, from: [web]}"
WARNED = "{name: s, from: [{namespace: shop}]}"  # covers GOOD
WRONG = "{name: w, from: [wbe], to: {ports: [1]}}"


def test_good_files_are_good_with_the_mesh_file_and_without_it(files: MeshFolder, tmp_path: Path) -> None:
    file = write(files, GOOD)
    for words in ([file], [files.policies], ["--mesh", files.mesh_file], [file, "--mesh", files.mesh_file, "--strict"]):
        result = check(*words)
        assert (result.exit_code, result.output) == (0, "1 document, 2 services, 0 errors, 0 warnings\n")
    alone = tmp_path / "elsewhere" / "deep"
    alone.mkdir(parents=True)
    (alone / "a.yaml").write_text(file.read_text())
    result = check(alone / "a.yaml")
    assert result.exit_code == 0
    assert "not checked against services" in result.output


def test_errors_and_warnings_come_at_once_each_with_its_place(files: MeshFolder) -> None:
    file = write(files, GOOD, WRONG)
    second = files.policies / "b.yaml"
    second.write_text(document("Allowlist", "b", "{labels: {no: such}, rules: []}"))
    result = check(files.policies)
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert [line.split(" (")[0] for line in lines[:-1]] == [
        f"{file}:4:74: there is no service 'shop/wbe'",
        f"{file}:4:93: shop/orders has no port 1",
        f"{second}:4:16: warning: selects nothing: no service of namespace shop has the labels {{no: such}}",
    ]
    assert lines[-1] == "2 errors, 1 warning"


def test_warnings_fail_only_where_that_is_asked_for(files: MeshFolder) -> None:
    write(files, GOOD, WARNED)
    result = check("--mesh", files.mesh_file)
    assert result.exit_code == 0
    assert "warning: rule r never decides" in result.output
    assert check("--mesh", files.mesh_file, "--strict").exit_code == 1
    write(files, GOOD, WARNED, WRONG)
    assert check("--mesh", files.mesh_file, "--strict").exit_code == 2


def test_json_tells_the_same(files: MeshFolder) -> None:
    file = write(files, GOOD, WARNED)
    found = json.loads(check("--mesh", files.mesh_file, "--json").stdout)
    (problem,) = found["problems"]
    assert (found["errors"], found["warnings"], found["documents"], found["services"]) == (0, 1, 1, 2)
    assert (problem["file"], problem["line"], problem["severity"]) == (str(file), 4, "warning")
    write(files, WRONG)
    result = check("--mesh", files.mesh_file, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["errors"] == 2


def test_without_anything_to_check_it_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = check()
    assert result.exit_code == 2
    assert "there is no mesh file here" in result.output
    assert check(tmp_path / "gone.yaml").exit_code == 2
