"""Policy in the words of Envoy's RBAC filter, and an Envoy that judges by many policies, one a request.

What both languages have: callers by SPIFFE ID, namespace, trust domain, any or no identity, narrowed to addresses;
ports, methods, path templates, hosts, headers, gRPC methods; denylists before allowlists. No code of the engine.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ringfence.policy.model import (
    AuthenticatedCallers,
    Callers,
    GrpcMethod,
    HeaderMatch,
    NamespaceCallers,
    NarrowedCallers,
    PolicySet,
    Rule,
    SpiffeIdPattern,
    TrustDomainCallers,
    UnauthenticatedCallers,
)
from ringfence.spiffe import SpiffeId, TrustBundle, TrustDomain
from tests.data_path import until
from tests.interop.envoy import listens, program
from tests.pki import TestCa

Config = dict[str, Any]

DENYING = "denying"
ALLOWING = "allowing"
CHOICE = "x-policy"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ANY: Config = {"any": True}
_SEGMENT = "[^/]+"


# ------------------------------------------------------------------------------------------------------ the language


def rules_of(policy: PolicySet, own: TrustDomain) -> tuple[Config, Config]:
    """The RBAC of the filter that denies, and of the one behind it that allows."""
    denying = {f"{one.name}/{rule.name}": _policy(rule, own) for one in policy.denylists for rule in one.rules}
    allowing = {f"{one.name}/{rule.name}": _policy(rule, own) for one in policy.allowlists for rule in one.rules}
    return {"action": "DENY", "policies": denying}, {"action": "ALLOW", "policies": allowing}


def _policy(rule: Rule, own: TrustDomain) -> Config:
    if rule.token is not None or rule.when:
        raise ValueError("tokens and conditions are not in the language that both have")
    parts = [
        _any_of({"destination_port": port} for port in rule.ports),
        _any_of(_header(":method", {"exact": method}) for method in rule.methods),
        _any_of([*map(_path, rule.paths), *map(_grpc, rule.grpc)]),
        _any_of(map(_host, rule.hosts)),
        *map(_header_match, rule.headers),
    ]
    held = [part for part in parts if part is not _ANY]
    return {
        "permissions": [{"and_rules": {"rules": held}} if held else _ANY],
        "principals": [_principal(callers, own) for callers in rule.callers],
    }


def _any_of(parts: Iterable[Config]) -> Config:
    found = list(parts)
    return {"or_rules": {"rules": found}} if found else _ANY


def _header(name: str, match: Config) -> Config:
    return {"header": {"name": name, "string_match": match}}


def _header_match(match: HeaderMatch) -> Config:
    if match.values:
        return _any_of(_header(match.name, {"exact": value}) for value in match.values)
    there = {"header": {"name": match.name, "present_match": True}}
    return there if match.present else {"not_rule": there}


def _path(template: str) -> Config:
    words = template[1:].split("/")
    rest = words[-1] == "**"
    segments = [
        _SEGMENT if word == "*" or word.startswith("{") else re.escape(word) for word in words[: -1 if rest else None]
    ]
    pattern = "".join(f"/{segment}" for segment in segments)
    # "/a/**" takes "/a", and "/**" everything: a path has a slash at its head in any case.
    pattern = (f"{pattern}(/.*)?" if segments else "/.*") if rest else pattern
    return {"url_path": {"path": {"safe_regex": {"regex": pattern}}}}


def _grpc(method: GrpcMethod) -> Config:
    pattern = f"/{re.escape(method.service)}/{re.escape(method.method) if method.method else _SEGMENT}"
    path: Config = {"url_path": {"path": {"safe_regex": {"regex": pattern}}}}
    return {"and_rules": {"rules": [path, _header(":method", {"exact": "POST"})]}}


def _host(host: str) -> Config:
    if host.startswith("*."):
        return _header(":authority", {"safe_regex": {"regex": f"(?i).+{re.escape(host[1:])}"}})
    return _header(":authority", {"exact": host, "ignore_case": True})


def _principal(callers: Callers, own: TrustDomain) -> Config:
    if isinstance(callers, NarrowedCallers):
        ranges = [
            {"direct_remote_ip": {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}}
            for network in map(ip_network, callers.cidrs)
        ]
        return {"and_ids": {"ids": [_principal(callers.callers, own), {"or_ids": {"ids": ranges}}]}}
    if isinstance(callers, UnauthenticatedCallers):
        return {"not_id": _named({"prefix": "spiffe://"})}  # "authenticated" alone is anybody who speaks TLS
    if isinstance(callers, AuthenticatedCallers):
        return _named({"prefix": "spiffe://"})
    if isinstance(callers, TrustDomainCallers):
        return _named({"prefix": f"spiffe://{callers.trust_domain}/"})
    if isinstance(callers, NamespaceCallers):
        return _named({"safe_regex": {"regex": f"spiffe://{re.escape(own.name)}/ns/{callers.namespace}/sa/{_SEGMENT}"}})
    assert isinstance(callers, SpiffeIdPattern)
    path = "/".join(_SEGMENT if segment == "*" else re.escape(segment) for segment in callers.segments)
    return _named({"safe_regex": {"regex": f"spiffe://{re.escape(callers.trust_domain.name)}/{path}"}})


def _named(match: Config) -> Config:
    return {"authenticated": {"principal_name": match}}


# --------------------------------------------------------------------------------------------------------- the Envoy


def configuration(policies: Sequence[PolicySet], ports: Sequence[int], own: TrustDomain) -> Config:
    """Listeners with mutual TLS on loopback ``ports``; a request says by its ``x-policy`` which policy judges it."""
    routes = []
    for number, policy in enumerate(policies):
        denying, allowing = rules_of(policy, own)
        routes.append(
            {
                "match": {"prefix": "/", "headers": [{"name": CHOICE, "string_match": {"exact": str(number)}}]},
                "direct_response": {"status": 200},
                "typed_per_filter_config": {DENYING: _for_route(denying), ALLOWING: _for_route(allowing)},
            }
        )
    return {"static_resources": {"listeners": [_listener(port, routes) for port in ports]}}


def _for_route(rules: Config) -> Config:
    return {"@type": f"{_HTTP}.rbac.v3.RBACPerRoute", "rbac": {"rules": rules}}


def _listener(port: int, routes: list[Config]) -> Config:
    nothing = {"@type": f"{_HTTP}.rbac.v3.RBAC"}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "max_request_headers_kb": 60,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": DENYING, "typed_config": nothing},
            {"name": ALLOWING, "typed_config": nothing},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}},
        ],
    }
    tls = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": False,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {"certificate_chain": {"filename": "envoy.pem"}, "private_key": {"filename": "envoy.key"}}
            ],
            "validation_context": {"trusted_ca": {"filename": "roots.pem"}},
        },
    }
    return {
        "name": f"port-{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            }
        ],
    }


@contextlib.asynccontextmanager
async def judging(
    folder: Path, policies: Sequence[PolicySet], ports: Sequence[int], authorities: Sequence[TestCa]
) -> AsyncIterator[None]:
    """An Envoy with ``configuration``, which believes ``authorities``, the first of them the mesh's own."""
    own = authorities[0]
    _write_pair(folder, "envoy", own, SpiffeId.parse(f"spiffe://{own.trust_domain}/ns/test/sa/envoy"))
    (folder / "roots.pem").write_bytes(b"".join(one.bundle().to_pem() for one in authorities))
    (folder / "envoy.json").write_text(json.dumps(configuration(policies, ports, own.trust_domain)))
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - not by the loop: uvloop forks for it
            (str(program()), "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c", "envoy.json"),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:

        def listening() -> bool:
            assert process.poll() is None, (folder / "envoy.log").read_text()[-4000:]
            return all(map(listens, ports))

        await until(listening, 60)
        yield
    finally:
        process.kill()
        process.wait()


