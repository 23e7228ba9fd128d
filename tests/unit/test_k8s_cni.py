"""The CNI plugin: what it is asked, what a pod needs, and that nothing starts that should be redirected and is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from k8s.cni.asking import find_pod, read_access
from k8s.cni.network import check_addresses, enter, promised
from k8s.cni.plugin import Finished, answer
from k8s.cni.request import CniError, Code, Configuration, PodName, read_call
from k8s.cni.wanted import wanted
from k8s.objects import names
from tests.cni_calls import UID, configuration, environment, plain, pod_list, result, served
from tests.golden_pods import SETTINGS

NAME = PodName(namespace="shop", name="app", uid=UID)


def never(_: Sequence[str]) -> Finished:
    raise AssertionError("nothing is to be run")


def told(environ: dict[str, str], given: bytes) -> dict[str, Any]:
    """The error that a call ends with."""
    status, document = answer(environ, given, never)
    assert status == 1 and document is not None
    assert document.keys() == {"cniVersion", "code", "msg", "details"}
    assert document["msg"].isprintable()
    return document


def test_versions_are_told() -> None:
    status, document = answer({"CNI_COMMAND": "VERSION"}, b'{"cniVersion": "9.9.9"}', never)
    assert status == 0 and document == {"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}


@pytest.mark.parametrize("command", ["DEL", "GC"])
@pytest.mark.parametrize("given", [b"", b"garbage", configuration()])
def test_nothing_keeps_a_pod_from_going(command: str, given: bytes) -> None:
    assert answer(environment(command, CNI_NETNS=""), given, never) == (0, None)


def test_a_pod_that_is_not_in_the_mesh_passes_with_what_went_before(tmp_path: Path) -> None:
    pods = pod_list(tmp_path, plain())
    assert answer(environment(), configuration(pods=pods), never) == (0, result())


def test_a_pod_whose_own_init_container_redirects_passes(tmp_path: Path) -> None:
    pods = pod_list(tmp_path, served(settings=SETTINGS))
    assert answer(environment(), configuration(pods=pods), never) == (0, result())


def test_what_is_no_pod_and_what_is_of_the_clusters_own_passes_without_a_question() -> None:
    nowhere = configuration(access="/nowhere")
    assert answer(environment(CNI_ARGS="IgnoreUnknown=1"), nowhere, never) == (0, result())
    own = environment(CNI_ARGS="K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=coredns-1")
    assert answer(own, nowhere, never) == (0, result())


@pytest.mark.parametrize(
    ("environ", "given", "code", "part"),
    [
        (environment("FLY"), configuration(), 4, "CNI_COMMAND"),
        ({}, configuration(), 4, "CNI_COMMAND"),
        (environment(CNI_NETNS=""), configuration(access="/a"), 4, "CNI_NETNS"),
        (environment(CNI_NETNS="netns"), configuration(access="/a"), 4, "CNI_NETNS"),
        (environment(), b"", 6, "no JSON"),
        (environment(), b"[" * 100_000, 6, "no JSON"),
        (environment(), b" " * 1_048_577, 6, "above"),
        (environment(), b"[]", 7, "not an object"),
        (environment(), configuration(cniVersion="0.3.1"), 1, "0.3.1"),
        (environment(), configuration(cniVersion=1), 7, "cniVersion: not text"),
        (environment(), configuration(access="/a", prevResult=None), 7, "prevResult"),
        (environment(), configuration(), 7, "access: missing"),
        (environment(), configuration(access="/a", excludeNamespaces="shop"), 7, "excludeNamespaces"),
        (environment(), configuration(access="/nowhere/access.json"), 50, "cannot be read"),
        (environment("STATUS"), configuration(access="/nowhere/access.json"), 50, "cannot be read"),
        (environment(CNI_ARGS="K8S_POD_NAMESPACE=shop"), configuration(access="/a"), 4, "K8S_POD_NAME"),
        (
            environment(CNI_ARGS="K8S_POD_NAMESPACE=../x;K8S_POD_NAME=app"),
            configuration(access="/a"),
            4,
            "K8S_POD_NAMESPACE",
        ),
        (
            environment(CNI_ARGS="K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=?"),
            configuration(access="/a"),
            4,
            "UID",
        ),
        (environment(CNI_ARGS="a=b;" * 5_000), configuration(access="/a"), 4, "too many"),
    ],
)
def test_a_call_that_cannot_be_read_fails_in_the_specifications_form(
    environ: dict[str, str], given: bytes, code: int, part: str
) -> None:
    document = told(environ, given)
    assert document["code"] == code and part in document["msg"]


def test_a_pod_gets_the_rules_that_its_annotations_ask_for() -> None:
    security = served()["spec"]["initContainers"][0]["securityContext"]
    found = wanted(served(), NAME)
    assert found is not None and found.arguments[:6] == (
        "redirect",
        "install",
        "--sidecar-uid",
        str(security["runAsUser"]),
        "--sidecar-gid",
        str(security["runAsGroup"]),
    )
    assert security["runAsUser"] != security["runAsGroup"]
    assert "9100,9200,9201,9202,9203" in found.arguments and "10.0.0.0/8,fd00::/8" in found.arguments


def _changed(change: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(served()))
    change(made)
    return made


def _status(said: Any) -> dict[str, Any]:
    annotation = said if isinstance(said, str) else json.dumps(said)
    return _changed(lambda made: made["metadata"]["annotations"].update({names.STATUS: annotation}))


@pytest.mark.parametrize(
    ("made", "code", "part"),
    [
        (served(uid="another"), 11, "another one by now"),
        (served(name="other"), 100, "spoke of another pod"),
        (_status("garbage"), 100, "says nothing"),
        (_status("[]"), 100, "says nothing"),
        (_status({"redirect": "cni", "exclude": {"inbound_ports": ["--no-outbound"]}}), 100, "is no port"),
        (_status({"redirect": "cni", "exclude": {"outbound_cidrs": ["0.0.0.0/0"]}}), 100, "every address"),
        (_status({"redirect": "cni", "exclude": {"outbound_cidrs": "10.0.0.0/8"}}), 100, "is no list"),
        (_status({"redirect": "cni", "exclude": []}), 100, "not an object"),
        (
            _changed(lambda made: made["spec"]["initContainers"][0].update(securityContext={"runAsUser": 0})),
            100,
            "no user and group of the sidecar's",
        ),
        (
            _changed(lambda made: made["spec"]["initContainers"][0]["securityContext"].update(runAsGroup=0)),
            100,
            "no user and group",
        ),
        (_changed(lambda made: made.update(spec=7)), 100, "spec: not an object"),
    ],
)
def test_a_pod_that_cannot_be_understood_does_not_start(made: dict[str, Any], code: int, part: str) -> None:
    with pytest.raises(CniError) as caught:
        wanted(made, NAME)
    assert caught.value.code == code and part in str(caught.value)


def test_a_pod_whose_uid_the_runtime_does_not_say_does_not_start_if_it_is_in_the_mesh() -> None:
    nameless = PodName(namespace="shop", name="app", uid="")
    assert wanted(plain(), nameless) is None
    with pytest.raises(CniError, match="does not say its UID") as caught:
        wanted(served(), nameless)
    assert caught.value.code == Code.REDIRECT


def test_a_pod_of_the_nodes_own_files_is_known_by_its_other_uid() -> None:
    assert wanted(plain(uid="of-the-mirror", annotations={"kubernetes.io/config.mirror": UID}), NAME) is None


def test_a_network_is_entered_only_if_it_is_one_and_not_the_nodes_own(tmp_path: Path) -> None:
    for path, part in (
        ("/proc/self/ns/net", "the node's own network"),
        ("/proc/self/ns/mnt", "cannot be entered"),
        (str(tmp_path), "cannot be entered"),
        ("/nowhere", "cannot be opened"),
    ):
        with pytest.raises(CniError) as caught:
            enter(path)
        assert caught.value.code == Code.NETWORK and part in str(caught.value)


def test_a_network_without_the_pods_address_is_another_pods() -> None:
    check_addresses(promised(result("127.0.0.1/8")))
    for address in ("192.0.2.77/24", "2001:db8::77/64"):
        with pytest.raises(CniError, match="is not the pod's"):
            check_addresses(promised(result(address)))
    with pytest.raises(CniError, match="no address"):
        check_addresses([])
    with pytest.raises(CniError, match=r"prevResult\.ips"):
        promised(result("nonsense"))


def test_a_pod_that_nobody_knows_does_not_start(tmp_path: Path) -> None:
    document = told(environment(), configuration(pods=pod_list(tmp_path)))
    assert document["code"] == 11 and "is not in" in document["msg"]
    (tmp_path / "pods.json").write_text("garbage")
    assert told(environment(), configuration(pods=str(tmp_path / "pods.json")))["code"] == 50


# ------------------------------------------------------------------------------------------------------ the API server


class _Handler(BaseHTTPRequestHandler):
    answers: list[tuple[int, bytes]] = []
    asked: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        status, body = self.answers[min(len(self.asked), len(self.answers)) - 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def api_server(folder: Path, *answers: tuple[int, bytes]) -> Iterator[Configuration]:
    """A server that gives one answer after the other, and how to reach it."""
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    _Handler.answers, _Handler.asked = list(answers), []
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    access = folder / "access.json"
    url = f"https://127.0.0.1:{server.server_port}"
    access.write_text(
        json.dumps({"server": url, "authority": authority.cert_pem.bytes().decode(), "token": "secret-token"})
    )
    try:
        yield _configured(str(access))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _configured(access: str) -> Configuration:
    return read_call(environment(), configuration(access=access)).configuration


class Hours:
    """A clock that runs by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def ask(configured: Configuration) -> dict[str, Any]:
    hours = Hours()
    return find_pod(configured, NAME, monotonic=hours, pause=hours.pause)


