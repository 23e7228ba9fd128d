"""The manifests without helm: `kubectl apply -k k8s/manifests`, and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from k8s.manifests.render import FILE
from tests.cluster.charted import SYSTEM, Place, placed
from tests.cluster.conforming import conform, write_schemas
from tests.cluster.product_image import NAME

_WHERE = f"--namespace={SYSTEM}"


@pytest.fixture(scope="module")
def place(programs: Path, image: Path) -> Iterator[Place]:
    """A cluster in which they are applied; its node has the image under the name that they say."""
    with placed(programs, image) as made:
        made.cluster.nodes[0].tag(NAME, "docker.io/library/ringfence:0.1.0")
        assert apply(made)[1] == ""
        yield made


def apply(place: Place) -> tuple[str, str]:
    ran = place.cluster.try_kubectl("apply", f"--kustomize={FILE.parent}")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


def test_the_control_plane_comes_up_in_a_namespace_held_to_restricted(place: Place) -> None:
    cluster = place.cluster
    waited = cluster.try_kubectl("rollout", "status", "deploy/ringfence", _WHERE, "--timeout=180s", seconds=200)
    assert waited.returncode == 0, place.state()
    labels = cluster.get("namespace", SYSTEM)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert place.secrets()[1].strip() == place.root().strip()


def test_they_have_only_fields_of_the_served_schema(place: Place, tmp_path: Path) -> None:
    assert write_schemas(place.cluster, tmp_path) > 100
    told = conform(place.cluster, tmp_path, FILE, FILE.parent / "namespace.yaml")
    assert told["resources"] == []
    objects = [one for one in yaml.safe_load_all(FILE.read_text(encoding="utf-8")) if one]
    assert (told["summary"]["valid"], told["summary"]["skipped"]) == (len(objects) + 1, 0)


def test_applied_again_they_change_nothing(place: Place) -> None:
    before = place.secrets()
    told, complaints = apply(place)
    assert complaints == ""
    assert [line for line in told.splitlines() if not line.endswith(" unchanged")] == []
    assert place.secrets() == before
