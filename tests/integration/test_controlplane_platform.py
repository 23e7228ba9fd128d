"""The control plane as a process on a platform: what it serves, what it says of documents, what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.operate.admin_client import ask, get_document
from ringfence.spiffe import SpiffeId, X509Svid
from ringfence.wire.gen import issuing_pb2_grpc
from tests.authorities import HostKeyPair, make_csr
from tests.fake_platform import install
from tests.integration.test_controlplane_process import Subscription, channel
from tests.mesh_files import mesh_text, replace_text
from tests.pki import new_key
from tests.planes import DOMAIN, Plane, new_authority, until

ROOT = Path(__file__).parents[2]
ALLOW = "{{service: orders, rules: [{{name: a, from: [{{service: {caller}}}]}}]}}"
DENY = "{service: orders, rules: [{name: d, from: [{anyone: true}], to: {paths: [/admin]}}]}"


def spiffe_id(name: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}")


class OnPlatform(Plane):
    """A plane whose mesh and documents are a platform's."""

    def __init__(self, folder: Path, authority: Path) -> None:
        super().__init__(folder, authority)
        self.there = folder / "platform"
        (self.there / "documents").mkdir(parents=True)
        self.mesh("web", "orders")
        os.environ["PYTHONPATH"] = f"{install(folder / 'packages')}:{ROOT}"

    def command(self, *flags: str, free: bool = True) -> list[str]:
        command = super().command(*flags, free=free)
        at = command.index("--mesh")
        platform = ("--platform", "folder", "--platform-option", f"folder={self.there}", "--trust-domain", DOMAIN.name)
        return [*command[:at], *platform, *command[at + 2 :]]

    def mesh(self, *services: str) -> None:
        replace_text(self.there / "mesh.yaml", mesh_text(*services))

    def write(self, kind: str, name: str, spec: str, folder: str = "documents") -> str:
        head = f"apiVersion: ringfence.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}"
        text = f"{head}\nspec: {spec}\n"
        (self.there / folder).mkdir(exist_ok=True)
        replace_text(self.there / folder / f"{kind}_shop_{name}", text)
        return f"{kind}/shop/{name}"

    def remove(self, kind: str, name: str) -> None:
        (self.there / "documents" / f"{kind}_shop_{name}").unlink()

    def standing(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.there / "standings.json").read_text()).get(name, {})
            return found
        return {}


def prove(plane: Plane, ready: dict[str, Any], name: str) -> X509Svid:
    key = new_key()
    roots = get_document(plane.admin_socket, "/bundle")["roots_pem"].encode()
    request = HostKeyPair().prove(str(spiffe_id(name)).encode(), make_csr(key), kind="folder")
    with channel(ready["join"], roots) as opened:
        answer = issuing_pb2_grpc.JoiningStub(opened).Prove(request, timeout=10)
    return X509Svid.from_chain(tuple(answer.chain), key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plane(tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnPlatform]:
    monkeypatch.setenv("PYTHONPATH", "")
    made = OnPlatform(tmp_path, authority)
    try:
        yield made
    finally:
        made.close()


def test_a_workload_proves_itself_and_its_documents_stand_enforced(plane: OnPlatform) -> None:
    plane.init_authority()
    name = plane.write("Allowlist", "a", ALLOW.format(caller="web"))
    ready = plane.start()
    started = time.time()
    svid = prove(plane, ready, "orders")
    assert svid.spiffe_id == spiffe_id("orders")
    until(lambda: plane.standing(name))
    assert plane.standing(name) | {"waiting": []} == {
        **{"accepted": True, "problems": [], "stands_in": "", "workloads": 1, "enforcing": 0, "waiting": []}
    }
    with contextlib.closing(Subscription(plane, ready, svid)) as sidecar:
        first = sidecar.snapshot()
        assert [one.name for one in first.allowlists] == ["a"]
        # So that it grows over control planes that know nothing of each other's ledgers.
        assert abs(first.revision / 1000 - started) < 600
        sidecar.ack(first.revision)
        until(lambda: plane.standing(name)["enforcing"] == 1)
        other = plane.write("Allowlist", "b", ALLOW.format(caller="orders"))
        second = sidecar.snapshot()
        assert second.revision > first.revision
        until(lambda: plane.standing(other).get("waiting"))
        assert plane.standing(other)["enforcing"] == 0
        sidecar.ack(second.revision)
        until(lambda: plane.standing(other)["enforcing"] == plane.standing(name)["enforcing"] == 1)
    assert plane.stop(signal.SIGTERM) == 0
    assert (plane.there / "closed").exists()


def test_a_wrong_document_costs_no_other_and_stands_as_it_stood_after_a_restart(plane: OnPlatform) -> None:
    plane.init_authority()
    good = plane.write("Allowlist", "a", ALLOW.format(caller="web"))
    denied = plane.write("Denylist", "d", DENY)
    plane.start()
    until(lambda: plane.standing(denied).get("accepted"))
    version = str(len((plane.there / "documents" / "Denylist_shop_d").read_bytes()))
    plane.write("Denylist", "d", DENY.replace("paths", "pahts"))
    wrong = plane.write("Allowlist", "w", "{service: orders}")
    until(lambda: plane.standing(denied)["stands_in"] == version and plane.standing(wrong))
    assert plane.standing(denied)["problems"][0].startswith("Denylist/shop/d:4:")
    assert not plane.standing(wrong)["accepted"]
    assert plane.standing(good)["accepted"]
    plane.stop()
    (plane.there / "standings.json").unlink()
    plane.start()
    until(lambda: plane.standing(denied))
    assert plane.standing(denied)["stands_in"] == version
    status, documents = ask(plane.admin_socket, "GET", "/policy/documents")
    assert status == 200
    assert {one["name"]: one["accepted"] for one in documents["documents"]} == {denied: False, good: True, wrong: False}
    workload = next(
        one for one in get_document(plane.admin_socket, "/policy")["workloads"] if one["service"] == "shop/orders"
    )
    assert {one["name"] for one in workload["policy"]["documents"]} == {"shop/a", "shop/d"}


def test_what_would_be_wrong_is_said_of_what_is_asked_alone(plane: OnPlatform) -> None:
    plane.init_authority()
    plane.write("Allowlist", "wrong", "{service: orders}")
    plane.start()
    plane.write("Allowlist", "new", ALLOW.format(caller="wbe"), folder="ask")
    until(lambda: (plane.there / "checked.json").exists())
    (problem,) = json.loads((plane.there / "checked.json").read_text())
    assert problem.startswith("Allowlist/shop/new:4:")
    assert "did you mean" in problem or "shop/wbe" in problem
    assert len(plane.logged("configuration in force")) == 1


def test_a_server_of_the_platform_gets_a_certificate_of_the_authority(plane: OnPlatform) -> None:
    plane.init_authority()
    plane.start()
    file = plane.there / "certificate.pem"
    until(file.exists)
    leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hook.shop.example"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://shop.example/ns/ringfence-system/sa/platform"
    ]
    assert leaf.public_bytes(Encoding.DER)


