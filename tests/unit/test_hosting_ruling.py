"""What the root namespace refuses is refused in every namespace, whatever its documents rest on and whoever writes
beside them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane.hosting import spaces
from ringfence.platform import WrittenDocument
from ringfence.policy.bind import Surroundings
from ringfence.policy.bound import Binding
from ringfence.policy.written import PolicyDocument
from tests.unit.test_hosting_judging import GOOD_DENY, allow, closed, deny, judge, lists, texts, written

ROOT = "ringfence-system"
KEYS = (
    '{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": "OVApog4Kelp0C7KCU5SuSYh1SUCVPd94tbF8d8TAfMQ", '
    '"y": "c1RdWzkzTse1_Mzd_R-tOhNJSj-hptf4U5M0UbyXjYs"}]}'
)


def issuer(name: str, scope: str, namespace: str) -> WrittenDocument:
    spec = f"{{scope: {scope}, issuer: 'https://{name}.example', audiences: [shop], jwks: {{inline: '{KEYS}'}}}}"
    return written("TokenIssuer", name, spec, namespace)


def test_a_denylist_of_the_mesh_holds_everywhere_though_it_rests_on_anothers_document() -> None:
    callers = written("CallerSet", "bad", "{callers: [{service: bank/vault}]}", "bank")
    mesh_wide = deny("mesh", "[{name: d, from: [{callerSet: bank/bad}]}]", namespace=ROOT, scope="mesh")
    judged = judge(callers, mesh_wide, allow("a"))
    for service in ("shop/orders", "shop/web", "bank/vault"):
        assert f"Denylist {ROOT}/mesh" in lists(judged, service)
        assert not closed(judged, service)
    # Nor do documents of others stumble over it.
    assert "Allowlist shop/a" in lists(judged, "shop/orders")
    lost = judge(mesh_wide, allow("a"), before=judged)
    assert all(closed(lost, service) for service in ("shop/orders", "shop/web", "bank/vault"))


def test_a_namespace_cannot_crowd_out_a_token_issuer_of_the_mesh() -> None:
    rules = f"[{{name: a, from: [{{authenticated: true}}], token: {{issuers: [{ROOT}/login]}}}}]"
    ours = [
        issuer("login", "mesh", ROOT),
        written("Allowlist", "mesh", f"{{scope: mesh, rules: {rules}}}", ROOT),
        deny("mesh", GOOD_DENY, namespace=ROOT, scope="mesh"),
    ]
    crowd = [issuer(f"many-{number}", "namespace", "bank") for number in range(33)]
    judged = judge(*ours, *crowd)
    assert lists(judged, "bank/vault") == [f"Allowlist {ROOT}/mesh", f"Denylist {ROOT}/mesh"]
    assert f"{ROOT}/login" in [one.name for one in judged.configuration.policies["bank/vault"].issuers]
    assert any("more than" in text for one in crowd for text in texts(judged, one.name))


def test_a_denylist_of_the_mesh_that_cannot_be_bound_somewhere_closes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever one of the root namespace turns out to be wrong beside a namespace's own."""
    bind = spaces.bind

    def stumbling(documents: Iterable[PolicyDocument], surroundings: Surroundings) -> Binding:
        found = list(documents)
        ruling = [one for one in found if one.header.namespace == ROOT]
        if not ruling or set(surroundings.services) != {"shop/orders", "shop/web"}:
            return bind(found, surroundings)
        return Binding(policies={}, problems=(ruling[0].header.place.problem("wrong here", "mend it"),))

    monkeypatch.setattr(spaces, "bind", stumbling)
    judged = judge(deny("mesh", GOOD_DENY, namespace=ROOT, scope="mesh"), allow("a"))
    assert closed(judged, "shop/orders")
    assert closed(judged, "shop/web")
    assert not closed(judged, "bank/vault")
    # What a namespace wrote itself is not thrown away with it.
    assert "Allowlist shop/a" in lists(judged, "shop/orders")


def test_who_writes_too_many_documents_crowds_out_his_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.hosting.judging.DOCUMENT_LIMIT", 5)
    ours = [deny("mesh", GOOD_DENY, namespace=ROOT, scope="mesh"), allow("a"), deny("own", GOOD_DENY)]
    # Denylists and names that come before all others.
    crowd = [deny(f"a{number}", GOOD_DENY, namespace="bank") for number in range(9)]
    judged = judge(*crowd, *ours)
    assert all(judged.in_force(one.name) is not None for one in ours)
    assert not closed(judged, "shop/orders")
    # What his own that are left out would have refused is refused.
    assert closed(judged, "bank/vault")
    everywhere = [deny(f"m{number}", GOOD_DENY, namespace=ROOT, scope="mesh") for number in range(9)]
    assert closed(judge(*everywhere), "shop/orders")
