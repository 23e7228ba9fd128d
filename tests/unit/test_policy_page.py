"""What the admin socket shows of a policy."""

from __future__ import annotations

import json
from dataclasses import replace

from ringfence.snapshot import Port, PortMode, Protocol
from sidecar.policy_page import policy_shown
from tests.wire_policies import SECRET, full_snapshot


def test_lists_are_shown_by_name_and_issuers_without_their_secret() -> None:
    shown = policy_shown(full_snapshot())
    assert shown["denylists"] == ["ringfence-system/no-admin"]
    assert shown["observe_until"] == 1_800_000_000.5
    assert shown["shadow"] == {
        "allowlists": ["shop/orders-callers"],
        "denylists": ["ringfence-system/no-admin"],
        "observe_until": 1_900_000_000.0,
    }
    text = json.dumps(shown)
    assert "https://staff.example:8443/introspect" in text
    assert SECRET not in text


def test_what_each_port_lets_in_is_shown() -> None:
    snapshot = full_snapshot()
    port = Port(
        port=8080,
        protocol=Protocol.HTTP,
        address="127.0.0.1",
        app_host="127.0.0.1",
        app_port=9002,
        mode=PortMode.PERMISSIVE,
    )
    snapshot = replace(snapshot, workload=replace(snapshot.workload, ports=(port,)))
    assert policy_shown(snapshot)["ports"] == [{"port": 8080, "protocol": "http", "mode": "permissive"}]


def test_without_a_snapshot_nothing_is_in_force() -> None:
    assert policy_shown(None) == {
        "allowlists": [],
        "denylists": [],
        "observe_until": None,
        "ports": [],
        "shadow": None,
        "token_issuers": [],
    }
