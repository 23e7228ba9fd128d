"""The control plane as a process: what it starts with, what it refuses to start with, how it is changed and stopped."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

import ca
from controlplane.operate.admin_client import get_document
from ringfence.spiffe import SpiffeId, TrustDomain, X509Svid, control_plane_dns_name
from ringfence.wire.gen import control_pb2, control_pb2_grpc, issuing_pb2, issuing_pb2_grpc
from tests.mesh_files import allowlist_text, mesh_text
from tests.pki import new_key
from tests.planes import DOMAIN, PASSPHRASE, RINGFENCE, Plane, new_authority, until
from tests.ports import free_port

WEB = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/web")
ORDERS = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/orders")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a CA that nobody has opened yet."""
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plane(tmp_path: Path, authority: Path) -> Iterator[Plane]:
    made = Plane(tmp_path, authority)
    try:
        yield made
    finally:
        made.close()


def ask(admin_socket: Path, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    """A request over the admin socket."""
    connection = http.client.HTTPConnection("controlplane", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(admin_socket))
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request(method, path, body=None if body is None else text.encode())
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()}


def fetch(address: str, path: str) -> tuple[int, str]:
    """A request over the signals port."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def channel(address: str, roots: bytes, svid: X509Svid | None = None) -> grpc.Channel:
    shown = (svid.private_key_pem(), svid.chain_pem()) if svid is not None else ()
    credentials = grpc.ssl_channel_credentials(roots, *shown)
    return grpc.secure_channel(
        address, credentials, options=[("grpc.ssl_target_name_override", control_plane_dns_name(DOMAIN))]
    )


def join(plane: Plane, ready: dict[str, Any], spiffe_id: SpiffeId) -> X509Svid:
    """A first SVID for a join token, both through the running process."""
    status, minted = ask(plane.admin_socket, "POST", "/join-tokens", {"spiffe_id": str(spiffe_id), "ttl_seconds": 60})
    assert (status, minted["spiffe_id"], minted["in_mesh"]) == (201, str(spiffe_id), True)
    key = new_key()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    roots = get_document(plane.admin_socket, "/bundle")["roots_pem"].encode()
    with channel(ready["join"], roots) as opened:
        answer = issuing_pb2_grpc.JoiningStub(opened).Join(
            issuing_pb2.JoinRequest(token=minted["token"], csr=csr.public_bytes(Encoding.DER)), timeout=10
        )
    return X509Svid.from_chain(tuple(answer.chain), key)


class Subscription:
    """A sidecar's stream, blocking."""

    def __init__(self, plane: Plane, ready: dict[str, Any], svid: X509Svid, instance: str = "a") -> None:
        roots = get_document(plane.admin_socket, "/bundle")["roots_pem"].encode()
        self._channel = channel(ready["listen"], roots, svid)
        self._reports: list[control_pb2.SidecarReport] = []
        self._outbox: queue.SimpleQueue[control_pb2.SidecarReport | None] = queue.SimpleQueue()
        self._outbox.put(control_pb2.SidecarReport(hello=control_pb2.Hello(version="0.1.0", process=instance)))
        self._call = control_pb2_grpc.ControlStub(self._channel).Subscribe(iter(self._outbox.get, None), timeout=60)

    def snapshot(self) -> control_pb2.Snapshot:
        return next(self._call)

    def ack(self, revision: int) -> None:
        answer = control_pb2.Acknowledgement(revision=revision, accepted=True, enforced_revision=revision)
        self._outbox.put(control_pb2.SidecarReport(ack=answer))

    def ending(self) -> grpc.StatusCode:
        try:
            next(self._call)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined, no-any-return]
        raise AssertionError("the stream goes on")

    def close(self) -> None:
        self._outbox.put(None)
        self._call.cancel()
        self._channel.close()


