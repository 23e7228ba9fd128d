"""What an installation does once: a passphrase, the record of the root. An API server of TLS and JSON stands in."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from k8s.commands import k8s
from k8s.install.api import ApiError, ApiServer, ask

PLACE = "/api/v1/namespaces/ringfence-system"


@dataclass(kw_only=True)
class Cluster:
    """What the stand-in holds, how it is found, and what goes wrong with it."""

    server: ApiServer
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    answer: bytes | None = None


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def cluster(tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "namespace").write_text("ringfence-system")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = held.answer if held.answer is not None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            held.tokens.add(self.headers["Authorization"])
            path = f"{self.path}/{body['metadata']['name']}"
            if held.failures:
                self.answer(held.failures.pop(0), {"message": "not you"})
            elif path in held.objects:
                self.answer(409, {"message": "it exists"})
            else:
                held.objects[path] = body
                self.answer(201, body)

        def do_GET(self) -> None:
            found = held.objects.get(self.path)
            self.answer(200 if found else 404, found or {"message": "not found"})

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    held = Cluster(server=ApiServer(host="127.0.0.1", port=listener.server_address[1], folder=tmp_path))
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(ApiServer, "of_pod", classmethod(lambda cls: held.server))
    monkeypatch.setattr("k8s.install.commands.time.sleep", lambda seconds: None)
    yield held
    listener.shutdown()
    listener.server_close()
    thread.join()


def run(*words: str) -> Result:
    return CliRunner().invoke(k8s, list(words), prog_name="ringfence k8s")


def passphrase(cluster: Cluster) -> str:
    return str(cluster.objects[f"{PLACE}/secrets/pass"]["stringData"]["passphrase"])


def test_a_passphrase_is_made_once(cluster: Cluster) -> None:
    assert run("ensure-passphrase", "--secret", "pass").stdout == "secret pass created\n"
    first = passphrase(cluster)
    assert len(first) >= 32
    assert run("ensure-passphrase", "--secret", "pass").stdout == "secret pass was there\n"
    assert passphrase(cluster) == first
    assert cluster.tokens == {"Bearer a-token"}


def test_a_passphrase_is_never_told(cluster: Cluster) -> None:
    result = run("ensure-passphrase", "--secret", "pass", "--json")
    assert json.loads(result.stdout) == {"created": True}
    assert passphrase(cluster) not in result.output


def test_an_api_server_that_is_away_is_waited_for(cluster: Cluster) -> None:
    cluster.failures = [503, 500, 429]
    assert run("ensure-passphrase", "--secret", "pass").exit_code == 0


def test_an_account_that_may_not_is_told_where_to_look(cluster: Cluster) -> None:
    cluster.failures = [403]
    result = run("ensure-passphrase", "--secret", "pass")
    assert result.exit_code == 1
    assert "secret pass: the API server says 403: not you (see the chart's Role" in result.stderr


def test_the_root_is_on_record_once(cluster: Cluster, tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    words = ("remember-root", "--data", str(tmp_path), "--config-map", "root")
    assert run(*words).stdout == "config map root created\n"
    assert run(*words).stdout == "config map root was there\n"
    held = cluster.objects[f"{PLACE}/configmaps/root"]["data"]["root.pem"]
    assert held == authority.cert_pem.bytes().decode()


def test_another_root_is_not_written_over_the_record(cluster: Cluster, tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    words = ("remember-root", "--data", str(tmp_path), "--config-map", "root")
    run(*words)
    before = json.dumps(cluster.objects)
    trustme.CA().cert_pem.write_to_path(tmp_path / "root.pem")
    result = run(*words)
    assert result.exit_code == 1
    assert "has another root on record" in result.stderr
    assert json.dumps(cluster.objects) == before


def test_a_record_without_a_root_is_another(cluster: Cluster, tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    cluster.objects[f"{PLACE}/configmaps/root"] = {"data": None}
    assert run("remember-root", "--data", str(tmp_path), "--config-map", "root").exit_code == 1


def test_without_an_authority_there_is_nothing_to_remember(cluster: Cluster, tmp_path: Path) -> None:
    result = run("remember-root", "--data", str(tmp_path / "none"), "--config-map", "root")
    assert result.exit_code == 2
    assert "ringfence ca init" in result.stderr
    assert cluster.objects == {}


def test_a_server_of_another_authority_is_not_told_the_token(cluster: Cluster, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    result = run("ensure-passphrase", "--secret", "pass")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    assert cluster.tokens == set()


def test_an_answer_without_end_is_not_read_to_its_end(cluster: Cluster) -> None:
    cluster.answer = b" " * ((4 << 20) + 1)
    with pytest.raises(ApiError, match="more than 4194304 bytes"):
        ask(cluster.server, "GET", "/", None, lambda seconds: None)


def test_garbage_is_an_empty_object(cluster: Cluster) -> None:
    cluster.answer = b"[1]"
    assert ask(cluster.server, "GET", "/", None, lambda seconds: None).body == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "x"},
    ],
)
def test_outside_of_a_pod_it_says_so(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(ApiError, match="no pod with a service account token"):
        ApiServer.of_pod(environ, tmp_path)


def test_a_pod_is_told_where_the_api_server_is(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert ApiServer.of_pod(environ, tmp_path) == ApiServer(host="10.96.0.1", port=443, folder=tmp_path)
    with pytest.raises(ApiError, match="no pod"):
        ApiServer.of_pod(environ, tmp_path / "none")
