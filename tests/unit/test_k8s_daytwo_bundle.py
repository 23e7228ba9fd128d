"""``ringfence k8s support-bundle``: tells of a fault, and keeps every secret where it is."""

from __future__ import annotations

import base64
import json
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k8s.commands import k8s
from k8s.daytwo import bundle as bundling
from k8s.daytwo.cluster import ClusterError, Place
from k8s.daytwo.redaction import redacted_text
from tests.fake_cluster import Answer, FakeCluster, ran

PLANTED = [f"pl4nted{name}" for name in "abcdefghijklmnopqrstuvwxyz"]
A, B, C, D, E, F, G, H, I1, J, K, L, M, N, O1, P, Q, R, S, *_ = PLANTED
JWT = ".".join(
    base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"RS256"}', f'"{A}"', A)
)
KEY = f"-----BEGIN EC PRIVATE KEY-----\n{B}\n-----END EC PRIVATE KEY-----"

CLUSTER = f"""
kind: Namespace
metadata: {{name: shop, labels: {{ringfence.io/inject: enabled}}}}
---
kind: Pod
metadata:
  name: ringfence-0
  namespace: ringfence-system
spec: {{containers: [{{name: ringfence, image: r, args: [controlplane, --state=/s], env: [{{name: X, value: {C}}}]}}]}}
status: {{phase: Running}}
---
kind: Pod
metadata:
  name: api-1
  namespace: shop
  annotations:
    ringfence.io/log-level: debug
    kubectl.kubernetes.io/last-applied-configuration: '{{"env": "{D}"}}'
spec:
  initContainers:
    - name: ringfence-sidecar
      image: s
      env:
        - {{name: RINGFENCE_SIDECAR_JOIN, value: "ringfence.ringfence-system.svc:7401"}}
        - {{name: RINGFENCE_SIDECAR_PROBES, value: '{{"app/liveness": {{"http": {{"headers": [["x-key", "{S}"]]}}}}}}'}}
        - {{name: OTHER, value: {Q}}}
  containers:
    - name: app
      image: "https://u:{E}@registry/app"
      command: [run, --password={F}]
      args: [{G}]
      env: [{{name: PASSWORD, value: {H}}}]
      envFrom: [{{secretRef: {{name: x}}}}]
      livenessProbe: {{httpGet: {{port: 80, path: /healthz, httpHeaders: [{{name: Authorization, value: {I1}}}]}}}}
      readinessProbe: {{exec: {{command: [check, {J}]}}}}
  volumes: [{{name: v, secret: {{secretName: x}}}}]
status:
  phase: Running
  initContainerStatuses:
    - {{name: ringfence-sidecar, state: {{running: {{}}}}, lastState: {{terminated: {{exitCode: 2, message: stop}}}}}}
  containerStatuses:
    - name: app
      state: {{waiting: {{reason: CrashLoopBackOff}}}}
      lastState: {{terminated: {{exitCode: 1, reason: Error, message: the card is {S}}}}}
---
kind: Secret
metadata: {{name: s, namespace: ringfence-system}}
data: {{password: {K}}}
---
kind: ConfigMap
metadata: {{name: c, namespace: ringfence-system}}
data: {{key: {L}}}
---
kind: Event
metadata: {{name: e, namespace: shop}}
reason: Failed
message: 'cannot pull: token={M} Authorization: Bearer {N}'
---
kind: CustomResourceDefinition
metadata: {{name: allowlists.ringfence.io}}
spec: {{group: ringfence.io, names: {{plural: allowlists, kind: Allowlist}}}}
---
kind: Allowlist
metadata: {{name: api-callers, namespace: shop, annotations: {{note: {O1}}}}}
spec: {{service: api, rules: []}}
"""


def world() -> FakeCluster:
    made = FakeCluster(CLUSTER)

    def answers(place: Place, argv: Sequence[str]) -> Answer:
        match list(argv)[1:3]:
            case ["proxy", "config"]:
                return ran(json.dumps({"revision": 7, "clientSecret": P, "nested": {"x_password": R}}))
            case ["policy", "why"]:
                return ran(status=1, stderr="refused nothing")
            case ["proxy", "certs"]:
                return ClusterError("container is not running")
        return ran('{"ready": true, "workloads": []}')

    made.answers = answers
    made.texts["/api/v1/namespaces/shop/pods/api-1/log"] = f"got {JWT}\n{KEY}\npostgres://u:{A}@db/x\nplain words\n"
    made.texts["/api/v1/namespaces/shop/pods/api-1%3A15020/proxy/metrics"] = "ringfence_requests_total 5\n"
    return made


def run(cluster: FakeCluster, *words: str) -> Result:
    return CliRunner().invoke(k8s, ["support-bundle", *words], obj=cluster.opener)