def test_workload_joins_subscribes_and_follows_changes_of_the_files(plane: Plane) -> None:
    plane.init_authority()
    plane.files.allow("orders", "web")
    ready = plane.start()
    svid = join(plane, ready, ORDERS)
    assert svid.spiffe_id == ORDERS
    stream = Subscription(plane, ready, svid)
    first = stream.snapshot()
    assert [rule.name for rule in first.allowlists[0].rules] == ["from-web"]
    stream.ack(first.revision)
    until(lambda: plane.workload("orders")["sidecars"][0]["standing"] == "current")

    plane.files.allow("orders", "web", "batch")
    second = stream.snapshot()
    assert [rule.name for rule in second.allowlists[0].rules] == ["from-web", "from-batch"]
    assert (second.revision, plane.workload("orders")["revision"], plane.workload("web")["revision"]) == (2, 2, 1)
    stream.ack(2)
    until(lambda: plane.workload("orders")["sidecars"][0]["enforced_revision"] == 2)
    sidecar = plane.workload("orders")["sidecars"][0]
    assert sidecar["identity"] == {"serial": svid.serial, "not_after": svid.not_after}

    file = plane.files.policies / "orders.yaml"
    good = file.read_text()
    file.write_text(good.replace("methods: [GET]", "methods: [get]"))
    refused = until(lambda: plane.status()["configuration"]["refused"])
    assert [problem["text"].split(" (")[0] for problem in refused["problems"]] == [
        "policies/orders.yaml:9:22: method 'get' is not known",
        "policies/orders.yaml:12:22: method 'get' is not known",
    ]
    assert plane.status()["revision"] == 2
    until(lambda: plane.logged("change refused, the older configuration stays in force"))
    assert "ringfence_controlplane_change_refused 1.0" in fetch(ready["signals"], "/metrics")[1]

    plane.files.allow("orders", "web")
    assert stream.snapshot().revision == 3
    assert plane.status()["configuration"]["refused"] is None
    assert len(plane.logged("change refused, the older configuration stays in force")) == 1
    assert plane.stop() == 0
    assert stream.ending() is grpc.StatusCode.UNAVAILABLE
    stream.close()


def test_signals_tell_health_and_nothing_else(plane: Plane) -> None:
    plane.init_authority()
    ready = plane.start()
    assert fetch(ready["signals"], "/healthz") == (200, "ok\n")
    assert fetch(ready["signals"], "/readyz") == (200, "ready\n")
    text = fetch(ready["signals"], "/metrics")[1]
    assert "ringfence_controlplane_revision 1.0" in text
    assert 'ringfence_controlplane_sidecars{standing="current"} 0.0' in text
    assert "spiffe://" not in text
    for path in ("/status", "/bundle", "/join-tokens", "/config"):
        assert fetch(ready["signals"], path)[0] == 404


@pytest.mark.parametrize("port", ["join", "listen"])
def test_strangers_cannot_write_into_the_log_by_failing_to_shake_hands(plane: Plane, port: str) -> None:
    plane.init_authority()
    ready = plane.start()
    host, _, number = ready[port].rpartition(":")
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection((host, int(number)), timeout=20) as stranger:
            stranger.sendall(rubbish)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
    assert plane.stop() == 0
    assert [line for line in (plane.folder / "log").read_text().splitlines() if not line.startswith("{")] == []


@pytest.mark.parametrize("port", ["join", "listen", "signals"])
def test_crowd_on_one_port_leaves_descriptors_for_the_others(plane: Plane, port: str) -> None:
    plane.init_authority()
    ready = plane.start(descriptors=512)
    host, _, number = ready[port].rpartition(":")
    with contextlib.ExitStack() as crowd:
        for _ in range(700):
            crowd.enter_context(contextlib.closing(socket.create_connection((host, int(number)), timeout=20)))
        assert fetch(ready["signals"], "/healthz") == (200, "ok\n")
        assert join(plane, ready, WEB).spiffe_id == WEB if port != "join" else plane.status()["revision"] == 1
    assert "Too many open files" not in (plane.folder / "log").read_text()


def test_admin_socket_is_its_owners_alone_and_goes_with_the_process(plane: Plane) -> None:
    plane.init_authority()
    plane.start()
    assert plane.admin_socket.stat().st_mode & 0o777 == 0o600
    assert plane.admin_socket.parent.stat().st_mode & 0o777 == 0o700
    assert plane.stop(signal.SIGINT) == 0
    assert not plane.admin_socket.exists()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "Expecting property name"),
        ("[" * 5000, "recursion"),
        ([], "body is no JSON object"),
        ({}, "spiffe_id is missing"),
        ({"spiffe_id": 7}, "spiffe_id is missing or no text"),
        ({"spiffe_id": str(WEB), "ttl": 5}, "unknown fields ttl"),
        ({"spiffe_id": str(WEB), "ttl_seconds": "5"}, "ttl_seconds is no whole number"),
        ({"spiffe_id": str(WEB), "ttl_seconds": True}, "ttl_seconds is no whole number"),
        ({"spiffe_id": str(WEB), "ttl_seconds": 0}, "token life of 0 s"),
        ({"spiffe_id": str(WEB), "ttl_seconds": 10**9}, "token life of"),
        ({"spiffe_id": str(WEB), "ttl_seconds": 10**400}, "ttl_seconds is out of range"),
        ('{"ttl_seconds": ' + "9" * 5000 + "}", "4300 digits"),
        ({"spiffe_id": "spiffe://shop.example/ns/ringfence-system/sa/controlplane"}, "the control plane's alone"),
        ({"spiffe_id": "spiffe://other.example/ns/shop/sa/web"}, "other.example"),
        ({"spiffe_id": "web"}, "does not start with spiffe://"),
    ],
)
def test_bad_request_for_a_join_token_is_told_why(plane_once: Plane, body: object, told: str) -> None:
    status, answer = ask(plane_once.admin_socket, "POST", "/join-tokens", body)
    assert status == 400
    assert told in answer["error"]
    assert "token" not in answer