def asked(plane: OnPlatform, *words: str) -> subprocess.CompletedProcess[str]:
    """What a command for operators says of the control plane that runs."""
    return subprocess.run(
        [*plane.command()[:3], *words, "--admin-socket", str(plane.admin_socket)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=plane.folder,
    )


def test_operators_ask_of_what_the_platform_says(plane: OnPlatform) -> None:
    plane.init_authority()
    name = plane.write("Allowlist", "a", ALLOW.format(caller="web"))
    plane.start()
    until(lambda: plane.standing(name))
    call = ("policy", "explain", "--to", "shop/orders", "--port", "8080", "--method", "GET", "--path", "/")
    permitted = asked(plane, *call, "--from", "shop/web")
    assert (permitted.returncode, "shop/a" in permitted.stdout) == (0, True), permitted.stderr
    assert asked(plane, *call, "--from", "shop/orders").returncode == 1
    plane.write("Denylist", "d", "{service: orders}")
    until(lambda: plane.standing("Denylist/shop/d"))
    closed = asked(plane, *call, "--from", "shop/web")
    assert closed.returncode == 1
    assert "this-denylist-cannot-be-enforced" in closed.stdout
    told = asked(plane, "policy", "status")
    assert "shop/orders" in told.stdout, told.stderr
    assert asked(plane, "status").returncode == 0


def test_writing_policy_is_the_platforms(plane: OnPlatform) -> None:
    plane.init_authority()
    plane.start()
    run = asked(plane, "policy", "rollback")
    assert run.returncode != 0
    assert "kept by folder, which is their only source" in run.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--mesh", "mesh.yaml"), "--mesh: not with --platform"),
        (("--trust-domain", "other.example"), "--trust-domain"),
        (("--platform-option", "nonsense"), "'nonsense' is not KEY=VALUE"),
        (("--lifetime", "60", "--lifetime-floor", "300"), "--lifetime: 60 s is not between"),
        (("--token-issuer-host", "IDP.example"), "--token-issuer-host: capitals in 'IDP.example'"),
        (("--token-issuer-network", "169.254.0.0/16"), "--token-issuer-network: 169.254.0.0/16 holds link-local"),
        (("--platform", "kubernets"), "--platform: there is no platform 'kubernets' (use one of: broken, folder"),
        (("--platform", "broken"), "--platform: broken cannot be loaded"),
    ],
)
def test_bad_flags_are_refused_in_one_line(plane: OnPlatform, flags: tuple[str, ...], line: str) -> None:
    plane.init_authority()
    assert any(line in one for one in plane.refuse(*flags)), plane.refuse(*flags)


def test_a_platform_that_cannot_be_had_is_a_refused_start(plane: OnPlatform) -> None:
    plane.init_authority()
    (plane.there / "mesh.yaml").write_text("nonsense")
    (line,) = plane.refuse()
    assert line.startswith("--platform folder: mesh.yaml:1:1")
