"""Changes of policy by command, on a control plane that runs: applied whole, tried in shadow, kept, taken back."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh_files import allowlist_text
from tests.planes import Plane, new_authority, until

ME = pwd.getpwuid(os.getuid()).pw_name


class Mesh:
    """A control plane that runs, and the command."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.policies = plane.files.policies
        self.given = plane.folder / "given"
        self.given.mkdir()

    def give(self, name: str, text: str) -> Path:
        file = self.given / name
        file.write_text(text)
        return file

    def run(self, *words: str | Path, status: int = 0) -> str:
        done = self.tried(*words)
        assert done.returncode == status, done
        return done.stdout

    def tried(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ringfence", "policy", *map(str, words), "--state", str(self.plane.state)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *words: str | Path, status: int = 0) -> dict[str, Any]:
        document = json.loads(self.run(*words, "--json", status=status))
        assert isinstance(document, dict)
        return document

    def held(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.policies.iterdir()}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def mesh(tmp_path: Path, authority: Path) -> Iterator[Mesh]:
    plane = Plane(tmp_path, authority)
    plane.init_authority()
    plane.files.allow("orders", "web")
    plane.start()
    try:
        yield Mesh(plane)
        assert plane.stop() == 0
    finally:
        plane.close()


def test_a_change_is_written_in_force_and_in_the_history_with_who_made_it(mesh: Mesh) -> None:
    before = mesh.plane.status()["revision"]
    file = mesh.give("orders.yaml", allowlist_text("orders", ["web"], path="/carts"))
    standing = mesh.json("apply", file, "--message", "carts, too")
    assert standing["state"] == "applied"
    assert standing["change"] == {"added": [], "altered": ["orders.yaml"], "removed": []}
    assert standing["revision"] == mesh.plane.status()["revision"] > before
    assert mesh.held() == {"orders.yaml": file.read_text()}
    records = mesh.json("history")["records"]
    assert [(one["record"], one["cause"], one["by"], one["message"]) for one in records] == [
        (1, "start", "", ""),
        (2, "apply", ME, "carts, too"),
    ]
    assert mesh.json("history", "2")["files"] == {"orders.yaml": file.read_text()}
    assert "carts, too" in mesh.run("history")


def test_a_wrong_change_is_told_with_its_place_and_nothing_happens(mesh: Mesh) -> None:
    before = mesh.held()
    good = mesh.give("good.yaml", allowlist_text("web", ["orders"]))
    bad = mesh.give("bad.yaml", allowlist_text("ordres", ["web"]))
    done = mesh.tried("apply", good, bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith("(did you mean orders?)")
    assert done.stderr.startswith(f"{bad}:5:")
    assert mesh.held() == before
    assert len(mesh.json("history")["records"]) == 1


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("notes.txt", b"", "is no policy file (end its name in .yaml or .yml)"),
        ("latin.yaml", b"name: \xe9", "is no UTF-8 at byte 6"),
    ],
)
def test_what_is_no_policy_file_is_refused_before_anybody_is_asked(
    mesh: Mesh, name: str, content: bytes, told: str
) -> None:
    file = mesh.given / name
    file.write_bytes(content)
    done = mesh.tried("apply", file)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_says_what_would_change_and_changes_nothing(mesh: Mesh) -> None:
    before = mesh.held()
    mesh.give("web.yaml", allowlist_text("web", ["orders"]))
    assert mesh.run("apply", mesh.given, "--prune", "--check") == "would be applied:\n  + web.yaml\n  - orders.yaml\n"
    assert mesh.held() == before
    assert mesh.json("apply", mesh.policies)["state"] == "unchanged"


