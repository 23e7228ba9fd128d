"""The cluster that the tests of this folder share, and what each may ask of it.

A machine that cannot carry one fails these tests where `CI` is set, and skips them, loudly, elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build, product_image
from tests.cluster.cluster import Cluster, Settings, running
from tests.cluster.mesh import Mesh, deploy_shop, install
from tests.cluster.traces import PREFIX

_NEEDED = ("go", "runc", "iptables", "ip", "buildah", "debootstrap", "nsenter", "unshare")


def _lacking() -> str:
    """Why no cluster can run here; empty when one can."""
    if os.geteuid() != 0:
        return "only root can make a cluster's namespaces"
    missing = [name for name in _NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    return f"not on this machine: {', '.join(missing)}" if missing else ""


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of Kubernetes' programs."""
    if why := _lacking():
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return build.ensure()


@pytest.fixture(scope="session")
def image(programs: Path) -> Path:
    """An archive of the product's image, of this checkout."""
    return product_image.archive()


@pytest.fixture(scope="session")
def cluster(programs: Path, image: Path) -> Iterator[Cluster]:
    """A cluster of one node that has the product's image, for all tests that leave it as it was."""
    with running(Settings(programs=programs, images=(image,))) as made:
        yield made


@pytest.fixture(scope="session")
def meshed(programs: Path, image: Path) -> Iterator[Mesh]:
    """A cluster in which the chart is installed, and the shop deployed into a namespace with the label.

    ``TEST_CLUSTER=NAME`` takes one that is there (`python -m tests.cluster up`, then whatever its owner did to it).
    """
    if name := os.environ.get("TEST_CLUSTER"):
        yield Mesh(cluster=Cluster(Settings(programs=programs, name=f"{PREFIX}{name}")), complaints="")
        return
    with running(Settings(programs=programs, images=(image,))) as made:
        complaints = install(made)
        deploy_shop(made)
        yield Mesh(cluster=made, complaints=complaints)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test; it is gone some time after it."""
    name = request.node.name.removeprefix("test_").replace("_", "-").split("[")[0][:60].strip("-")
    cluster.make_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a cluster; making one takes longer than a test may elsewhere."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))