def test_join_token_that_cannot_be_recorded_is_not_given_and_not_the_asker_s_fault(plane: Plane) -> None:
    plane.init_authority()
    plane.start()
    with sqlite3.connect(plane.state / "ca" / "ca.db") as rival:
        rival.execute("BEGIN IMMEDIATE")
        status, answer = ask(plane.admin_socket, "POST", "/join-tokens", {"spiffe_id": str(WEB)})
    rival.close()
    assert status == 503
    assert "database cannot record" in answer["error"]
    assert ask(plane.admin_socket, "POST", "/join-tokens", {"spiffe_id": str(WEB)})[0] == 201
    assert plane.stop() == 0
    assert len(plane.logged("join token minted")) == 1


@pytest.fixture(scope="module")
def plane_once(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Plane]:
    """One process for tests that change nothing of it."""
    made = Plane(tmp_path_factory.mktemp("plane"), authority)
    try:
        made.init_authority()
        made.start()
        yield made
    finally:
        made.close()


def test_oversized_and_unknown_requests_are_refused(plane_once: Plane) -> None:
    assert ask(plane_once.admin_socket, "POST", "/join-tokens", "x" * 100_000)[0] == 413
    assert ask(plane_once.admin_socket, "POST", "/status", {})[0] == 405
    assert ask(plane_once.admin_socket, "GET", "/nothing")[0] == 404


