"""Tokens in a whole mesh: a real issuer over TLS, the control plane that fetches its keys, sidecars that verify."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.issuers import LocalIssuer, local_issuer
from tests.jwts import Signer, by_shared_secret, ec_key, key_set, public, rsa_key, unsigned
from tests.ports import free_port
from tests.processes import Command, Marked, ringfence

APP = """
import http.server, json, os

class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""

MESH = """
apiVersion: ringfence.io/v1alpha1
kind: Mesh
metadata: {{name: small}}
spec:
  trustDomain: small.example
  controlPlane: {{join: "127.0.0.1:{join}", listen: "127.0.0.1:{listen}", signals: "127.0.0.1:{signals}"}}
  tokenIssuers: {{allowedHosts: [localhost], privateNetworks: [127.0.0.0/8], caFile: issuer-ca.pem, refresh: 1s}}
  services:
    - name: api
      namespace: small
      mesh: {mesh}
      ports:
        - {{port: 8080, protocol: http, app: {app}}}
      upstreams:
        - {{service: api, port: 8080, listen: "127.0.0.1:{upstream}"}}
      run: {{command: [python3, app.py], env: {{PORT: "{app}"}}}}
"""

POLICY = """
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {{name: api, namespace: small}}
spec:
  service: api
  rules:
    - name: open
      from: [api]
      to: {{paths: [/open]}}
    - name: read
      from: [api]
      to: {{paths: [/orders]}}
      token: {{issuers: [login], scopes: [read]}}
    - name: pay
      from: [api]
      to: {{paths: [/money]}}
      token: {{issuers: [login], acr: [gold, silver], maxAge: 5m}}
    - name: opaque
      from: [api]
      to: {{paths: [/session]}}
      token: {{issuers: [opaque]}}
---
apiVersion: ringfence.io/v1alpha1
kind: TokenIssuer
metadata: {{name: login, namespace: small}}
spec:
  issuer: https://login.example/
  audiences: [orders]
  jwks: {{url: "{keys}"}}
  claimHeaders: {{x-user: sub, x-roles: realm.roles}}
---
apiVersion: ringfence.io/v1alpha1
kind: TokenIssuer
metadata: {{name: opaque, namespace: small}}
spec:
  issuer: https://opaque.example/
  audiences: [orders]
  header: x-session
  introspection: {{url: "{introspection}", clientId: api, secretFile: secret, cache: 1s}}
"""

Answer = tuple[int, str, dict[str, str]]


@dataclass
class TokenMesh:
    """A mesh of one service that calls itself, and its issuer."""

    folder: Path
    ports: dict[str, int]
    issuer: LocalIssuer
    command: Command

    async def ask(self, path: str, token: str = "", *headers: str) -> Answer:
        """Status, reason and challenge (or what the app was told)."""
        lines = [f"GET {path} HTTP/1.1", "host: api", "connection: close", *headers]
        if token:
            lines.append(f"authorization: Bearer {token}")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports["upstream"])
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        writer.close()
        status, *fields = head.decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        told: dict[str, Any] = json.loads(body) if body else {}
        code = int(status.split()[1])
        return (
            code,
            told.get("reason", ""),
            {"challenge": found.get("www-authenticate", "")} | (told if code == 200 else {}),
        )

    async def until(self, path: str, token: str, status: int) -> Answer:
        """Asked again until it has this status."""
        deadline = time.monotonic() + 60
        while (found := await self.ask(path, token))[0] != status:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return found


BY = Signer(key=ec_key())


def token(signer: Signer = BY, header: dict[str, object] | None = None, **claims: object) -> str:
    return signer.token(header, **{"exp": time.time() + 300, "scope": "read", **claims})


@asynccontextmanager
async def running(folder: Path, issuer: LocalIssuer) -> AsyncIterator[TokenMesh]:
    names = ("join", "listen", "signals", "mesh", "app", "upstream")
    ports = {name: free_port() for name in names}
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "api.yaml").write_text(POLICY.format(keys=issuer.url, introspection=issuer.introspection_url))
    (policies / "secret").write_text("s3cret\n")
    (policies / "secret").chmod(0o600)
    (folder / "app.py").write_text(APP)
    (folder / "mesh.yaml").write_text(MESH.format(**ports))
    marked = Marked(XDG_CONFIG_HOME=str(folder / "config"), SSL_CERT_FILE=str(issuer.ca_file))
    started = ringfence(marked, "up", "-f", "mesh.yaml", "--state", "s", "--json", folder=folder)
    command = started.__enter__()
    try:
        await asyncio.to_thread(command.wait_for_stdout, "\n")
        yield TokenMesh(folder, ports, issuer, command)
    finally:
        await asyncio.to_thread(started.__exit__, None, None, None)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[TokenMesh]:
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(ec_key(), rsa_key())
        async with running(tmp_path, issuer) as made:
            await made.until("/orders", token(), 200)
            yield made


