"""Documents of a platform are judged one by one: what is wrong costs nobody else anything, and never opens anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.hosting.judging import Judged, ReadingJudge
from controlplane.hosting.standings import Enforcement, standings_of, tally
from ringfence.mesh import Mesh, Service, ServicePort
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.closing import CLOSED_RULE
from ringfence.policy.model import Denylist
from ringfence.snapshot import Protocol
from tests.platform_mesh import mesh_of, service_of

NOW = 1_800_000_000.0


def written(kind: str, name: str, spec: str, namespace: str = "shop", version: str = "1") -> WrittenDocument:
    lines = [
        "apiVersion: ringfence.io/v1alpha1",
        f"kind: {kind}",
        f"metadata: {{name: {name}, namespace: {namespace}}}",
        f"spec: {spec}",
    ]
    return WrittenDocument(name=f"{kind}/{namespace}/{name}", content="\n".join(lines).encode(), version=version)


def allow(
    name: str, service: str = "orders", *, caller: str = "web", namespace: str = "shop", more: str = ""
) -> WrittenDocument:
    rules = f"[{{name: a, from: [{{service: {caller}}}]{more}}}]"
    return written("Allowlist", name, f"{{service: {service}, rules: {rules}}}", namespace)


def deny(
    name: str, rules: str, *, namespace: str = "shop", scope: str = "namespace", version: str = "1"
) -> WrittenDocument:
    return written("Denylist", name, f"{{scope: {scope}, rules: {rules}}}", namespace, version)


GOOD_DENY = "[{name: d, from: [{anyone: true}], to: {ports: [8080]}}]"
BAD_DENY = "[{name: d, from: [{anyone: true}], to: {prts: [8080]}}]"


def mesh(*more: Service) -> Mesh:
    return mesh_of(service_of("shop/orders", 8080), service_of("shop/web"), service_of("bank/vault", 8080), *more)


def judge(
    *documents: WrittenDocument,
    before: Judged | None = None,
    of: Mesh | None = None,
    good: dict[str, WrittenDocument] | None = None,
) -> Judged:
    return ReadingJudge(source="cluster").judge(Reading(mesh=of or mesh(), documents=documents), before, NOW, good)


def lists(judged: Judged, service: str) -> list[str]:
    bound = judged.configuration.policies.get(service)
    if bound is None:
        return []
    return [f"{type(one).__name__} {one.full_name}" for one in (*bound.policy.allowlists, *bound.policy.denylists)]


def texts(judged: Judged, name: str) -> list[str]:
    return [str(problem) for problem in judged.problems(name)]


def test_one_wrong_document_costs_no_other() -> None:
    judged = judge(allow("good"), allow("bad", more=", to: {mthods: [GET]}"))
    assert lists(judged, "shop/orders") == ["Allowlist shop/good"]
    (text,) = texts(judged, "Allowlist/shop/bad")
    assert text.startswith("Allowlist/shop/bad:4:")
    assert not texts(judged, "Allowlist/shop/good")


def test_a_document_that_becomes_wrong_stands_as_it_stood() -> None:
    first = judge(allow("a"))
    worse = judge(allow("a", more=", to: {mthods: [GET]}"), before=first)
    assert lists(worse, "shop/orders") == ["Allowlist shop/a"]
    assert texts(worse, "Allowlist/shop/a")
    assert worse.in_force("Allowlist/shop/a") is first.in_force("Allowlist/shop/a")
    still = judge(allow("a", more=", to: {mthods: [PUT]}"), before=worse)
    assert lists(still, "shop/orders") == ["Allowlist shop/a"]
    gone = judge(before=still)
    assert lists(gone, "shop/orders") == []


def test_what_stood_in_an_earlier_life_stands_in_this_one() -> None:
    bad = deny("none", BAD_DENY, version="2")
    judged = judge(bad, good={"Denylist/shop/none": deny("none", GOOD_DENY)})
    assert lists(judged, "shop/orders") == ["Denylist shop/none"]
    # And is not asked for once this life has judged the document itself.
    without = judge(before=judged)
    again = judge(bad, before=without, good={})
    assert closed(again, "shop/orders")


def closed(judged: Judged, service: str) -> bool:
    bound = judged.configuration.policies.get(service)
    held: tuple[Denylist, ...] = bound.policy.denylists if bound is not None else ()
    return any(rule.name == CLOSED_RULE for one in held for rule in one.rules)


@pytest.mark.parametrize(
    "bad",
    [
        deny("none", BAD_DENY),
        WrittenDocument(name="Denylist/shop/none", content=b"\xff{"),
        WrittenDocument(name="Denylist/shop/none", content=deny("other", GOOD_DENY).content),
        deny("none", "[{name: d, from: [{callerSet: nowhere}]}]"),
        WrittenDocument(name="Denylist/shop/none", content=b"# " + b"x" * 2_000_000),
    ],
    ids=["field", "bytes", "name", "reference", "huge"],
)
def test_a_denylist_without_a_good_version_closes_what_it_could_speak_of(bad: WrittenDocument) -> None:
    judged = judge(bad, allow("a"))
    assert closed(judged, "shop/orders")
    assert closed(judged, "shop/web")
    assert not closed(judged, "bank/vault")
    assert any("every service of namespace shop refuses everybody" in text for text in texts(judged, bad.name))
    root = WrittenDocument(name=bad.name.replace("/shop/", "/ringfence-system/"), content=b"kind: Denylist")
    everywhere = judge(root, allow("a"))
    assert all(closed(everywhere, name) for name in ("shop/orders", "shop/web", "bank/vault"))
    mended = judge(deny("none", GOOD_DENY), allow("a"), before=judged)
    assert not closed(mended, "shop/orders")
    assert not closed(judge(allow("a"), before=judged), "shop/orders")


def test_a_document_speaks_of_its_own_namespace_alone() -> None:
    judged = judge(
        written("Allowlist", "wide", "{scope: mesh, rules: [{name: a, from: [{authenticated: true}]}]}"),
        written(
            "Allowlist", "wide", "{scope: mesh, rules: [{name: a, from: [{authenticated: true}]}]}", "ringfence-system"
        ),
        deny("all", GOOD_DENY, namespace="bank"),
    )
    assert lists(judged, "bank/vault") == ["Allowlist ringfence-system/wide", "Denylist bank/all"]
    assert lists(judged, "shop/orders") == ["Allowlist ringfence-system/wide"]
    assert "scope mesh" in texts(judged, "Allowlist/shop/wide")[0]


def test_a_document_is_what_its_name_says() -> None:
    judged = judge(WrittenDocument(name="Allowlist/bank/a", content=allow("a").content))
    assert lists(judged, "shop/orders") == lists(judged, "bank/vault") == []
    assert "says that it is Allowlist 'shop/a'" in texts(judged, "Allowlist/bank/a")[0]
    two = WrittenDocument(name="Allowlist/shop/a", content=allow("a").content + b"\n---\n" + allow("b").content)
    assert lists(judge(two), "shop/orders") == []


def test_what_is_not_there_yet_is_a_warning_and_names_nobody() -> None:
    early = [
        allow("to-nowhere", service="later"),
        allow("from-nowhere", caller="later"),
        allow("port", more=", to: {ports: [9999]}"),
        written("Route", "r", "{service: later, timeouts: {connect: 1s}}"),
        deny("d", "[{name: x, from: [{service: later}]}]"),
    ]
    first = judge(*early)
    for one in early:
        assert not any(problem.is_error for problem in first.problems(one.name))
        assert first.problems(one.name)
        assert first.in_force(one.name) is not None
    told = first.configuration.policies["shop/orders"].policy
    assert {one.full_name: len(one.rules) for one in told.allowlists} == {"shop/from-nowhere": 0, "shop/port": 1}
    later = judge(*early, before=first, of=mesh(service_of("shop/later", 9999)))
    assert "Allowlist shop/to-nowhere" in lists(later, "shop/later")
    held = later.configuration.policies["shop/orders"].policy
    assert all(one.rules for one in (*held.allowlists, *held.denylists))
    assert "shop/later" in later.configuration.routes


def test_roles_of_other_namespaces_are_found_and_their_loss_is_told() -> None:
    role = written("Role", "reader", "{permissions: [{name: get, methods: [GET]}]}", "bank")
    binding = written("RoleBinding", "b", "{service: orders, roles: [bank/reader], from: [{service: web}]}")
    judged = judge(role, binding)
    assert lists(judged, "shop/orders") == ["Allowlist shop/b"]
    lost = judge(binding, before=judged)
    assert lists(lost, "shop/orders") == []
    assert "bank/reader" in texts(lost, "RoleBinding/shop/b")[0]


def test_a_namespace_cannot_crowd_out_a_denylist_of_the_mesh() -> None:
    mesh_wide = deny("mesh", GOOD_DENY, namespace="ringfence-system", scope="mesh")
    crowd = [
        written(
            "Allowlist",
            f"many-{number}",
            "{service: orders, rules: ["
            + ", ".join(f"{{name: r{rule}, from: [{{service: web}}]}}" for rule in range(900))
            + "]}",
        )
        for number in range(12)
    ]
    judged = judge(mesh_wide, *crowd, deny("own", GOOD_DENY))
    held = lists(judged, "shop/orders")
    assert "Denylist ringfence-system/mesh" in held
    assert "Denylist shop/own" in held
    assert not closed(judged, "shop/orders")
    assert any(texts(judged, one.name) for one in crowd)


def test_what_did_not_change_is_not_bound_again() -> None:
    documents = [allow("a"), deny("all", GOOD_DENY, namespace="bank")]
    first = judge(*documents)
    again = judge(*documents, before=first)
    assert all(again.spaces[name] is first.spaces[name] for name in first.spaces)
    changed = judge(allow("a", more=", to: {methods: [GET]}"), documents[1], before=first)
    assert changed.spaces["bank"] is first.spaces["bank"]
    assert changed.configuration.policies["bank/vault"] is first.configuration.policies["bank/vault"]
    moved = mesh(service_of("bank/new", 8080))
    assert judge(*documents, before=first, of=moved).spaces["shop"] is first.spaces["shop"]


def test_who_stands_behind_a_name_is_looked_at_each_time() -> None:
    first = judge(allow("a", caller="bank/vault"))
    services = list(mesh().services)
    other = services[2].spiffe_id.parse("spiffe://shop.example/ns/bank/sa/other")
    services[2] = replace(services[2], instances=(replace(services[2].instances[0], spiffe_id=other),))
    moved = judge(allow("a", caller="bank/vault"), before=first, of=mesh_of(*services))
    (rule,) = moved.configuration.policies["shop/orders"].policy.allowlists[0].rules
    assert [str(one) for one in rule.callers] != [
        str(one) for one in first.configuration.policies["shop/orders"].policy.allowlists[0].rules[0].callers
    ]


def test_documents_name_no_files_of_the_control_plane() -> None:
    spec = (
        "{scope: namespace, issuer: https://idp.example, audiences: [shop], "
        "introspection: {url: https://idp.example/i, clientId: x, clientSecretFile: /etc/passwd}}"
    )
    judged = judge(written("TokenIssuer", "i", spec))
    assert judged.in_force("TokenIssuer/shop/i") is None
    assert texts(judged, "TokenIssuer/shop/i")
    assert not judged.configuration.issuer_needs.secrets


def test_ports_are_those_of_workloads() -> None:
    port = ServicePort(port=80, protocol=Protocol.HTTP, target=8080)
    api = replace(service_of("shop/api", 80), ports=(port,))
    judged = judge(allow("a", service="api", more=", to: {ports: [8080]}"), of=mesh(api))
    assert not judged.problems("Allowlist/shop/a")
    wrong = judge(allow("a", service="api", more=", to: {ports: [80]}"), of=mesh(api))
    (told,) = texts(wrong, "Allowlist/shop/a")
    assert "has no port 80 (callers dial 80, but its workloads listen on 8080: write that)" in told
    route = written("Route", "r", "{service: api, ports: [80], maxAge: 60s}")
    assert "workloads listen on 8080" in texts(judge(route, of=mesh(api)), "Route/shop/r")[0]


def test_more_documents_than_are_read_are_told_and_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.hosting.judging.DOCUMENT_LIMIT", 2)
    judged = judge(allow("a"), allow("b"), deny("d", GOOD_DENY))
    assert lists(judged, "shop/orders") == ["Allowlist shop/a", "Denylist shop/d"]
    enforcement = Enforcement(workloads={}, waiting={})
    assert not standings_of(judged, enforcement)["Allowlist/shop/b"].accepted
    assert tally(judged) == {"in_force": 2, "stood_in": 0, "left_out": 1}
    many = judge(*(deny(name, GOOD_DENY) for name in ("d", "e", "f")))
    assert closed(many, "shop/orders")
    # Whoever writes too many closes his own.
    assert not closed(many, "bank/vault")
