"""Files to a world: which files are meant, and that nothing is half loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.policy.loading import load
from ringfence.policy.analysis.world import WorldPort
from tests.mesh_files import MeshFolder, allowlist_text, mesh_text


@pytest.fixture
def files(tmp_path: Path) -> MeshFolder:
    return MeshFolder(tmp_path, "web", "orders")


def texts(*paths: Path, mesh: Path | None = None) -> list[str]:
    return [str(problem) for problem in load(paths, mesh=mesh).problems]


def test_a_mesh_file_and_its_folder_make_a_world(files: MeshFolder) -> None:
    files.allow("orders", "web")
    text = files.mesh_file.read_text().replace("    - name: web\n", "    - name: web\n      labels: {b: x, a: y}\n")
    files.write_mesh(
        text.replace("  trustDomain", "  rootNamespace: roots\n  trustDomain")
        + "  directServices:\n    - {name: search, addresses: [10.0.0.9], labels: {tier: back},"
        " ports: [{port: 8443, protocol: grpc}]}\n"
    )
    for paths, mesh in (([], files.mesh_file), ([files.mesh_file], None), ([files.mesh_file.parent], None)):
        loaded = load(paths, mesh=mesh)
        assert loaded.problems == ()
        world = loaded.world
        assert world is not None
        assert world.root_namespace == "roots"
        assert [service.full_name for service in world.services] == ["default/search", "shop/orders", "shop/web"]
        search, orders, web = world.services
        assert (search.has_sidecar, search.labels, web.labels) == (False, (("tier", "back"),), (("a", "y"), ("b", "x")))
        assert orders.ports == (WorldPort(port=8080, protocol="http"),)
        assert [rule.name for one in orders.policy.allowlists for rule in one.rules] == ["from-web"]


def test_documents_that_are_named_stand_in_for_those_of_the_folder(files: MeshFolder, tmp_path: Path) -> None:
    files.allow("orders", "web")
    other = tmp_path / "candidate"
    other.mkdir()
    (other / "one.yaml").write_text(allowlist_text("orders", ["web", "orders"]))
    loaded = load([other])  # the mesh file lies beside
    assert loaded.problems == ()
    assert loaded.world is not None
    orders = loaded.world.service("shop/orders")
    assert orders is not None
    assert [rule.name for one in orders.policy.allowlists for rule in one.rules] == ["from-web", "from-orders"]


def test_a_folder_with_a_mesh_file_stands_for_that_and_its_policies(files: MeshFolder, tmp_path: Path) -> None:
    files.allow("orders", "web")
    (tmp_path / "cases.yaml").write_text("kind: SomethingElse\n")
    more = tmp_path / "more.yaml"
    more.write_text(allowlist_text("web", ["orders"], name="more"))
    for paths in ([tmp_path], [tmp_path, more]):
        loaded = load(paths)
        assert loaded.problems == ()
        assert loaded.documents == len(paths)
    files.mesh_file.write_text("{")
    assert {problem.file for problem in load([tmp_path]).problems} == {str(files.mesh_file)}


def test_one_problem_and_there_is_no_world(files: MeshFolder) -> None:
    file = files.allow("orders", "web")
    file.write_text(file.read_text().replace("service: orders", "service: order"))
    loaded = load([file], mesh=files.mesh_file)
    assert (loaded.world, loaded.configuration) == (None, None)
    assert len(loaded.problems) == 1
    assert "namespace shop has no service 'order' (did you mean orders?)" in str(loaded.problems[0])


def test_without_a_mesh_file_it_is_said_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "orders.yaml"
    file.write_text(allowlist_text("orders", ["web"]))
    assert texts(file) == [f"{file}:1:1: there is no mesh file here (name it by --mesh)"]


def test_of_two_mesh_files_one_must_be_named(files: MeshFolder, tmp_path: Path) -> None:
    second = tmp_path / "other.yaml"
    second.write_text(mesh_text())
    assert [text.split(": ", 1)[1] for text in texts(tmp_path, second)] == [
        f"a second mesh file, after {files.mesh_file} (name one by --mesh)"
    ]


@pytest.mark.parametrize("name", ["gone.yaml", "gone"])
def test_what_is_not_there_is_told(files: MeshFolder, name: str) -> None:
    path = files.mesh_file.parent / name
    found = texts(path, mesh=files.mesh_file)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:1:1: cannot be read: No such file or directory")
