"""The example mesh as values, for tests of what is made from it."""

from __future__ import annotations

from pathlib import Path

from controlplane.mesh.document import read_mesh
from controlplane.up.children import MeshLaunch
from controlplane.up.places import Places
from ringfence.mesh import Mesh

SHOP = Path(__file__).parents[1] / "examples" / "shop"


def example_mesh() -> Mesh:
    document, problems = read_mesh((SHOP / "mesh.yaml").read_bytes(), "mesh.yaml")
    assert document is not None, problems
    return document.mesh


def example_launch(**environment: str) -> MeshLaunch:
    places = Places(state=Path("/state"), passphrase_file=Path("/elsewhere/passphrase"))
    return MeshLaunch(mesh=example_mesh(), mesh_file=SHOP / "mesh.yaml", places=places, environment=environment)
