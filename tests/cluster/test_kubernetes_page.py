"""Pages whose commands are run on a cluster, as their reader would: docs/kubernetes.md, and runbooks after it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.charted import Place, placed
from tests.cluster.cluster import network_words
from tests.cluster.machine import environment
from tests.cluster.mesh import running_pod
from tests.cluster.product_image import NAME, REPOSITORY
from tests.walks import Step, steps_of, walk

DOCS = REPOSITORY / "docs"
# What a reader would pull: the product's image under its own name, and one with Python.
PULLED = ("docker.io/library/ringfence:0.1.0", "docker.io/library/python:3.13-slim")
_SECONDS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """Where a reader sits: a folder with a checkout, programs on the path, and a cluster to talk to."""

    place: Place
    folder: Path
    environment: dict[str, str]

    def walk(self, steps: list[Step], **given: str) -> list[str]:
        assert steps
        return walk(steps, self.folder, {**self.environment, **given}, _SECONDS)


@pytest.fixture(scope="module")
def desk(programs: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A cluster with nothing in it, and a desk."""
    with placed(programs, image) as place:
        cluster = place.cluster
        node = cluster.nodes[0]
        for name in PULLED:
            node.tag(NAME, name)
        folder = tmp_path_factory.mktemp("desk")
        for name in ("k8s", "examples"):
            (folder / name).symlink_to(REPOSITORY / name)
        path = folder / "bin"
        path.mkdir()
        for name in ("kubectl", "helm", "ringfence"):
            program = Path(sys.executable).parent / name if name == "ringfence" else programs / name
            (path / name).write_text(f'#!/bin/sh\nexec {" ".join(network_words(cluster.name))} {program} "$@"\n')
            (path / name).chmod(0o755)
        yield Desk(
            place=place,
            folder=folder,
            environment={
                **environment(cluster.name),
                "PATH": f"{path}:{os.environ['PATH']}",
                "HOME": str(folder),
                "KUBECONFIG": str(cluster.kubeconfig),
            },
        )


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Of a page: what stands under one heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_leads_from_nothing_to_the_first_refused_call(desk: Desk) -> None:
    assert desk.walk(steps_of(page("kubernetes.md"))) == []


def test_the_runbooks_that_only_look_can_be_followed(desk: Desk) -> None:
    pod = running_pod(desk.place.cluster, "web")["metadata"]["name"]
    for name in (
        "svid-not-renewed",
        "sidecar-stale",
        "revision-unacknowledged",
        "denials-spike",
        "authority-ends",
        "pods-not-injected",
        "redirect-missing",
    ):
        steps = steps_of(section(page(f"runbooks/{name}.md"), "Look"))
        assert desk.walk(steps, POD=pod, NAMESPACE="shop", SERVICE="orders") == [], name


def test_the_runbook_of_a_lost_volume_brings_the_authority_back(desk: Desk) -> None:
    place, text = desk.place, page("runbooks/lost-volume.md")
    before, root = place.secrets(), place.root()
    assert (desk.folder / "ringfence-ca.pem").is_file()  # the page said to keep it
    place.lose_volume()
    assert desk.walk([*steps_of(section(text, "Look")), *steps_of(section(text, "There is a backup"))]) == []
    assert (place.secrets(), place.root()) == (before, root)
    # Those who were there all the while trust it as before, and are trusted.
    (call,) = (step for step in steps_of(page("kubernetes.md")) if step.command[0].startswith("call() {"))
    again = Step(line=0, command=["call web GET orders:8080/orders"], output=['200 {"orders": …}'])
    assert desk.walk([call, again]) == []
