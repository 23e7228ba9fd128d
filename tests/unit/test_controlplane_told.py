"""What each workload was told at its last revisions."""

from __future__ import annotations

from dataclasses import replace

from controlplane.push.told import KEPT_REVISIONS, TellingMemory, told_of
from controlplane.push.workload_key import WorkloadKey
from ringfence.policy.model import PolicySet
from tests.wire_policies import full_snapshot

KEY = WorkloadKey(full_snapshot().workload.spiffe_id)


def test_documents_are_told_by_name_and_those_of_the_shadow_apart() -> None:
    snapshot = full_snapshot()
    told = told_of(snapshot)
    assert (told.allowlists, told.denylists) == (("shop/orders-callers",), ("ringfence-system/no-admin",))
    assert (told.shadow_allowlists, told.shadow_denylists) == ((), ())  # the same documents, in force already
    assert told.token_issuers == ("shop/login", "ringfence-system/staff")
    other = replace(snapshot.allowlists[0], rules=snapshot.allowlists[0].rules[:1])
    changed = told_of(replace(snapshot, shadow=PolicySet(allowlists=(other,))))
    assert changed.shadow_allowlists == ("shop/orders-callers",)


def test_the_last_revisions_are_remembered_and_workloads_that_are_gone_are_not() -> None:
    memory, snapshot = TellingMemory(), full_snapshot()
    for revision in range(1, KEPT_REVISIONS + 2):
        memory.keep({KEY: replace(snapshot, revision=revision)})
    assert memory.of(KEY, 1) is None
    assert memory.of(KEY, 2) == memory.of(KEY, KEPT_REVISIONS + 1) == told_of(snapshot)
    assert memory.of(KEY, KEPT_REVISIONS + 2) is None
    memory.keep({})
    assert memory.of(KEY, 2) is None