def test_status_for_people_and_for_programs(plane_once: Plane) -> None:
    def status(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [*RINGFENCE, "status", *flags]
        return subprocess.run(command, cwd=plane_once.folder, capture_output=True, text=True, timeout=60, check=False)

    table = status("--state", "state")
    assert (table.returncode, table.stderr) == (0, "")
    assert re.search(r"^shop/web +spiffe://shop.example/ns/shop/sa/web +- +- +- of 1 +never seen$", table.stdout, re.M)
    document = json.loads(status("--admin-socket", "state/run/admin.sock", "--json").stdout)
    assert (document["mesh"], document["revision"], len(document["workloads"])) == ("shop", 1, 2)
    nobody = status("--state", "elsewhere")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("no control plane at elsewhere/run/admin.sock (")
    unsaid = status()
    assert unsaid.returncode == 2
    assert unsaid.stderr.startswith("--state: missing, and there is no mesh under .ringfence")


def test_second_control_plane_on_one_state_folder_is_refused(plane_once: Plane) -> None:
    assert plane_once.refuse() == [
        "state folder state is in use by another control plane (stop it, or give another by --state)"
    ]
    assert plane_once.status()["mesh"] == "shop"


def test_killed_control_plane_comes_back_with_its_revisions(plane: Plane) -> None:
    plane.init_authority()
    plane.start()
    plane.files.allow("orders", "web")
    until(lambda: plane.status()["revision"] == 2)
    assert plane.stop(signal.SIGKILL) == -signal.SIGKILL
    assert plane.admin_socket.exists()
    plane.start()
    assert (plane.status()["revision"], plane.workload("orders")["revision"]) == (2, 2)
    assert plane.workload("web")["revision"] == 1
    plane.files.allow("orders", "web", "batch")
    until(lambda: plane.status()["revision"] == 3)


def test_damaged_ledger_makes_revisions_grow_from_the_time(plane: Plane) -> None:
    plane.init_authority()
    (plane.state / "revisions.json").write_text("{")
    started = time.time()
    assert plane.start()["revision"] >= int(started)
    until(lambda: plane.logged("revision ledger cannot be believed, counting on from the time"))


class TestRefusedStart:
    """Nothing is started where anything is wrong, and all of it is told."""

    def test_broken_files_are_told_all_at_once_with_their_places(self, plane: Plane) -> None:
        plane.init_authority()
        plane.files.write_mesh(mesh_text().replace("mesh: 15102", "mesh: 151020").replace("app: 9001", "aap: 9001"))
        (plane.files.policies / "a.yaml").write_text(allowlist_text("orders", ["web"]).replace("rules:", "rulez:"))
        assert [line.split(" (")[0] for line in plane.refuse()] == [
            "mesh.yaml:11:11: item of ports lacks app",
            "mesh.yaml:11:40: unknown field 'aap' in item of ports",
            "mesh.yaml:16:13: mesh 151020 is out of range",
            "policies/a.yaml:5:3: spec lacks rules",
            "policies/a.yaml:6:3: unknown field 'rulez' in spec",
        ]
        assert sorted(path.name for path in plane.state.iterdir()) == ["ca", "lock"]

    def test_mesh_file_that_is_not_there(self, plane: Plane) -> None:
        plane.init_authority()
        plane.files.mesh_file.unlink()
        assert plane.refuse() == [
            "mesh.yaml:1:1: cannot be read: No such file or directory (give the mesh file by --mesh)"
        ]

    def test_taken_ports_are_told_by_their_settings(self, plane: Plane) -> None:
        plane.init_authority()
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            first, second = one.getsockname()[1], two.getsockname()[1]
            free = free_port()
            extra = f'controlPlane: {{join: "127.0.0.1:{first}", listen: "127.0.0.1:{free}"}}'
            plane.files.write_mesh(mesh_text(extra=extra))
            assert plane.refuse("--signals", f"127.0.0.1:{second}", free=False) == [
                f"mesh.yaml:6:17: controlPlane.join 127.0.0.1:{first} is already in use "
                "(free it, or choose another controlPlane.join or --join-listen)",
                f"--signals: 127.0.0.1:{second} is already in use (free it, or choose another)",
            ]

    def test_authority_that_is_not_there(self, plane: Plane) -> None:
        assert plane.refuse() == [
            "--ca-data: state/ca is not there (make it: ringfence ca init --trust-domain shop.example --data state/ca)"
        ]

    def test_authority_of_another_trust_domain(self, plane: Plane) -> None:
        ca.init_authority(plane.state / "ca", TrustDomain("other.example"), PASSPHRASE)
        assert plane.refuse() == [
            "mesh.yaml:5:16: trust domain shop.example is not that of the CA in state/ca "
            "(write other.example, or give the CA of shop.example by --ca-data)"
        ]

    def test_wrong_passphrase(self, plane: Plane) -> None:
        plane.init_authority()
        plane.passphrase_file.write_bytes(b"something else")
        (line,) = plane.refuse()
        assert line.startswith("--ca-data: ")
        assert "something else" not in line

    @pytest.mark.parametrize(
        ("written", "told"),
        [
            ("postgresql://ca:hush-hush@nowhere:hush-hush/ca", "database url is malformed"),
            ("mysql://ca:hush-hush@nowhere/ca", "is not supported"),
            ("", "is empty"),
        ],
    )
    def test_database_url_that_is_none(self, plane: Plane, written: str, told: str) -> None:
        plane.init_authority()
        (plane.folder / "url").write_text(written)
        (line,) = plane.refuse("--database-url-file", "url")
        assert told in line
        assert "hush-hush" not in line

    def test_password_of_the_database_is_not_taken_from_the_command_line(self, plane: Plane) -> None:
        plane.init_authority()
        assert "No such option" in "".join(plane.refuse("--database-url", "postgresql://ca:hush-hush@nowhere/ca"))

    def test_passphrase_within_the_data_folder(self, plane: Plane) -> None:
        plane.init_authority()
        (plane.state / "ca" / "passphrase").write_bytes(PASSPHRASE)
        (line,) = plane.refuse("--passphrase-file", "state/ca/passphrase")
        assert "lies in the data folder it protects" in line

    def test_missing_passphrase_is_not_waited_for_where_nobody_can_type_it(self, plane: Plane) -> None:
        command = [word for word in plane.command() if word not in ("--passphrase-file", "passphrase")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
        run = subprocess.run(
            command,
            cwd=plane.folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert run.returncode == 2
        assert run.stderr.startswith("--passphrase-file: missing (")

    def test_state_folder_that_others_may_write(self, plane: Plane) -> None:
        plane.init_authority()
        plane.state.chmod(0o777)
        assert plane.refuse() == ["state folder state may be written by others (make it yours alone: chmod 700)"]

    def test_admin_socket_in_a_folder_of_everybody(self, plane: Plane) -> None:
        plane.init_authority()
        (plane.folder / "open").mkdir(mode=0o755)
        (line,) = plane.refuse("--admin-socket", "open/admin.sock")
        assert line == "folder open is open to others (make it yours alone: chmod 700)"

    def test_admin_socket_that_is_somebody_elses(self, plane: Plane) -> None:
        plane.init_authority()
        plane.admin_socket.parent.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(plane.admin_socket))
            other.listen(1)
            (line,) = plane.refuse()
        assert "is in use by another process" in line
        assert plane.admin_socket.exists()

    def test_admin_socket_with_a_path_too_long_for_the_kernel(self, plane: Plane) -> None:
        plane.init_authority()
        (line,) = plane.refuse("--admin-socket", f"{'d' * 120}/admin.sock")
        assert "is longer than 107 bytes" in line

    def test_file_in_the_place_of_the_admin_socket_is_left_alone(self, plane: Plane) -> None:
        plane.init_authority()
        plane.admin_socket.parent.mkdir(mode=0o700)
        plane.admin_socket.write_text("mine")
        (line,) = plane.refuse()
        assert "is there and no socket" in line
        assert plane.admin_socket.read_text() == "mine"
