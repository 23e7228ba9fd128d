"""What anybody may write as a document of a platform: it costs no other anything, and nothing opens by it."""

from __future__ import annotations

from typing import Final

from controlplane.hosting.judging import ReadingJudge
from controlplane.push.snapshots import Built, Inputs, build
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.closing import CLOSED_RULE
from ringfence.wire.convert import snapshot_from_wire, snapshot_to_wire
from tests.fuzz.target import Target, expect
from tests.pki import TestCa
from tests.platform_mesh import DOMAIN, mesh_of, service_of

_MESH: Final = mesh_of(
    service_of("shop/orders", 8080, 9000),
    service_of("shop/web", labels=(("tier", "edge"),)),
    service_of("bank/vault", 443),
)
_OTHER: Final = WrittenDocument(
    name="Allowlist/bank/other",
    content=b"apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: other, namespace: bank}\n"
    b"spec: {service: vault, rules: [{name: r, from: [{namespace: shop}]}]}",
)
_BUNDLE: Final = TestCa(DOMAIN).bundle()
_JUDGE: Final = ReadingJudge(source="cluster")
_ALONE: Final = _JUDGE.judge(Reading(mesh=_MESH, documents=(_OTHER,)), None, 1.8e9)


def hosted(data: bytes) -> None:
    """Judged as an allowlist and as a denylist of a namespace."""
    for kind in ("Allowlist", "Denylist"):
        name = f"{kind}/shop/any"
        document = WrittenDocument(name=name, content=data)
        judged = _JUDGE.judge(Reading(mesh=_MESH, documents=(document, _OTHER)), _ALONE, 1.8e9)
        policies = judged.configuration.policies
        expect(policies["bank/vault"] == _ALONE.configuration.policies["bank/vault"], "another namespace changed")
        for problem in judged.problems(name):
            expect(problem.file == name and "\n" not in str(problem), f"no line of its own: {problem}")
        in_force = judged.in_force(name) is not None
        expect(in_force != any(one.is_error for one in judged.problems(name)), "in force with an error, or out without")
        for service in ("shop/orders", "shop/web"):
            held = policies[service].policy.denylists if service in policies else ()
            closed = any(rule.name == CLOSED_RULE for one in held for rule in one.rules)
            expect(closed or in_force or kind != "Denylist", "a denylist is lost and nothing is closed")
        inputs = Inputs(
            mesh=_MESH, policies=policies, bundles=(_BUNDLE,), routes=judged.configuration.routes, pruned=True
        )
        for snapshot in build(inputs, Built()).contents.values():
            expect(snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot, "told again it is another")


TARGETS: Final = (Target(name="hosted", run=hosted),)
