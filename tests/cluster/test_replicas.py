"""Two control planes on PostgreSQL, with an authority made elsewhere: one goes, and nobody notices."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k8s.manifests.render import CHART
from tests.cluster.callers import caller, load
from tests.cluster.charted import SYSTEM, Place, placed
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import call, deploy_shop, is_serving, wait_rolled_out
from tests.cluster.test_daytwo import Operator
from tests.cluster.test_lifecycle import CALLS
from tests.cluster.workloads import caller_pod
from tests.postgres import server_programs

_OWNER = "postgres"
_WHERE = f"--namespace={SYSTEM}"
APPS = ("web", "orders", "payments", "ledger")


@contextmanager
def database(cluster: Cluster) -> Iterator[str]:
    """A PostgreSQL server on the first node, beside its pods; the URL by which they reach it."""
    programs, node = server_programs(), cluster.nodes[0]
    owner = pwd.getpwnam(_OWNER)
    # Not in the cluster's folder, which is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="rf-pg-", dir="/tmp"))
    shutil.chown(folder, _OWNER)
    as_owner = ("setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups")
    try:
        data = folder / "data"
        node.machine.run(*as_owner, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "ringfence")
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")
        options = ("-c", f"listen_addresses={node.place.address}", "-c", f"unix_socket_directories={folder}")
        server = node.machine.daemon("postgres", *as_owner, str(programs / "postgres"), "-D", str(data), *options)
        ready = (str(programs / "pg_isready"), "-h", node.place.address)
        until(lambda: server.check() and not _fails(cluster, *ready), "PostgreSQL")
        yield f"postgresql://ringfence@{node.place.address}/postgres"
    finally:
        if "postgres" in node.machine.daemons:
            node.machine.daemons["postgres"].stop()
        shutil.rmtree(folder, ignore_errors=True)


def _fails(cluster: Cluster, *argv: str) -> bool:
    ran = subprocess.run([*cluster.first.enter(), *argv], capture_output=True, check=False, timeout=30)
    return ran.returncode != 0


@pytest.fixture(scope="module")
def place(programs: Path, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A cluster with two control planes, and the shop in the mesh."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "pass").write_text("a passphrase of the platform team\n")
    (desk / "pass").chmod(0o600)
    ringfence = str(Path(sys.executable).parent / "ringfence")
    words = ("--trust-domain=shop.example", "--dns=ringfence-system.svc", f"--passphrase-file={desk}/pass")
    subprocess.run([ringfence, "ca", "init", f"--data={desk}/ca", *words], check=True, timeout=60)
    exported = subprocess.run([ringfence, "ca", "export", f"--data={desk}/ca"], check=True, timeout=60, stdout=-1)
    (desk / "ca.pem").write_bytes(exported.stdout)
    with placed(programs, image) as made, database(made.cluster) as url:
        kubectl = made.cluster.kubectl
        kubectl("create", "namespace", SYSTEM)
        secret = ("create", "secret", "generic", _WHERE)
        kubectl(*secret, "ringfence-authority", f"--from-file=ca.pem={desk}/ca.pem")
        kubectl(*secret, "ringfence-passphrase", f"--from-file=passphrase={desk}/pass")
        kubectl(*secret, "ringfence-database", f"--from-literal=url={url}")
        existing = "ca.existingSecret=ringfence-authority,database.existingSecret=ringfence-database"
        made.install(f"--set=replicas=2,{existing}")
        deploy_shop(made.cluster)
        assert made.root() == (desk / "ca" / "root.pem").read_text()
        yield made


def _ready(cluster: Cluster) -> int:
    return int(cluster.get("deploy", "ringfence", _WHERE)["status"].get("readyReplicas", 0))


def _leader(cluster: Cluster) -> str:
    """The pod that does what only one may do."""
    holder: str = cluster.get("lease", "ringfence", _WHERE)["spec"].get("holderIdentity") or ""
    return holder.partition("_")[0]


def test_both_are_ready_and_one_leads(place: Place) -> None:
    assert _ready(place.cluster) == 2
    pods = {one["metadata"]["name"] for one in place.cluster.get("pods", _WHERE)["items"]}
    assert _leader(place.cluster) in pods
    assert call(place.cluster, "web", "GET", "orders:8080/orders")[0] == 200
    assert call(place.cluster, "web", "DELETE", "orders:8080/orders/1")[0] == 403


def test_documents_tell_of_sidecars_that_either_of_them_serves(place: Place) -> None:
    words = ("wait", "--for=condition=Enforced", "allowlist", "--all", "--namespace=shop", "--timeout=60s")
    waited = place.cluster.try_kubectl(*words)
    assert waited.returncode == 0, place.cluster.kubectl("get", "allowlists", "--namespace=shop", "--output=yaml")


def test_the_one_that_leads_goes_and_no_call_is_lost(place: Place) -> None:
    cluster = place.cluster
    gone = _leader(cluster)
    calls: list[tuple[str, str, object]] = [("GET", "orders:8080/orders", None)]
    with load(cluster, "shop", caller_pod("loads", serviceAccountName="web"), calls) as told:
        cluster.kubectl("delete", "pod", gone, _WHERE, "--wait=false")
        until(lambda: _leader(cluster) not in ("", gone), "another that leads")
        until(lambda: _ready(cluster) == 2, "two that are ready")
        # Whoever starts now is attested by either of the two.
        cluster.kubectl("rollout", "restart", "deploy/orders", "--namespace=shop")
        wait_rolled_out(cluster, "shop")
    assert told.failed == []
    assert told.done > 50


@pytest.fixture
def canary(place: Place) -> Iterator[Place]:
    """The place with another control plane beside it, of a revision with a name."""
    values = place.done("get", "values", "ringfence", _WHERE)
    file = place.cluster.folder / "values.yaml"
    file.write_text(values.partition("\n")[2])
    more = (f"--values={file}", "--set=revision=canary,replicas=1", "--wait", "--timeout=180s")
    place.done("install", "ringfence-canary", str(CHART), _WHERE, *more)
    yield place
    assert place.helm("uninstall", "ringfence-canary", _WHERE, "--wait").returncode == 0


def test_a_canary_serves_the_namespaces_that_name_it_and_the_mesh_is_one(canary: Place) -> None:
    cluster = canary.cluster
    cluster.kubectl("create", "namespace", "next")
    cluster.kubectl("label", "namespace", "next", "ringfence.io/inject=enabled", "ringfence.io/rev=canary")
    cluster.kubectl("create", "serviceaccount", "web", "--namespace=next")
    with caller(cluster, "next", caller_pod("early", serviceAccountName="web")) as call_from:
        pod = cluster.get("pod", "early", "--namespace=next")
        assert '"revision":"canary"' in pod["metadata"]["annotations"]["ringfence.io/status"].replace(": ", ":")
        # Who it is, it was told by the canary; whether it may, by the shop's sidecar, which the others serve.
        assert call_from("GET", "orders.shop:8080/healthz")[0] == 0
        early = {"spiffeId": "spiffe://shop.example/ns/next/sa/web"}
        rule = {"name": "early", "from": [early], "to": {"methods": ["GET"], "paths": ["/healthz"]}}
        cluster.apply(
            {
                "apiVersion": "ringfence.io/v1alpha1",
                "kind": "Allowlist",
                "metadata": {"name": "early", "namespace": "shop"},
                "spec": {"service": "orders", "rules": [rule]},
            }
        )
        until(lambda: call_from("GET", "orders.shop:8080/healthz")[0] == 200, "the call from the next revision")
        rules = [{"name": "all", "from": [{"namespace": "shop"}]}]
        cluster.apply(
            {
                "apiVersion": "ringfence.io/v1alpha1",
                "kind": "Allowlist",
                "metadata": {"name": "all", "namespace": "next"},
                "spec": {"scope": "namespace", "rules": rules},
            }
        )
        # Whoever leads, of either revision, is told of the sidecars of the other.
        for namespace in ("shop", "next"):
            wanted = ("wait", "--for=condition=Enforced", "allowlist", "--all", "-n", namespace, "--timeout=60s")
            waited = cluster.try_kubectl(*wanted)
            assert waited.returncode == 0, cluster.kubectl("get", "allowlists", "-n", namespace, "-o", "yaml")
    tries = caller_pod("tries", serviceAccountName="web")
    tries["metadata"]["labels"] = {"ringfence.io/rev": "canary"}
    with caller(cluster, "shop", tries) as call_from:
        pod = cluster.get("pod", "tries", "--namespace=shop")
        assert '"revision":"canary"' in pod["metadata"]["annotations"]["ringfence.io/status"].replace(": ", ":")
        assert call_from("GET", "orders:8080/orders")[0] == 200
    cluster.kubectl("delete", "allowlist", "early", "--namespace=shop")


def test_a_namespace_is_led_to_a_canary_and_back_and_no_call_is_lost(canary: Place) -> None:
    cluster, operator = canary.cluster, Operator(cluster=canary.cluster)
    unknown = operator.ask("upgrade", "shop", "--revision", "nobody", "--apply")
    assert (unknown.returncode, "there is '', 'canary'" in unknown.stderr) == (1, True), unknown.stderr
    assert _revisions(cluster) == {""}
    words = ("upgrade", "shop", "--apply", "--timeout", "240", "--revision")
    with load(cluster, "shop", caller_pod("led", serviceAccountName="web"), CALLS) as told:
        operator.do(*words, "canary")
        until(lambda: _revisions(cluster) == {"canary"}, "pods of the canary alone")
        # Image and version are the same; who they hear is not.
        until(lambda: all(one in _connected(cluster, "ringfence-canary") for one in APPS), "sidecars of the canary")
        assert {one["ready"] for one in operator.told("status", "--namespace", "shop")["pods"]} == {True}
        told.more()
        operator.do(*words, "")
        until(lambda: _revisions(cluster) == {""}, "pods of the first alone")
        assert "ringfence.io/rev" not in cluster.get("namespace", "shop")["metadata"]["labels"]
    assert told.failed == []


def _revisions(cluster: Cluster) -> set[str]:
    """By which control planes the shop's pods were injected."""
    pods = cluster.get("pods", "--namespace=shop", "--selector=app")["items"]
    return {json.loads(one["metadata"]["annotations"]["ringfence.io/status"])["revision"] for one in pods}


