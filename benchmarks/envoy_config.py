"""Envoy's configuration for a chain: two Envoys with mutual TLS 1.3 between them, duties as near to ours as can be.

The server side requires a client certificate of the root and permits by one RBAC rule. For HTTP that is the caller's
exact SPIFFE ID and the method; what a client sends as ``x-forwarded-client-cert`` is taken out and the caller's ID put
in; the path templates that our side judges are spared it. For opaque TCP the rule is the caller's exact SPIFFE ID. The
client side requires the server's exact SPIFFE ID. Statistics on; no access log
unless ``logged``, for opaque TCP: then a line of JSON for each connection that ends, with what ours says of it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

Config = dict[str, object]

CLIENT_ID = "spiffe://bench.example/ns/default/sa/client"
SERVER_ID = "spiffe://bench.example/ns/default/sa/api"
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def server_side(
    protocol: str,
    port: int,
    backend_port: int,
    admin_port: int | None = None,
    rule_count: int = 1,
    *,
    logged: bool = False,
) -> Config:
    """Terminates mutual TLS on ``port``, judges, and passes on. ``protocol``: ``http``, ``http2`` or ``tcp``.

    ``rule_count``: RBAC policies of HTTP, each but the last for a path prefix of its own.
    """
    tls: Config = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _identity("api"),
    }
    filters = [_network_rbac(), _tcp_proxy("in", logged=logged)] if protocol == "tcp" else _http_server(rule_count)
    if protocol == "http2":
        tls["common_tls_context"] = _identity("api") | {"alpn_protocols": ["h2"]}
    cluster = _cluster(backend_port, http2=protocol == "http2")
    return _bootstrap(_listener(port, filters, tls), cluster, admin_port)


def client_side(
    protocol: str, port: int, server_port: int, admin_port: int | None = None, *, logged: bool = False
) -> Config:
    """Listens in plaintext on ``port`` and originates mutual TLS to the server side."""
    tls: Config = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "common_tls_context": _identity("client", expected=SERVER_ID),
    }
    filters = [_tcp_proxy("out", logged=logged)] if protocol == "tcp" else [_connection_manager("out", [])]
    cluster = _cluster(server_port, tls, http2=protocol == "http2")
    return _bootstrap(_listener(port, filters), cluster, admin_port)


def _http_server(rule_count: int) -> list[Config]:
    rbac: Config = {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_FILTERS}.http.rbac.v3.RBAC",
            "rules": _rules({"header": {"name": ":method", "string_match": {"exact": "GET"}}}, rule_count - 1),
        },
    }
    identity: Config = {"forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"uri": True}}
    return [_connection_manager("in", [rbac], identity)]


def _rules(permission: Config, others: int = 0) -> Config:
    """``permission`` for the client, behind so many ``others`` in the order of names, in which Envoy looks at them."""
    caller = {"authenticated": {"principal_name": {"exact": CLIENT_ID}}}
    policies: Config = {}
    for number in range(others):
        path: Config = {"url_path": {"path": {"prefix": f"/others/{number}/"}}}
        both: Config = {"and_rules": {"rules": [permission, path]}}
        policies[f"other-{number:05}"] = {"permissions": [both], "principals": [caller]}
    return {"action": "ALLOW", "policies": policies | {"reads": {"permissions": [permission], "principals": [caller]}}}


def _network_rbac() -> Config:
    return {
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": f"{_FILTERS}.network.rbac.v3.RBAC",
            "stat_prefix": "in",
            "rules": _rules({"any": True}),
        },
    }


def _tcp_proxy(prefix: str, *, logged: bool) -> Config:
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": prefix,
            "cluster": "next",
            **({"access_log": [_access_log(prefix)]} if logged else {}),
        },
    }


def _access_log(direction: str) -> Config:
    identity = "DOWNSTREAM" if direction == "in" else "UPSTREAM"
    fields = {
        "ts": "%START_TIME%",
        "direction": direction,
        "peer": f"%{identity}_PEER_URI_SAN%",
        "service": "%UPSTREAM_CLUSTER%",
        "port": "%DOWNSTREAM_LOCAL_PORT%",
        "reason": "%RESPONSE_FLAGS%",
        "bytes_from_app": "%BYTES_RECEIVED%",
        "bytes_to_app": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
    }
    return {
        "name": "envoy.access_loggers.stderr",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
            "log_format": {"json_format": fields},
        },
    }


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


def _connection_manager(prefix: str, filters: list[Config], more: Config | None = None) -> Config:
    router: Config = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
    }
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "next"}}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": prefix,
            "http_filters": [*filters, router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]},
            **(more or {}),
        },
    }


def _listener(port: int, filters: Sequence[Config], tls: Config | None = None) -> Config:
    chain: Config = {"filters": list(filters)}
    if tls:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {"name": "in", "address": _address(port), "filter_chains": [chain]}


def _cluster(port: int, tls: Config | None = None, *, http2: bool = False) -> Config:
    endpoint = {"endpoint": {"address": _address(port)}}
    cluster: Config = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if tls:
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return cluster


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(listener: Config, cluster: Config, admin_port: int | None) -> Config:
    found: Config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    return found | ({"admin": {"address": _address(admin_port)}} if admin_port else {})