def _write_pair(folder: Path, name: str, authority: TestCa, spiffe_id: SpiffeId) -> None:
    svid = authority.svid(spiffe_id)
    (folder / f"{name}.pem").write_bytes(TrustBundle(authority.trust_domain, svid.chain).to_pem())
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(key)
    (folder / f"{name}.key").chmod(0o600)


# -------------------------------------------------------------------------------------------------------- the callers


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent: ``policy`` is the number of the one that judges; ``lines``: further header lines."""

    policy: int
    method: str
    target: str
    host: str
    lines: tuple[tuple[str, str], ...] = ()

    def bytes(self) -> bytes:
        head = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.host}", f"{CHOICE}: {self.policy}"]
        head += [f"{name}: {value}" for name, value in self.lines]
        length = [] if self.method in ("GET", "HEAD") else ["content-length: 0"]
        return "\r\n".join([*head, *length, "", ""]).encode("ascii")


class Client:
    """One connection of one caller from one address to one port."""

    def __init__(self, folder: Path, authority: TestCa, caller: SpiffeId | None, address: str, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # who answers is not what is asked here
        if caller is not None:
            name = f"caller-{abs(hash(caller))}"
            _write_pair(folder, name, authority, caller)
            context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        plain = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0))
        self._socket = context.wrap_socket(plain)
        self._reader = self._socket.makefile("rb")

    def ask(self, requests: Sequence[Request]) -> list[bool]:
        """Whether Envoy permitted each of them."""
        found: list[bool] = []
        for request in requests:
            self._socket.sendall(request.bytes())
            found.append(self._answer(request))
        return found

    def _answer(self, request: Request) -> bool:
        status = self._reader.readline().split(b" ")
        length = 0
        while (line := self._reader.readline()) != b"\r\n":
            assert line, f"Envoy closed the connection after {request}"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self._reader.read(length) if request.method != "HEAD" else b""
        assert status[1] in (b"200", b"403"), (status, body, request)
        return status[1] == b"200"

    def close(self) -> None:
        self._reader.close()
        self._socket.close()
