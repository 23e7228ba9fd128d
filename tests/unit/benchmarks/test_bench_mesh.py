from __future__ import annotations

import itertools
import json

import pytest

from benchmarks import http1
from benchmarks.envoy_config import CLIENT_ID, client_side, server_side
from benchmarks.mesh import Wanted
from benchmarks.mesh_documents import FORBIDDEN_PORT, TCP_PORT, TRUST_DOMAIN, mesh_document
from controlplane.mesh.document import read_mesh
from ringfence.policy.documents import read_documents

HTTP = Wanted(protocol="http", backend_port=9100, path_templates=http1.PATH_TEMPLATES)
TCP = Wanted(protocol="tcp", backend_port=9101, suffix="-opaque", access_log="all")


def test_the_mesh_that_is_measured_is_one_that_the_control_plane_takes() -> None:
    ports = itertools.count(15001)
    services = [*HTTP.services(ports), *TCP.services(ports)]

    read, problems = read_mesh(json.dumps(mesh_document(services, 14001, 14002, 14003)), "mesh.yaml")

    assert [str(problem) for problem in problems] == []
    assert read is not None
    identities = {str(service.spiffe_id) for service in read.mesh.services}
    assert identities == {service.spiffe_id for service in services}
    assert all(TRUST_DOMAIN in identity for identity in identities)


MANY = Wanted(protocol="http", backend_port=9100, path_templates=http1.PATH_TEMPLATES, rule_count=2500)


@pytest.mark.parametrize(("wanted", "files"), [(HTTP, 1), (TCP, 1), (MANY, 3)])
def test_the_policy_that_is_measured_is_one_that_is_enforced(wanted: Wanted, files: int) -> None:
    policies = wanted.policies()

    read = [read_documents(json.dumps(document), f"{name}.yaml") for name, document in policies.items()]

    assert [str(problem) for _, problems in read for problem in problems] == []
    assert [len(documents) for documents, _ in read] == [1] * files


def test_of_the_opaque_ports_the_policy_names_the_first_only() -> None:
    api, client = TCP.services(itertools.count(15001))
    text = json.dumps(TCP.policies())

    assert [port.port for port in api.ports] == [TCP_PORT, FORBIDDEN_PORT]
    assert [upstream.port for upstream in client.upstreams] == [TCP_PORT, FORBIDDEN_PORT]
    assert str(TCP_PORT) in text
    assert str(FORBIDDEN_PORT) not in text


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_envoy_requires_an_identity_on_both_sides_and_judges_the_caller(protocol: str) -> None:
    server, client = json.dumps(server_side(protocol, 1, 2)), json.dumps(client_side(protocol, 3, 1))

    assert '"require_client_certificate": true' in server
    assert "rbac" in server
    assert CLIENT_ID in server
    assert "match_typed_subject_alt_names" in client
    assert "access_log" not in server + client
    assert ("tcp_proxy" in server) is (protocol == "tcp")


def test_envoy_writes_a_line_for_each_opaque_connection_where_our_sidecars_do() -> None:
    for configuration in (server_side("tcp", 1, 2, logged=True), client_side("tcp", 3, 1, logged=True)):
        assert '"access_log": [{' in json.dumps(configuration)
