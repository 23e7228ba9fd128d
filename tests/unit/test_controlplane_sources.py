"""The files of a configuration, read: whatever lies there, an answer or an error, never a fall."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import Sources, only_change
from ringfence.kit.clock import SystemClock
from ringfence.kit.watch import ContentReader
from tests.mesh_files import MeshFolder, allowlist_text, mesh_text


def problems_of(files: MeshFolder) -> list[str]:
    """What a start on these files would tell."""
    reader = ContentReader(clock=SystemClock(), limit_bytes=1 << 20)
    configuration, problems = Judge().judge(Sources(files.mesh_file, reader, policy_folder_named).read())
    assert (configuration is None) == bool(problems)
    return [str(problem) for problem in problems]


@pytest.fixture
def files(tmp_path: Path) -> MeshFolder:
    return MeshFolder(tmp_path)


@pytest.mark.parametrize(
    "name", ['"a\\0b"', '"\\ud800"', '"a\\nb"', "8080", "null", "[a]", "{}", '""', f"'{'a' * 5000}'"]
)
def test_folder_name_that_cannot_be_one_is_told_in_one_line(files: MeshFolder, name: str) -> None:
    files.write_mesh(mesh_text(extra=f"policies: {name}"))
    (first, *_) = lines = problems_of(files)
    assert first.startswith(f"{files.mesh_file}:6:")
    assert all(len(line.splitlines()) == 1 for line in lines)


@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "dangling", "device", "latin-1", "huge"])
def test_what_is_no_document_is_told_by_its_name(files: MeshFolder, what: str) -> None:
    (files.policies / "good.yaml").write_text(allowlist_text("orders", ["web"]))
    odd = files.policies / "odd.yaml"
    if what == "pipe":
        os.mkfifo(odd)
    elif what in ("folder", "loop", "dangling", "device"):
        odd.symlink_to({"folder": ".", "loop": "odd.yaml", "dangling": "nowhere", "device": "/dev/zero"}[what])
    else:
        odd.write_bytes(b"name: caf\xe9" if what == "latin-1" else b"#" * ((1 << 20) + 1))
    (line,) = problems_of(files)
    assert line.startswith(f"{odd}:1:1: ")


def test_file_whose_name_is_no_text_is_told_printably(files: MeshFolder) -> None:
    odd = os.path.join(os.fsencode(files.policies), b"\xff\n.yaml")  # noqa: PTH118 a name of bytes
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    Path(os.fsdecode(odd)).write_text("kind: [")
    (line,) = problems_of(files)
    assert line.startswith(rf"{files.policies}/\udcff\n.yaml:")
    assert line.encode().isascii()


def test_folder_with_more_in_it_than_a_mesh_can_use_is_told(files: MeshFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.intake.sources.POLICY_LIMIT_BYTES", 1000)
    for name in ("a", "b"):
        (files.policies / f"{name}.yaml").write_text("#" * 501)
    (line,) = problems_of(files)
    assert "it holds more than 1000 bytes" in line


def test_the_only_change_is_one_policy_file_that_can_be_read(files: MeshFolder) -> None:
    sources = Sources(files.mesh_file, ContentReader(clock=SystemClock(), limit_bytes=1 << 20), policy_folder_named)
    a, b = files.policies / "a.yaml", files.policies / "b.yaml"
    a.write_text(allowlist_text("orders", ["web"]))
    first = sources.read()
    assert only_change(first, first) is None
    a.write_text(allowlist_text("orders", ["api"]))
    second = sources.read()
    assert only_change(first, second) == a
    b.write_text(allowlist_text("api", ["web"]))
    third = sources.read()
    assert only_change(second, third) == b
    assert only_change(first, third) is None  # two of them
    b.unlink()
    assert only_change(third, sources.read()) is None  # one that is gone
    b.symlink_to("nowhere")
    assert only_change(second, sources.read()) is None  # one that cannot be read
    b.unlink()
    files.write_mesh(files.mesh_file.read_text() + "# and a remark\n")
    assert only_change(second, sources.read()) is None  # the mesh file
    a.write_text(allowlist_text("orders", ["web"]))
    assert only_change(second, sources.read()) is None  # and one beside it