def test_the_api_server_is_asked_for_the_pod_until_it_says(tmp_path: Path) -> None:
    found = json.dumps(served()).encode()
    with api_server(tmp_path, (500, b""), (429, b"{}"), (200, b"garbage"), (200, found)) as configured:
        assert ask(configured)["metadata"]["uid"] == UID
    assert _Handler.asked == [("/api/v1/namespaces/shop/pods/app", "Bearer secret-token")] * 4


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(404, b"{}", 11), (401, b"{}", 50), (403, b"{}", 50), (503, b"", 11), (200, b"[]", 11), (302, b"", 11)],
)
def test_an_api_server_that_does_not_say_lets_no_pod_start(tmp_path: Path, status: int, body: bytes, code: int) -> None:
    with api_server(tmp_path, (status, body)) as configured, pytest.raises(CniError) as caught:
        ask(configured)
    assert caught.value.code == code and "secret-token" not in str(caught.value)


def test_an_api_server_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    with api_server(tmp_path, (200, json.dumps(plain()).encode())) as configured:
        path = Path(configured.access)
        said = json.loads(path.read_text())
        path.write_text(json.dumps({**said, "authority": trustme.CA().cert_pem.bytes().decode()}))
        with pytest.raises(CniError) as caught:
            ask(configured)
    assert caught.value.code == 11 and _Handler.asked == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"server": "http://a", "token": "t"}',
        '{"server": "https://a", "authority": "x", "token": "a\\nb: c"}',
        '{"server": "https://a", "token": "t"}',
        '{"server": "https://a", "authority": "", "token": "t"}',
        '{"server": "https://a", "authority": "x", "token": ""}',
        '{"server": 7}',
    ],
)
def test_access_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "access.json"
    path.write_text(content)
    with pytest.raises(CniError) as caught:
        read_access(str(path))
    assert caught.value.code == Code.NOT_READY


def test_the_command_speaks_the_runtimes_language(tmp_path: Path) -> None:
    def call(given: bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
        words = [sys.executable, "-m", "ringfence", "k8s", "cni"]
        return subprocess.run(words, input=given, capture_output=True, env=os.environ | environ, check=False)

    passed = call(configuration(pods=pod_list(tmp_path, plain())), **environment())
    assert passed.returncode == 0 and json.loads(passed.stdout) == result() and passed.stderr == b""
    failed = call(b"", **environment())
    assert failed.returncode == 1 and json.loads(failed.stdout)["code"] == 6
