from __future__ import annotations

import json

from benchmarks import http1
from benchmarks.mesh import TRUST_DOMAIN, Service, allowlist, mesh_document
from controlplane.mesh.document import read_mesh
from ringfence.policy.documents import read_documents


def test_the_mesh_that_is_measured_is_one_that_the_control_plane_takes() -> None:
    api = Service(name="api", mesh_port=15001, signals_port=15002, access_log="denied", app_port=9000)
    client = Service(
        name="client", mesh_port=15003, signals_port=15004, access_log="all", upstream="api", listen_port=15005
    )

    read, problems = read_mesh(json.dumps(mesh_document([api, client], 15006, 15007, 15008)), "mesh.yaml")

    assert [str(problem) for problem in problems] == []
    assert read is not None
    identities = {str(service.spiffe_id) for service in read.mesh.services}
    assert identities == {api.spiffe_id, client.spiffe_id}
    assert TRUST_DOMAIN in api.spiffe_id


def test_the_policy_that_is_measured_is_one_that_is_enforced() -> None:
    document = allowlist("api", "client", http1.PATH_TEMPLATES)

    documents, problems = read_documents(json.dumps(document), "api.yaml")

    assert [str(problem) for problem in problems] == []
    assert len(documents) == 1
