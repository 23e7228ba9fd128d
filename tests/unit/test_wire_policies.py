"""Policy over the wire: what is sent arrives, and each of its words is checked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from google.protobuf.message import Message

from ringfence.policy.model import PolicySet
from ringfence.policy.words import LIMIT_WHEN_CHARACTERS
from ringfence.wire import convert, policies
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire
from ringfence.wire.gen import control_pb2 as pb
from tests.wire_policies import Change, at, cleared, full_snapshot, put, repeated

RULE = "allowlists[0].rules[0]"


def test_all_that_a_policy_says_arrives() -> None:
    sent = full_snapshot()
    arrived = snapshot_from_wire(pb.Snapshot.FromString(snapshot_to_wire(sent).SerializeToString()))
    assert arrived == sent
    assert arrived.policy == sent.policy


def test_an_empty_shadow_is_another_thing_than_none() -> None:
    for shadow in (None, PolicySet()):
        sent = replace(full_snapshot(), shadow=shadow)
        assert snapshot_from_wire(pb.Snapshot.FromString(snapshot_to_wire(sent).SerializeToString())).shadow == shadow


def test_a_sender_that_knows_none_of_it_means_default_deny_by_allowlists() -> None:
    message = snapshot_to_wire(full_snapshot())
    for name in ("denylists", "observe_until", "shadow", "token_issuers"):
        message.ClearField(name)
    message.workload.ClearField("labels")
    arrived = snapshot_from_wire(message)
    assert arrived.policy == PolicySet(allowlists=full_snapshot().allowlists)
    assert (arrived.shadow, arrived.token_issuers, arrived.workload.labels) == (None, (), ())


REFUSED: list[tuple[str, Change]] = [
    ("workload.labels", repeated("workload.labels", convert.LABEL_LIMIT + 1)),
    ("workload.labels[1]", repeated("workload.labels")),
    ("workload.labels", put("workload.labels[0].key", "zone")),
    ("workload.labels[0].key", put("workload.labels[0].key", "")),
    ("workload.labels[0].key", put("workload.labels[0].key", "app_example/tier")),
    ("workload.labels[0].key", put("workload.labels[0].key", "a/b/c")),
    ("workload.labels[0].value", put("workload.labels[0].value", "b" * 64)),
    ("workload.labels[0].value", put("workload.labels[0].value", "pii\n")),
    ("observe_until", put("observe_until", float("nan"))),
    ("observe_until", put("observe_until", float("inf"))),
    ("observe_until", put("observe_until", 0.0)),
    ("observe_until", put("observe_until", -1.0)),
    ("shadow.observe_until", put("shadow.observe_until", 1e300)),
    ("denylists[1]", repeated("denylists")),
    ("shadow.denylists[1]", repeated("shadow.denylists")),
    ("shadow.allowlists[1]", repeated("shadow.allowlists")),
    ("denylists", repeated("denylists", policies.LIST_LIMIT + 1)),
    ("denylists[0].name", put("denylists[0].name", "")),
    ("denylists[0].rules[1]", repeated("denylists[0].rules")),
    ("denylists[0].rules[0].from", cleared("denylists[0].rules[0].from")),
    ("denylists[0].rules[0].token", lambda message: message.denylists[0].rules[0].token.SetInParent()),
    ("shadow.denylists[0].rules[0].token", lambda message: message.shadow.denylists[0].rules[0].token.SetInParent()),
    (f"{RULE}.name", put(f"{RULE}.name", "a" * 321)),
    (f"{RULE}.from", repeated(f"{RULE}.from", policies.CALLER_LIMIT + 1)),
    (f"{RULE}.from[0]", cleared(f"{RULE}.from[0].spiffe_id")),
    (f"{RULE}.from[1]", put(f"{RULE}.from[1].authenticated", False)),
    (f"{RULE}.from[0].cidrs[0]", put(f"{RULE}.from[0].cidrs[0]", "10.1.0.0")),
    (f"{RULE}.from[0].cidrs[0]", put(f"{RULE}.from[0].cidrs[0]", "10.1.0.1/16")),
    (f"{RULE}.from[0].cidrs[1]", put(f"{RULE}.from[0].cidrs[1]", "2001:db8::1/32")),
    (f"{RULE}.from[0].cidrs[1]", repeated(f"{RULE}.from[0].cidrs")),
    (f"{RULE}.from[0].cidrs", repeated(f"{RULE}.from[0].cidrs", policies.WORD_LIMIT + 1)),
    (f"{RULE}.hosts[0]", put(f"{RULE}.hosts[0]", "Orders.shop.example")),
    (f"{RULE}.hosts[0]", put(f"{RULE}.hosts[0]", "orders.shop.example:8080")),
    (f"{RULE}.hosts[1]", put(f"{RULE}.hosts[1]", "*")),
    (f"{RULE}.headers[0].name", put(f"{RULE}.headers[0].name", "X-Tenant")),
    (f"{RULE}.headers[0].name", put(f"{RULE}.headers[0].name", ":path")),
    (f"{RULE}.headers[0].name", put(f"{RULE}.headers[0].name", "")),
    (f"{RULE}.headers[0].values[0]", put(f"{RULE}.headers[0].values[0]", "a\r\nx: y")),
    (f"{RULE}.headers[0].values[0]", put(f"{RULE}.headers[0].values[0]", " a")),
    (f"{RULE}.headers[0].values[0]", put(f"{RULE}.headers[0].values[0]", "ä")),
    (f"{RULE}.headers[0].values[0]", put(f"{RULE}.headers[0].values[0]", "")),
    (f"{RULE}.headers[0]", put(f"{RULE}.headers[0].absent", True)),
    (f"{RULE}.grpc[0].service", put(f"{RULE}.grpc[0].service", "shop.v1.Orders/Get")),
    (f"{RULE}.grpc[0].service", put(f"{RULE}.grpc[0].service", "")),
    (f"{RULE}.grpc[0].service", put(f"{RULE}.grpc[0].service", ".Orders")),
    (f"{RULE}.grpc[0].method", put(f"{RULE}.grpc[0].method", "*")),
    (f"{RULE}.grpc[0].method", put(f"{RULE}.grpc[0].method", "Get/..")),
    (f"{RULE}.when", put(f"{RULE}.when", "a" * (LIMIT_WHEN_CHARACTERS + 1))),
    (f"{RULE}.when", put(f"{RULE}.when", "true\x00")),
    (f"{RULE}.when", put(f"{RULE}.when", "true\u2028")),
    (f"{RULE}.when", put(f"{RULE}.when", " \n")),
]


@pytest.mark.parametrize(
    ("path", "change"), REFUSED, ids=[f"{number}-{path}" for number, (path, _) in enumerate(REFUSED)]
)
def test_what_does_not_hold_together_is_refused_with_its_path(path: str, change: Change) -> None:
    message = snapshot_to_wire(full_snapshot())
    change(message)
    with pytest.raises(WireError) as caught:
        snapshot_from_wire(message)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 400


def test_the_rules_of_both_kinds_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    message = snapshot_to_wire(full_snapshot())
    monkeypatch.setattr(policies, "RULE_LIMIT", 3)
    snapshot_from_wire(message)
    monkeypatch.setattr(policies, "RULE_LIMIT", 2)
    with pytest.raises(WireError, match=r"^allowlists: more than 2 rules"):
        snapshot_from_wire(message)


UNKNOWN_FIELD = b"\x9a\x06\x04else"  # number 99, four bytes of text


@pytest.mark.parametrize(
    "path",
    [
        "denylists[0]",
        "denylists[0].rules[0]",
        "shadow",
        "shadow.allowlists[0].rules[0]",
        f"{RULE}.from[0]",
        f"{RULE}.headers[0]",
        f"{RULE}.grpc[0]",
        f"{RULE}.token",
        f"{RULE}.token.claims[0]",
        "workload.labels[0]",
        "token_issuers[0]",
        "token_issuers[0].claim_headers[0]",
        "token_issuers[1].introspection",
    ],
)
def test_what_a_newer_control_plane_says_more_is_refused_at_any_depth(path: str) -> None:
    message = snapshot_to_wire(full_snapshot())
    part = at(path, message)
    assert isinstance(part, Message)
    part.MergeFromString(UNKNOWN_FIELD)
    with pytest.raises(WireError, match="this version does not know"):
        snapshot_from_wire(pb.Snapshot.FromString(message.SerializeToString()))


@pytest.mark.parametrize("pick", [lambda message: message, lambda message: message.shadow])
def test_what_must_never_be_read_as_any_is_missing_without_its_message(pick: Callable[[pb.Snapshot], object]) -> None:
    message = snapshot_to_wire(full_snapshot())
    for rule in pick(message).allowlists[0].rules:  # type: ignore[attr-defined]
        for callers in getattr(rule, "from"):
            callers.ClearField("cidrs")
            callers.ClearField("authenticated")
            callers.ClearField("unauthenticated")
    with pytest.raises(WireError, match=r"from\[1\]: names nobody"):
        snapshot_from_wire(message)