def test_a_rollback_restores_what_was_and_is_a_record_itself(mesh: Mesh) -> None:
    first = mesh.held()
    mesh.give("web.yaml", allowlist_text("web", ["orders"]))
    mesh.run("apply", mesh.given, "--prune")
    assert list(mesh.held()) == ["web.yaml"]
    assert mesh.json("rollback")["state"] == "applied"
    assert mesh.held() == first
    assert mesh.json("rollback", "2")["change"]["added"] == ["web.yaml"]
    records = mesh.json("history")["records"]
    assert [(one["cause"], one["back_to"]) for one in records[1:]] == [
        ("apply", None),
        ("rollback", 1),
        ("rollback", 2),
    ]
    done = mesh.tried("rollback", "99")
    assert done.returncode == 2
    assert "there is no record 99 to go back to (kept: 1 to 4)" in done.stderr


def test_an_edit_by_hand_is_a_record_too_and_history_outlives_a_restart(mesh: Mesh) -> None:
    mesh.plane.files.allow("orders", "web", path="/edited")
    until(lambda: len(mesh.json("history")["records"]) == 2)
    before = mesh.json("history")
    assert before["records"][1]["cause"] == "files"
    assert mesh.plane.stop() == 0
    (mesh.plane.folder / "log").unlink()
    mesh.plane.start()
    assert mesh.json("history") == before
    assert "/edited" in mesh.json("history", "2")["files"]["orders.yaml"]


def test_what_is_surely_not_meant_is_told_before_and_when_it_is_applied(mesh: Mesh) -> None:
    file = mesh.give("orders.yaml", allowlist_text("orders", ["web", "wbe"]))
    for words in (("apply", file, "--check"), ("apply", file)):
        assert "warning: matches nobody: no service of the mesh is spiffe://shop.example/ns/shop/sa/wbe" in mesh.run(
            *words
        )
    assert mesh.json("apply", mesh.give("orders.yaml", allowlist_text("orders", ["web"])))["warnings"] == []


def test_a_trial_that_nothing_speaks_against_is_applied(mesh: Mesh) -> None:
    before = mesh.held()
    file = mesh.give("orders.yaml", allowlist_text("orders", ["web"], path="/carts"))
    begun = mesh.json("apply", file, "--shadow-first", "5s", "--no-wait")
    assert begun["state"] == "shadow"
    assert mesh.held() == before
    busy = mesh.tried("apply", file)
    assert busy.returncode == 1
    assert "another change is under way" in busy.stderr
    applied = until(lambda: (now := mesh.json("rollout"))["state"] == "applied" and now)
    assert applied["record"] == 2
    assert mesh.held() == {"orders.yaml": file.read_text()}


def test_a_trial_can_be_given_up_and_does_not_outlive_a_restart(mesh: Mesh) -> None:
    before = mesh.held()
    file = mesh.give("orders.yaml", allowlist_text("orders", ["web"], path="/carts"))
    mesh.run("apply", file, "--shadow-first", "1h", "--no-wait")
    assert mesh.run("rollout", "--stop") == "given up\n"
    given_up = until(lambda: (now := mesh.json("rollout"))["state"] == "given_up" and now)
    assert given_up["detail"] == f"stopped by {ME}"
    assert mesh.tried("rollout", "--stop").returncode == 1
    mesh.run("apply", file, "--shadow-first", "1h", "--no-wait")
    assert mesh.plane.stop() == 0
    (mesh.plane.folder / "log").unlink()
    mesh.plane.start()
    assert mesh.json("rollout") == {"state": "none"}
    assert mesh.held() == before


def test_a_folder_that_somebody_changed_during_the_trial_is_left_as_it_is(mesh: Mesh) -> None:
    file = mesh.give("orders.yaml", allowlist_text("orders", ["web"], path="/carts"))
    mesh.run("apply", file, "--shadow-first", "3s", "--no-wait")
    mesh.plane.files.allow("orders", "web", path="/edited")
    edited = mesh.held()
    given_up = until(lambda: (now := mesh.json("rollout"))["state"] == "given_up" and now)
    assert "changed by somebody else" in given_up["detail"]
    assert mesh.held() == edited
