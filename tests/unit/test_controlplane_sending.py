"""What a workload must be told is read as its sidecar will read it, once for all who share it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.push.digests import Digests
from controlplane.push.revisions import Catalog
from controlplane.push.sending import Sendable
from controlplane.push.snapshots import Built, Inputs, build
from controlplane.push.workload_key import WorkloadKey
from controlplane.push.writing import SnapshotWriter
from ringfence.policy.bound import BoundPolicy
from ringfence.policy.bounds import LIST_LIMIT
from ringfence.policy.model import Allowlist, AuthenticatedCallers, Denylist, NamespaceCallers, PolicySet, Rule
from ringfence.snapshot import Snapshot
from ringfence.wire.convert import UPSTREAM_LIMIT, snapshot_from_wire, snapshot_to_wire
from tests.pki import TestCa
from tests.platform_mesh import DOMAIN, mesh_of, service_of

BUNDLE = TestCa(DOMAIN).bundle()
LIMIT = 1 << 20


def listed(name: str, path: str = "/a") -> Allowlist:
    rule = Rule(name="r", callers=(NamespaceCallers(namespace="a"),), paths=(path,))
    return Allowlist(namespace="a", name=name, rules=(rule,))


def contents(policy: PolicySet | None = None) -> dict[WorkloadKey, Snapshot]:
    mesh = mesh_of(service_of("a/x", 80, pods=2, host=1), service_of("a/y", 80, host=2))
    bound = {"a/x": BoundPolicy(policy=policy or PolicySet(allowlists=(listed("one"),)))}
    return dict(build(Inputs(mesh=mesh, policies=bound, bundles=(BUNDLE,), pruned=True), Built()).contents)


def catalog(snapshots: dict[WorkloadKey, Snapshot], revision: int = 1) -> Catalog:
    return Catalog(
        revision=revision, snapshots={key: replace(one, revision=revision) for key, one in snapshots.items()}
    )


NOTHING = Catalog(revision=0, snapshots={})


def test_sizes_are_those_of_whole_messages() -> None:
    found = contents()
    sizes = {key: snapshot_to_wire(one).ByteSize() for key, one in found.items()}
    slack = 1024 + 8 * 10
    assert not Sendable(max(sizes.values()) + slack).unsendable(catalog(found), NOTHING)
    told = Sendable(min(sizes.values()) - 1).unsendable(catalog(found), NOTHING)
    assert set(told) == set(found)
    assert all("is larger than" in text for text in told.values())


@pytest.mark.parametrize(
    "policy",
    [
        PolicySet(allowlists=(listed("one", "no-path"),)),
        PolicySet(allowlists=(listed("same"), listed("same", "/b"))),
        PolicySet(allowlists=tuple(listed(f"n{number}") for number in range(LIST_LIMIT + 1))),
        PolicySet(denylists=(Denylist(namespace="a", name="d", rules=(Rule(name="r", callers=()),)),)),
    ],
    ids=["part", "names", "count", "empty"],
)
def test_what_a_sidecar_would_refuse_is_found_in_each_that_shares_it(policy: PolicySet) -> None:
    found = contents(policy)
    told = Sendable(LIMIT).unsendable(catalog(found), NOTHING)
    assert {key.instance for key in told} == {"x-0", "x-1"}
    assert all("would be refused by its sidecar" in text for text in told.values())
    for key in told:
        with pytest.raises(ValueError, match=r".+"):
            snapshot_from_wire(snapshot_to_wire(found[key]))


def test_two_upstreams_at_one_address_are_found() -> None:
    found = contents()
    key = next(key for key in found if key.instance == "y-0")
    doubled = (*found[key].upstreams, replace(found[key].upstreams[0], service="other"))
    found[key] = replace(found[key], upstreams=doubled)
    (text,) = Sendable(LIMIT).unsendable(catalog(found), NOTHING).values()
    assert "port 80 is another's" in text


def test_what_was_found_wrong_is_found_again_and_what_was_sent_is_not_looked_at() -> None:
    sendable = Sendable(LIMIT)
    wrong = contents(PolicySet(allowlists=(listed("one", "no-path"),)))
    first = sendable.unsendable(catalog(wrong), NOTHING)
    assert sendable.unsendable(catalog(wrong, 2), catalog(wrong)) == first
    assert not sendable.unsendable(catalog(wrong), catalog(wrong))


def test_a_digest_tells_all_that_a_snapshot_says() -> None:
    digests = Digests()
    first = contents()
    seen = {digests.of(one) for one in first.values()}
    assert len(seen) == len(first)
    assert {Digests().of(replace(one, revision=9)) for one in first.values()} == seen
    one = next(iter(first.values()))
    others = [
        replace(one, allowlists=(listed("two"),)),
        replace(one, allowlists=(), denylists=(Denylist(namespace="a", name="one", rules=listed("one").rules),)),
        replace(one, shadow=PolicySet()),
        replace(one, shadow=PolicySet(allowlists=(listed("one"),))),
        replace(one, shadow=PolicySet(denylists=(Denylist(namespace="a", name="one", rules=listed("one").rules),))),
        replace(one, observe_until=1.0),
        replace(one, upstreams=one.upstreams[:1]),
        replace(one, upstreams=tuple(reversed(one.upstreams))),
        replace(one, upstreams=(replace(one.upstreams[0], endpoints=()), *one.upstreams[1:])),
        replace(one, workload=replace(one.workload, labels=(("a", "b"),))),
    ]
    end = one.upstreams[0].endpoints[0]
    for changed in (replace(end, ready=False), replace(end, port=1)):
        upstream = replace(one.upstreams[0], endpoints=(changed, *one.upstreams[0].endpoints[1:]))
        others.append(replace(one, upstreams=(upstream, *one.upstreams[1:])))
    found = [digests.of(other) for other in others]
    assert len({digests.of(one), *found}) == len(others) + 1
    digests.turn()
    assert [digests.of(other) for other in others] == [digests.aside().of(other) for other in others] == found


def test_what_is_written_of_shared_parts_is_the_message_of_the_whole() -> None:
    writer = SnapshotWriter()
    found = list(contents().values())
    denied = Denylist(namespace="a", name="d", rules=listed("one").rules)
    found.append(replace(found[0], denylists=(denied,), shadow=PolicySet(allowlists=(listed("tried"),))))
    found.append(replace(found[0], upstreams=(), allowlists=()))
    for _ in range(2):
        assert [writer.message(one) for one in found] == [snapshot_to_wire(one) for one in found]


def test_no_namespace_takes_the_place_of_others_in_what_a_workload_is_told() -> None:
    crowd = [service_of(f"aaa/s{number}", 80, pods=0, host=number) for number in range(UPSTREAM_LIMIT)]
    mesh = mesh_of(*crowd, service_of("own/x", 80, host=2000), service_of("zzz/y", 80, host=2001))
    everybody = Rule(name="r", callers=(AuthenticatedCallers(),))
    bound = BoundPolicy(policy=PolicySet(allowlists=(Allowlist(namespace="n", name="l", rules=(everybody,)),)))
    policies = {service.full_name: bound for service in mesh.services}
    found = build(Inputs(mesh=mesh, policies=policies, bundles=(BUNDLE,), pruned=True), Built()).contents
    told = {
        f"{one.namespace}/{one.service}" for one in found[WorkloadKey(mesh.services[-2].spiffe_id, "x-0")].upstreams
    }
    assert len(told) == UPSTREAM_LIMIT
    assert {"own/x", "zzz/y"} <= told
