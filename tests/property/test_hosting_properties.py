"""Judging upon what was found before finds what judging from nothing does, and no namespace reaches another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.hosting.judging import Judged, ReadingJudge
from ringfence.mesh import Mesh
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.bound import BoundPolicy
from tests.platform_mesh import mesh_of, service_of

NAMESPACES = ["a", "b", "ringfence-system"]
NOW = 1.8e9
SELECTORS = st.sampled_from(
    ["service: x", "service: y", "service: gone", "scope: namespace", "scope: mesh", "labels: {tier: edge}"]
)
CALLERS = st.sampled_from(
    [
        "{service: x}",
        "{service: b/y}",
        "{callerSet: s}",
        "{callerSet: b/s}",
        "{namespace: a}",
        "{serviceLabels: {tier: edge}}",
    ]
)
TO = st.sampled_from(
    ["", ", to: {ports: [80]}", ", to: {ports: [9]}", ", to: {roles: [r]}", ", to: {roles: [a/r]}", ", bad: 1"]
)
SET = st.sampled_from(["{service: x}", "{namespace: b}", "x y"])
PERMISSION = st.sampled_from(["methods: [GET]", "ports: [80]", "nonsense: 1"])
ROLE = st.sampled_from(["r", "a/r", "b/r"])
PORT = st.sampled_from([80, 81])
DESTINATION = st.sampled_from(["hosts: [a.example]", "host: a"])


@st.composite
def documents(draw: st.DrawFn) -> WrittenDocument:
    namespace = draw(st.sampled_from(NAMESPACES))
    kind = draw(st.sampled_from(["Allowlist", "Denylist", "CallerSet", "Role", "RoleBinding", "Route", "Egress"]))
    name = {"CallerSet": "s", "Role": "r"}.get(kind) or draw(st.sampled_from("pq"))
    selector, caller, to = draw(SELECTORS), draw(CALLERS), draw(TO)
    spec = {
        "Allowlist": f"{{{selector}, rules: [{{name: r, from: [{caller}]{to}}}]}}",
        "Denylist": f"{{{selector}, rules: [{{name: r, from: [{caller}]{to}}}]}}",
        "CallerSet": f"{{callers: [{draw(SET)}]}}",
        "Role": f"{{permissions: [{{name: g, {draw(PERMISSION)}}}]}}",
        "RoleBinding": f"{{{selector}, roles: [{draw(ROLE)}], from: [{caller}]}}",
        "Route": f"{{service: {draw(st.sampled_from('xyz'))}, ports: [{draw(PORT)}], maxAge: 60s}}",
        "Egress": f"{{{selector}, rules: [{{name: e, {draw(DESTINATION)}}}]}}",
    }[kind]
    head = f"apiVersion: ringfence.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return WrittenDocument(name=f"{kind}/{namespace}/{name}", content=f"{head}spec: {spec}\n".encode())


LISTS = st.lists(documents(), max_size=8, unique_by=lambda one: one.name)


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    names = draw(st.lists(st.sampled_from(["a/x", "a/y", "b/x", "b/y"]), unique=True))
    return mesh_of(
        *(
            service_of(
                name,
                80,
                labels=draw(st.sampled_from([(), (("tier", "edge"),)])),
                pods=draw(st.integers(0, 1)),
                account=draw(st.sampled_from(["", "shared"])),
            )
            for name in names
        )
    )


READINGS = st.builds(lambda mesh, found: Reading(mesh=mesh, documents=tuple(found)), meshes(), LISTS)


def told(judged: Judged) -> object:
    configuration = judged.configuration
    return (
        configuration.policies,
        configuration.routes,
        configuration.warnings,
        {name: judged.problems(name) for name in judged.written},
        {name: one.written for name, one in judged.good.items()},
    )


@given(st.lists(READINGS, min_size=2, max_size=4))
def test_upon_what_was_found_before_the_same_is_found(readings: list[Reading]) -> None:
    judge = ReadingJudge(source="cluster")
    before: Judged | None = None
    for reading in readings:
        good = {name: one.written for name, one in before.good.items()} if before is not None else {}
        judged = judge.judge(reading, before, NOW)
        assert told(judged) == told(judge.judge(reading, None, NOW, good))
        before = judged


def of_namespace(judged: Judged, namespace: str) -> dict[str, BoundPolicy]:
    return {name: one for name, one in judged.configuration.policies.items() if name.startswith(f"{namespace}/")}


@given(meshes(), LISTS, LISTS)
def test_what_is_written_in_one_namespace_is_nothing_to_another(
    mesh: Mesh, found: list[WrittenDocument], others: list[WrittenDocument]
) -> None:
    """But for what the other refers to of its own will: roles and caller sets."""

    def is_foreign(one: WrittenDocument) -> bool:
        kind, namespace, _ = one.name.split("/")
        return namespace == "a" and kind not in ("Role", "CallerSet")

    judge = ReadingJudge(source="cluster")
    kept = [one for one in found if not is_foreign(one)]
    names = {one.name for one in kept}
    mixed = [*kept, *(one for one in others if is_foreign(one) and one.name not in names)]
    alone = judge.judge(Reading(mesh=mesh, documents=tuple(kept)), None, NOW)
    beside = judge.judge(Reading(mesh=mesh, documents=tuple(mixed)), None, NOW)
    assert of_namespace(alone, "b") == of_namespace(beside, "b")
    assert [alone.problems(one.name) for one in kept] == [beside.problems(one.name) for one in kept]
