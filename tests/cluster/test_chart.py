"""The chart on a cluster of its own: installed without a warning, again and again, and never with another root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s.crds.definition import GROUP, KINDS, plural
from k8s.manifests.render import CHART, FILE
from tests.cluster.charted import SYSTEM, Place, placed

ACCOUNT = f"--as=system:serviceaccount:{SYSTEM}:ringfence"


@pytest.fixture(scope="module")
def place(programs: Path, image: Path) -> Iterator[Place]:
    """A cluster in which the chart is installed."""
    with placed(programs, image) as made:
        made.install()
        yield made


def can(place: Place, *words: str) -> bool:
    ran = place.cluster.try_kubectl("auth", "can-i", *words, ACCOUNT)
    return ran.stdout.strip() == "yes"


def test_helm_finds_nothing_to_complain_of(place: Place) -> None:
    linted = place.helm("lint", "--strict", "--namespace=ringfence-system", str(CHART))
    assert linted.returncode == 0, linted.stdout
    assert "0 chart(s) failed" in linted.stdout
    assert "[WARNING]" not in linted.stdout
    assert "STATUS: deployed" in place.done("status", "ringfence", f"--namespace={SYSTEM}")


def test_the_api_server_takes_the_manifests_without_a_warning(place: Place) -> None:
    words = ("apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict")
    ran = place.cluster.try_kubectl(*words, f"--kustomize={FILE.parent}")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_its_namespace_may_be_held_to_pod_security_restricted(place: Place) -> None:
    words = ("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted", "--dry-run=server")
    ran = place.cluster.try_kubectl(*words, "--overwrite")
    assert (ran.returncode, ran.stderr) == (0, "")  # the API server warns of pods that would not be let in


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("list", "pods", "-A"), True),
        (("watch", "endpointslices", "-A"), True),
        (("watch", "allowlists.ringfence.io", "-A"), True),
        (("patch", "allowlists.ringfence.io/one", "--subresource=status", "-n", "default"), True),
        (("create", "tokenreviews"), True),
        (("patch", "configmaps/ringfence-trust", "-n", "default"), True),
        (("patch", "mutatingwebhookconfigurations/ringfence"), True),
        (("patch", "leases/ringfence", "-n", SYSTEM), True),
        (("get", "secrets", "-n", SYSTEM), False),
        (("get", "secrets/ringfence-passphrase", "-n", SYSTEM), False),
        (("list", "secrets", "-A"), False),
        (("create", "secrets", "-n", SYSTEM), False),
        (("create", "pods", "-n", "default"), False),
        (("delete", "pods", "-n", "default"), False),
        (("create", "pods", "--subresource=exec", "-n", "default"), False),
        (("patch", "allowlists.ringfence.io", "-n", "default"), False),
        (("delete", "denylists.ringfence.io", "-n", "default"), False),
        (("get", "configmaps", "-n", "default"), False),
        (("patch", "configmaps/other", "-n", "default"), False),
        (("patch", "configmaps/ringfence-root", "-n", SYSTEM), False),
        (("patch", "mutatingwebhookconfigurations/other"), False),
        (("create", "mutatingwebhookconfigurations"), False),
        (("patch", "deployments", "-n", SYSTEM), False),
        (("create", "serviceaccounts", "--subresource=token", "-n", SYSTEM), False),
        (("create", "clusterrolebindings"), False),
        (("impersonate", "users"), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_control_plane_may_do_what_it_must_and_no_more(place: Place, words: tuple[str, ...], wanted: bool) -> None:
    assert can(place, *words) is wanted


def test_a_label_that_chooses_nothing_is_refused(place: Place) -> None:
    cluster = place.cluster
    cluster.kubectl("create", "namespace", "labels")
    ran = cluster.try_kubectl("label", "namespace", "labels", "ringfence.io/inject=yes")
    assert "ringfence.io/inject: yes chooses nothing (write enabled or disabled)" in ran.stderr
    for namespace in ("kube-system", SYSTEM):
        ran = cluster.try_kubectl("label", "namespace", namespace, "ringfence.io/inject=enabled")
        assert "never in the mesh" in ran.stderr
    cluster.kubectl("label", "namespace", "labels", "ringfence.io/inject=disabled")
    cluster.kubectl("delete", "namespace", "labels", "--wait=false")


def test_a_trust_bundle_is_the_control_planes_alone(place: Place) -> None:
    ran = place.cluster.try_kubectl("create", "configmap", "ringfence-trust", "--from-literal=bundle.pem=mine")
    assert "the control plane's to write" in ran.stderr
    place.cluster.kubectl("create", "configmap", "mine", "--from-literal=bundle.pem=mine")
    place.cluster.kubectl("delete", "configmap", "mine")


def test_a_pod_that_pretends_to_be_injected_is_refused(place: Place) -> None:
    words = ("run", "fake", "--image=x", "--labels=ringfence.io/injected=true")
    ran = place.cluster.try_kubectl(*words)
    assert "is the injector's, for pods with a sidecar" in ran.stderr


def test_a_revision_that_there_is_not_leaves_no_pod_outside_the_mesh(place: Place) -> None:
    cluster = place.cluster
    cluster.kubectl("create", "namespace", "revised")
    cluster.kubectl("label", "namespace", "revised", "ringfence.io/inject=enabled")
    run = ("run", "one", "--namespace=revised", "--image=x", "--dry-run=server")
    try:
        assert cluster.try_kubectl(*run).returncode == 0
        told = "none is of revision 'nobody' (correct the label ringfence.io/rev of the pod, or of its namespace)"
        assert told in cluster.try_kubectl(*run, "--labels=ringfence.io/rev=nobody").stderr
        cluster.kubectl("label", "namespace", "revised", "ringfence.io/rev=nobody")
        assert told in cluster.try_kubectl(*run).stderr
        assert cluster.try_kubectl(*run, "--labels=ringfence.io/inject=disabled").returncode == 0
        # The one without a name.
        assert cluster.try_kubectl(*run, "--labels=ringfence.io/rev=").returncode == 0
    finally:
        cluster.kubectl("delete", "namespace", "revised", "--wait=false")


def test_a_wrong_document_is_refused_with_the_mend(place: Place) -> None:
    rule = '{"name": "a", "from": ["web"], "to": {"methods": ["GET"], "pahts": ["/"]}}'
    head = '{"apiVersion": "ringfence.io/v1alpha1", "kind": "Allowlist", "metadata": {"name": "a"}, '
    document = head + '"spec": {"service": "a", "rules": [' + rule + "]}}"
    ran = place.cluster.try_kubectl("apply", "--filename=-", given=document)
    assert ran.returncode == 1
    assert "spec.rules[0].to.pahts: unknown field 'pahts'" in ran.stderr
    assert "did you mean paths?" in ran.stderr
    far = document.replace('"service": "a"', '"scope": "mesh"').replace("pahts", "paths")
    ran = place.cluster.try_kubectl("apply", "--filename=-", given=far)
    assert ran.returncode == 1
    assert "spec.scope" in ran.stderr


def test_a_field_that_no_document_has_is_refused_where_it_is_added_later(place: Place) -> None:
    cluster = place.cluster
    rule = {"name": "a", "from": [{"namespace": "default"}]}
    document: dict[str, Any] = {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": "later", "namespace": "default"},
        "spec": {"scope": "namespace", "rules": [rule]},
    }
    cluster.apply(document)
    more = ("patch", "allowlist", "later", "--type=merge", "--patch")
    ran = cluster.try_kubectl(*more, '{"extra": {"deep": [[]]}}')
    assert (ran.returncode, "unknown field 'extra'" in ran.stderr) == (1, True), ran.stderr
    # What only its metadata says is nobody's to judge: it must be possible to let go of a document that is wrong.
    cluster.kubectl(*more, '{"metadata": {"finalizers": ["shop.example/kept"]}}')
    cluster.kubectl(*more, '{"metadata": {"finalizers": null}}')
    cluster.kubectl("delete", "allowlist", "later")


def test_an_upgrade_makes_nothing_anew(place: Place) -> None:
    before, root = place.secrets(), place.root()
    words = ("--reuse-values", "--wait", "--timeout=180s", "--set=logLevel=debug")
    place.done("upgrade", "ringfence", str(CHART), f"--namespace={SYSTEM}", *words)
    assert (place.secrets(), place.root()) == (before, root)
    bundle = place.cluster.get("mutatingwebhookconfiguration", "ringfence")["webhooks"][0]["clientConfig"]["caBundle"]
    assert bundle


def test_the_chart_installed_again_finds_what_it_left(place: Place) -> None:
    before, root = place.secrets(), place.root()
    told = place.helm("uninstall", "ringfence", f"--namespace={SYSTEM}", "--wait")
    assert told.returncode == 0, told.stderr
    kept = place.cluster.kubectl("get", "crd", "--output=name")
    assert all(f"{plural(kind.name)}.{GROUP}" in kept for kind in KINDS)
    assert place.cluster.get("persistentvolumeclaim", "ringfence-data", f"--namespace={SYSTEM}")
    place.install()
    assert (place.secrets(), place.root()) == (before, root)


def test_a_lost_volume_is_told_and_mended_by_its_backup(place: Place) -> None:
    cluster = place.cluster
    before, root = place.secrets(), place.root()
    backup = cluster.folder / "backup.pem"
    backup.write_text(place.run("ca", "export", "--data", "/var/lib/ringfence/ca"))
    place.lose_volume()
    assert not (place.volume / "ca").exists()

    where = f"--namespace={SYSTEM}"
    cluster.kubectl("create", "secret", "generic", "ringfence-authority", f"--from-file=ca.pem={backup}", where)
    # It is in the volume again, so that the Secret may go.
    for secret in ("ringfence-authority", ""):
        more = ("--reuse-values", f"--set=ca.existingSecret={secret}", "--wait", "--timeout=180s")
        place.done("upgrade", "ringfence", str(CHART), where, *more)
        assert (place.secrets(), place.root()) == (before, root)
        assert (place.volume / "ca" / "root.pem").read_text() == root