async def test_the_right_token_passes_and_its_neighbours_are_refused(mesh: TokenMesh) -> None:
    assert (await mesh.ask("/open"))[0] == 200
    assert (await mesh.ask("/orders", token()))[0] == 200
    assert (await mesh.ask("/orders", token(Signer(key=rsa_key(), algorithm="RS256"))))[0] == 200
    assert await mesh.ask("/orders") == (401, "token_missing", {"challenge": "Bearer"})
    now = time.time()
    refused = {
        "alg none": unsigned(exp=now + 300, scope="read"),
        "HS256 with the public key": by_shared_secret(
            rsa_key().as_pem(private=False), "rsa-1", exp=now + 300, scope="read"
        ),
        "wrong audience": token(aud="payments"),
        "another issuer": token(iss="https://evil.example/"),
        "expired": token(exp=now - 60),
        "not valid yet": token(nbf=now + 60),
        "unknown kid": token(Signer(key=ec_key("stranger"))),
        "a stranger's key": token(Signer(key=ec_key("stranger")), {"kid": "ec-1"}),
        "huge": token(filler="x" * 9000),
        "no token in form": "a b",
        "bound to another client": token(cnf={"x5t#S256": "A" * 43}),
    }
    invalid = {"challenge": 'Bearer error="invalid_token"'}
    for what, forged in refused.items():
        assert await mesh.ask("/orders", forged) == (401, "token_invalid", invalid), what
    assert await mesh.ask("/orders", token(scope="write")) == (
        403,
        "token_insufficient",
        {"challenge": 'Bearer error="insufficient_scope"'},
    )
    for forged in refused.values():
        assert forged[:60] not in mesh.command.stderr


async def test_the_app_is_told_claims_of_verified_tokens_and_never_what_a_caller_claims(mesh: TokenMesh) -> None:
    forged = ("x-user: mallory", "X_User: mallory", "x.roles: admin", "X-ROLES: admin", "x-users: kept")
    for path in ("/orders", "/open"):
        status, _, told = await mesh.ask(path, token(sub="alice", realm={"roles": ["a", "b"]}), *forged)
        assert status == 200
        assert {name: value for name, value in told.items() if "user" in name or "role" in name} == {
            "x-user": "alice",
            "x-roles": "a,b",
            "x-users": "kept",
        }
    for without in ("", token(aud="payments"), token(exp=time.time() - 60), token(sub="a\r\nx-admin: 1")):
        status, _, told = await mesh.ask("/open", without, *forged)
        assert status == 200
        assert not [name for name in told if name.startswith(("x-user", "x_user", "x-role", "x.role", "x-admin"))][1:]
        assert told["x-users"] == "kept"
        assert "x-user" not in told


async def test_step_up_is_told_as_rfc_9470_says(mesh: TokenMesh) -> None:
    now = time.time()
    told = {"challenge": 'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="300"'}
    assert await mesh.ask("/money", token()) == (401, "step_up_required", told)
    assert await mesh.ask("/money", token(acr="gold", auth_time=now - 3600)) == (401, "step_up_required", told)
    assert (await mesh.ask("/money", token(acr="gold", auth_time=now - 10)))[0] == 200


async def test_new_keys_are_picked_up_and_old_ones_let_go(mesh: TokenMesh) -> None:
    new = Signer(key=ec_key("ec-2"))
    assert (await mesh.ask("/orders", token(new)))[0] == 401
    mesh.issuer.keys = key_set(ec_key(), ec_key("ec-2"))
    await mesh.until("/orders", token(new), 200)
    assert (await mesh.ask("/orders", token()))[0] == 200
    mesh.issuer.keys = key_set(ec_key("ec-2"))
    await mesh.until("/orders", token(), 401)
    assert (await mesh.ask("/orders", token(new)))[0] == 200


async def test_keys_stay_while_the_issuer_is_away_or_says_what_is_no_key_set(mesh: TokenMesh) -> None:
    async def asked_again() -> None:
        before = len(mesh.issuer.asked)
        deadline = time.monotonic() + 60
        while len(mesh.issuer.asked) < before + 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def gone(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async def away(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"location": "http://169.254.169.254/latest/meta-data/"})

    for answer in (gone, away):
        mesh.issuer.answer = answer
        await asked_again()
        assert (await mesh.ask("/orders", token()))[0] == 200
    mesh.issuer.answer = None
    ten_thousand = key_set(*[public(ec_key(), kid=str(at)) for at in range(10_000)])
    for keys in (ten_thousand, '{"keys": []}', key_set(ec_key().as_dict(private=True)), "<html>"):
        mesh.issuer.keys = keys
        await asked_again()
        assert (await mesh.ask("/orders", token()))[0] == 200
    assert "redirect" in mesh.command.stderr


async def test_an_issuer_that_never_answered_has_no_keys_until_it_does(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:

        async def gone(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        issuer.answer = gone
        async with running(tmp_path, issuer) as mesh:
            assert (await mesh.ask("/open"))[0] == 200
            assert (await mesh.ask("/orders", token()))[1] == "token_invalid"
            issuer.keys, issuer.answer = key_set(ec_key()), None
            await mesh.until("/orders", token(), 200)


async def test_keys_outlive_a_restart_of_all_while_the_issuer_is_away(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        issuer.keys = key_set(ec_key())
        async with running(tmp_path, issuer) as mesh:
            await mesh.until("/orders", token(), 200)

        async def gone(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        issuer.answer = gone
        async with running(tmp_path, issuer) as mesh:
            await mesh.until("/orders", token(), 200)


async def test_opaque_tokens_are_asked_about(mesh: TokenMesh) -> None:
    active = {"good"}

    async def introspect(form: dict[str, str]) -> web.StreamResponse:
        return web.json_response({"active": form["token"] in active, "aud": "orders"})

    mesh.issuer.introspect = introspect
    assert (await mesh.ask("/session", "", "x-session: good"))[0] == 200
    assert (await mesh.ask("/session", "", "x-session: bad"))[1] == "token_invalid"
    assert (await mesh.ask("/session"))[1] == "token_missing"
    assert mesh.issuer.authorizations[0] == "Basic YXBpOnMzY3JldA=="
    active.clear()
    deadline = time.monotonic() + 30
    while (await mesh.ask("/session", "", "x-session: good"))[0] == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert "s3cret" not in mesh.command.stderr
    with suppress(FileNotFoundError):
        assert "s3cret" not in (mesh.folder / "s" / "token-issuers.json").read_text()