def _connected(cluster: Cluster, deployment: str) -> set[str]:
    """The services whose sidecars a control plane has on the line."""
    words = ("exec", f"deploy/{deployment}", _WHERE, "--container=ringfence", "--", "ringfence", "status", "--json")
    told = json.loads(cluster.kubectl(*words, "--state", "/var/lib/ringfence/state"))
    there = (one for one in told["workloads"] if any(sidecar["connected"] for sidecar in one["sidecars"]))
    return {one["service"].partition("/")[2] for one in there if one["service"].startswith("shop/")}


def test_a_change_of_policy_reaches_the_sidecars_of_both(place: Place) -> None:
    cluster = place.cluster
    cluster.kubectl("delete", "allowlist", "orders-callers", "--namespace=shop")
    until(lambda: call(cluster, "web", "GET", "orders:8080/orders")[0] == 403, "the refusal")
    main = "--selector=app.kubernetes.io/instance=ringfence"
    serving = [one for one in cluster.get("pods", _WHERE, main)["items"] if is_serving(one)]
    assert len(serving) == 2
    for pod in serving:
        until(lambda name=pod["metadata"]["name"]: "2 allowlists" in _told(cluster, name), "two documents")


def _told(cluster: Cluster, name: str) -> str:
    words = ("exec", name, _WHERE, "--container=ringfence", "--", "ringfence", "status")
    return cluster.try_kubectl(*words, "--state", "/var/lib/ringfence/state").stdout
