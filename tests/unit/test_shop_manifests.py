"""The shop for Kubernetes is the shop: the same apps, the same ports, policies that fit, and no word about the mesh."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.shop_manifests import FILE, SHOP, document

FOLDER = SHOP / "kubernetes"
OBJECTS: list[Any] = [
    found
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for found in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
MESH: Any = yaml.safe_load((SHOP / "mesh.yaml").read_text(encoding="utf-8"))
SERVICES = {service["name"]: service for service in MESH["spec"]["services"]}


def of_kind(kind: str) -> dict[str, Any]:
    return {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] == kind}


def test_the_apps_are_those_of_the_shop() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "write it anew: python -m tests.shop_manifests"
    data = yaml.safe_load(document())["data"]
    for path in (SHOP / "apps").glob("*.py"):
        assert data[path.name] == path.read_text(encoding="utf-8")


def test_every_file_is_applied() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def test_no_word_is_about_the_mesh() -> None:
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if path != FILE:  # the apps tell of the sidecar that they were written beside
            assert "ringfence" not in text
            assert "sidecar" not in text
    for found in OBJECTS:
        assert "annotations" not in found["metadata"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_the_one_of_the_mesh(name: str) -> None:
    (port,) = SERVICES[name]["ports"]
    service, deployment = of_kind("Service")[name], of_kind("Deployment")[name]
    assert [given["port"] for given in service["spec"]["ports"]] == [port["port"]]
    protocol = service["spec"]["ports"][0]["name"].partition("-")[0]
    assert protocol == port["protocol"]
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert pod["spec"]["serviceAccountName"] == name
    assert name in of_kind("ServiceAccount")
    (container,) = pod["spec"]["containers"]
    assert [given["containerPort"] for given in container["ports"]] == [port["port"]]
    assert container["command"] == ["python3", f"/apps/{SERVICES[name]['run']['command'][1]}"]
    environment = {one["name"] for one in container["env"]}
    assert set(SERVICES[name]["run"]["env"]) <= environment


def test_policies_of_the_shop_speak_of_what_is_deployed() -> None:
    for path in (SHOP / "policies").glob("*.yaml"):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert found["spec"]["service"] in of_kind("Service")
        assert found["metadata"]["namespace"] == "shop"