def files_of(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive:
            opened = archive.extractfile(entry)
            assert opened is not None
            found[entry.name.removeprefix("ringfence-support/")] = opened.read().decode()
    return found


def test_no_planted_secret_leaves_the_cluster_and_the_fault_is_told(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    result = run(world(), "-o", str(path))
    assert result.exit_code == 0, result.output
    files = files_of(path)
    whole = "\n".join(files.values())
    assert [one for one in PLANTED if one in whole] == []
    assert base64.urlsafe_b64encode(f'"{A}"'.encode()).decode().rstrip("=") not in whole
    assert "plain words" in files["pods/shop/api-1/log.txt"]
    assert json.loads(files["pods/shop/api-1/config.json"])["revision"] == 7
    assert "ringfence_requests_total 5" in files["pods/shop/api-1/metrics.txt"]
    assert json.loads(files["documents/allowlists.json"])[0]["spec"]["service"] == "api"
    told = json.loads(files["pods/shop/api-1/pod.json"])
    assert told["metadata"]["annotations"] == {"ringfence.io/log-level": "debug"}
    assert told["spec"]["containers"][0]["env"] == [{"name": "PASSWORD", "value": "(redacted)"}]
    assert told["spec"]["initContainers"][0]["env"][0]["value"] == "ringfence.ringfence-system.svc:7401"
    assert json.loads(files["versions.json"])["kubernetes"] == "v1.36.3"
    assert told["status"]["initContainerStatuses"][0]["lastState"]["terminated"]["message"] == "stop"
    assert told["status"]["containerStatuses"][0]["lastState"] == {"terminated": {"exitCode": 1, "reason": "Error"}}
    assert "secrets" not in str(sorted(files))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_could_not_be_had_is_told(tmp_path: Path) -> None:
    cluster = world()
    cluster.forbidden |= {"events", "nodes"}
    path = tmp_path / "b.tar.gz"
    told = json.loads(run(cluster, "-o", str(path), "--json").stdout)
    missing = files_of(path)["missing.txt"]
    assert missing.splitlines() == told["missing"]
    for expected in (
        "events of shop: events is forbidden",
        "nodes: nodes is forbidden",
        "pods/shop/api-1/certs.json: container is not running",
        "controlplane/ringfence-0/log.txt: nothing at",
    ):
        assert any(line.startswith(expected) for line in missing.splitlines()), expected


def test_of_a_cluster_that_forbids_everything_a_bundle_still_tells(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.forbidden |= {"pods", "nodes", "namespaces", "customresourcedefinitions"}
    path = tmp_path / "b.tar.gz"
    assert run(cluster, "-o", str(path)).exit_code == 0
    assert "pods: pods is forbidden" in files_of(path)["missing.txt"]


def test_its_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "FILE_LIMIT_BYTES", 2_000)
    monkeypatch.setattr(bundling, "TOTAL_LIMIT_BYTES", 6_000)
    cluster = world()
    cluster.texts["/api/v1/namespaces/shop/pods/api-1/log"] = f"{'x' * 99}\n" * 1_000 + f"Bearer {A}"
    path = tmp_path / "b.tar.gz"
    run(cluster, "-o", str(path))
    files = files_of(path)
    assert sum(map(len, files.values())) < 6_000 + len(files["missing.txt"]) + 1
    assert "is full" in files["missing.txt"]


def test_sidecars_are_asked_up_to_a_number(tmp_path: Path) -> None:
    cluster = world()
    second: dict[str, Any] = next(one for one in cluster.items if one["metadata"]["name"] == "api-1")
    cluster.items.append({**second, "metadata": {**second["metadata"], "name": "api-2"}})
    path = tmp_path / "b.tar.gz"
    run(cluster, "-o", str(path), "--sidecars", "1")
    files = files_of(path)
    assert "of" in files["missing.txt"]
    assert "sidecars were not asked" in files["missing.txt"]
    assert len({name.split("/")[2] for name in files if name.startswith("pods/")}) == 1


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_text("mine")
    assert run(world(), "-o", str(path)).exit_code == 2
    assert path.read_text() == "mine"
    assert run(world(), "-o", str(tmp_path / "no" / "b")).exit_code == 1


@pytest.mark.parametrize(
    "said",
    [
        f"Bearer {A}",
        f"Authorization: Basic {A}",
        f"https://user:{A}@host/x",
        f'"client_secret": "{A}"',
        f'"token": "a\\"{A}"',
        f"password={A}",
        f"-----BEGIN PRIVATE KEY-----\n{A}",
        JWT,
    ],
)
def test_texts_are_looked_through_once_more(said: str) -> None:
    shown = redacted_text(f"before {said} after")
    assert A not in shown
    assert "before" in shown


@pytest.mark.parametrize(
    "said", ["token_issuers: 3", '"token_kind": "jwt"', "a secret place", "https://host/path@x", "x=1"]
)
def test_plain_words_stay(said: str) -> None:
    assert redacted_text(said) == said


def test_of_a_file_that_cannot_be_written_no_half_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    path = tmp_path / "b.tar.gz"
    result = run(world(), "-o", str(path))
    assert (result.exit_code, "no space left on device" in result.stderr) == (1, True)
    assert not path.exists()
