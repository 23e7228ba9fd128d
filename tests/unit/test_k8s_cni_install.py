"""The CNI plugin put onto a node, kept there, and taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from k8s.cni.commands import install
from k8s.cni.install import Installer, InstallError, Places, with_plugin, without_plugin

BRIDGE = {"type": "bridge", "bridge": "cni0"}
LIST = {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, {"type": "portmap"}]}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A node with a network, and an image of three files."""
    made = {name: tmp_path / name for name in ("programs", "lists", "roots", "account", "image")}
    for folder in made.values():
        folder.mkdir()
    (made["account"] / "token").write_text("one\n")
    (made["account"] / "ca.crt").write_text("authority")
    (made["lists"] / "10-pods.conflist").write_text(json.dumps(LIST))
    (made["lists"] / "20-other.conflist").write_text("{}")
    (made["image"] / "usr/bin").mkdir(parents=True)
    (made["image"] / "usr/bin/tool").write_text("#!/bin/sh\n")
    (made["image"] / "usr/bin/tool").chmod(0o755)
    (made["image"] / "bin").symlink_to("usr/bin")
    (made["image"] / "var").mkdir()
    return Places(
        programs=made["programs"],
        lists=made["lists"],
        roots=made["roots"],
        roots_on_node=Path("/opt/ringfence-cni"),
        account=made["account"],
        server="https://10.96.0.1:443",
        exclude_namespaces=("ringfence-system",),
        image=made["image"],
    )


def listed(places: Places) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((places.lists / "10-pods.conflist").read_text())["plugins"]
    return found


def test_the_plugin_is_the_last_of_the_nodes_list_and_runs_from_a_copy(places: Places) -> None:
    installer = Installer(places)
    installer.start("1")
    assert installer.keep() and not installer.keep()
    assert listed(places) == [
        *LIST["plugins"],
        {
            "type": "ringfence-cni",
            "access": "/run/ringfence-cni/access.json",
            "excludeNamespaces": ["kube-node-lease", "kube-public", "kube-system", "ringfence-system"],
        },
    ]
    script = places.programs / "ringfence-cni"
    assert script.stat().st_mode & 0o777 == 0o755 and "sh '/opt/ringfence-cni/1'" in script.read_text()
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    root = places.roots / "1"
    assert (root / "bin").is_symlink() and (root / "bin/tool").stat().st_mode & 0o111
    assert root.stat().st_mode & 0o777 == 0o700, "a program of the copy is for nobody but root"
    assert not (root / "var").exists() and (root / "proc").is_dir()
    access = root / "run/ringfence-cni/access.json"
    assert access.stat().st_mode & 0o777 == 0o600 and access.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(access.read_text()) == {
        "server": "https://10.96.0.1:443",
        "authority": "authority",
        "token": "one",
    }
    assert (places.lists / "20-other.conflist").read_text() == "{}"


def test_what_somebody_changed_is_put_right_and_a_new_token_is_taken(places: Places) -> None:
    installer = Installer(places)
    installer.start("1")
    installer.keep()
    (places.lists / "10-pods.conflist").write_text(json.dumps({**LIST, "plugins": [BRIDGE]}))
    assert installer.keep() and [one["type"] for one in listed(places)] == ["bridge", "ringfence-cni"]
    (places.account / "token").write_text("two")
    assert installer.keep()
    assert json.loads((places.roots / "1/run/ringfence-cni/access.json").read_text())["token"] == "two"


def test_a_list_that_comes_first_by_name_later_is_taken(places: Places) -> None:
    installer = Installer(places)
    installer.start("1")
    installer.keep()
    (places.lists / "05-new.conflist").write_text(json.dumps(LIST))
    assert installer.keep()
    assert json.loads((places.lists / "05-new.conflist").read_text())["plugins"][-1]["type"] == "ringfence-cni"


def test_old_copies_go_but_for_the_last(places: Places) -> None:
    for name in ("1", "2", "3", "4"):
        Installer(places).start(name)
    assert sorted(one.name for one in places.roots.iterdir()) == ["3", "4"]


def test_it_is_taken_away_and_the_list_is_as_it_was(places: Places) -> None:
    installer = Installer(places)
    installer.start("1")
    installer.keep()
    assert installer.remove()
    assert json.loads((places.lists / "10-pods.conflist").read_text()) == LIST
    assert list(places.programs.iterdir()) == [] and list(places.roots.iterdir()) == []
    assert not installer.remove()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"type": "bridge"}', '{"plugins": 7}', '{"plugins": ["a"]}', "x" * 1_100_000]
)
def test_a_list_that_is_none_stays_as_it_is_and_is_told(places: Places, content: str) -> None:
    path = places.lists / "10-pods.conflist"
    path.write_text(content)
    installer = Installer(places)
    installer.start("1")
    with pytest.raises(InstallError):
        installer.keep()
    assert path.read_text() == content


def test_a_node_without_a_network_and_folders_that_are_missing_are_told(places: Places) -> None:
    for path in places.lists.iterdir():
        path.unlink()
    installer = Installer(places)
    installer.start("1")
    with pytest.raises(InstallError, match="install the node's network first"):
        installer.keep()
    (places.account / "token").unlink()
    with pytest.raises(InstallError, match="token"):
        Installer(places).start("2")


def test_ours_is_put_once_and_taken_out_as_a_whole() -> None:
    plugin = {"type": "ringfence-cni", "access": "/a"}
    once = with_plugin(LIST, plugin)
    assert with_plugin(once, plugin) == once and without_plugin(once) == LIST
    assert with_plugin(once, {**plugin, "access": "/b"})["plugins"][-1]["access"] == "/b"


def test_the_command_installs_once_and_removes(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k8s.cni.commands.Places", lambda **given: Places(**{**given, "image": places.image}))
    words = ["--programs", str(places.programs), "--lists", str(places.lists), "--roots", str(places.roots)]
    words += ["--roots-on-node", "/opt/ringfence-cni", "--account", str(places.account), "--server", places.server]
    done = CliRunner().invoke(install, [*words, "--once", "--json"])
    assert done.exit_code == 0 and json.loads(done.output) == {"msg": "installed"}
    assert listed(places)[-1]["type"] == "ringfence-cni"
    done = CliRunner().invoke(install, [*words, "--remove", "--once"])
    assert done.exit_code == 0 and done.output == "removed\n" and listed(places) == LIST["plugins"]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = CliRunner().invoke(install, words[:-2])
    assert done.exit_code == 2 and "--server: missing" in done.output


def test_a_node_whose_network_comes_later_is_waited_for(places: Places, tmp_path: Path) -> None:
    kept = (places.lists / "10-pods.conflist").read_text()
    for path in places.lists.iterdir():
        path.unlink()
    code = (
        "import k8s.cni.commands as c, pathlib, sys; c._KEEP_SECONDS = 0.01;"
        "image = pathlib.Path(sys.argv.pop(1));"
        "p = c.Places; c.Places = lambda **g: p(**{**g, 'image': image}); c.install()"
    )
    words = ["--programs", str(places.programs), "--lists", str(places.lists), "--roots", str(places.roots)]
    words += ["--roots-on-node", "/opt/a", "--account", str(places.account), "--server", places.server, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(places.image), *words], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        assert process.stdout is not None
        assert "install the node's network first" in process.stdout.readline()
        part = tmp_path / "part"
        part.write_text(kept)
        part.replace(places.lists / "10-pods.conflist")
        assert json.loads(process.stdout.readline()) == {"msg": "installed"}
        process.terminate()
        assert process.wait(30) == 0
