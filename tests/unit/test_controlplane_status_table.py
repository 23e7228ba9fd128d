"""The table of ``ringfence status``."""

from __future__ import annotations

import pytest

from controlplane.operate.status_table import show_duration, status_lines, table_lines

DOCUMENT = {
    "now": 1_800_000_000.0,
    "mesh": "shop",
    "trust_domain": "shop.example",
    "revision": 7,
    "configuration": {"file": "mesh.yaml", "in_force_since": 1_799_999_000.0, "allowlists": 3, "refused": None},
    "workloads": [
        {
            "service": "shop/web",
            "instance": None,
            "not_ready": None,
            "spiffe_id": "spiffe://shop.example/ns/shop/sa/web",
            "revision": 5,
            "sidecars": [],
        },
        {
            "service": "shop/orders",
            "instance": "b",
            "not_ready": {"reason": "its sidecar has not come yet", "ports": []},
            "spiffe_id": "spiffe://shop.example/ns/shop/sa/orders",
            "revision": 7,
            "sidecars": [],
        },
        {
            "service": "shop/orders",
            "instance": "a",
            "not_ready": {"reason": "draining", "ports": []},
            "spiffe_id": "spiffe://shop.example/ns/shop/sa/orders",
            "revision": 7,
            "sidecars": [
                {
                    "process": "a1",
                    "standing": "current",
                    "enforced_revision": 7,
                    "error": "",
                    "identity": {"serial": "ab", "not_after": 1_800_003_000.0},
                },
                {
                    "process": "b2",
                    "standing": "refused",
                    "enforced_revision": 0,
                    "error": "port 15008 is taken",
                    "identity": {"serial": "cd", "not_after": 1_799_999_990.0},
                },
            ],
        },
    ],
}


def test_table_tells_identity_revision_and_state() -> None:
    assert list(status_lines(DOCUMENT)) == [
        "mesh shop (shop.example), revision 7, 3 allowlists, in force since 2027-01-15 07:43:20Z",
        "",
        "SERVICE        SPIFFE ID                                SIDECAR  SVID ENDS IN     REVISION  STATE",
        "shop/web       spiffe://shop.example/ns/shop/sa/web     -        -                - of 5    never seen",
        "shop/orders/b  spiffe://shop.example/ns/shop/sa/orders  -        -                - of 7    "
        "never seen, not ready: its sidecar has not come yet",
        "shop/orders/a  spiffe://shop.example/ns/shop/sa/orders  a1       50m              7 of 7    "
        "up to date, not ready: draining",
        "shop/orders/a  spiffe://shop.example/ns/shop/sa/orders  b2       expired 10s ago  - of 7    "
        "refused: port 15008 is taken, not ready: draining",
    ]


def test_refused_change_is_told_with_its_problems() -> None:
    refused = {"at": 1_800_000_000.0, "problems": [{"text": "mesh.yaml:3:1: what (mend)"}]}
    document = {**DOCUMENT, "configuration": {**DOCUMENT["configuration"], "refused": refused}}  # type: ignore[dict-item]
    assert list(status_lines(document))[-2:] == [
        "the files were changed at 2027-01-15 08:00:00Z and refused; the revision above stays in force:",
        "  mesh.yaml:3:1: what (mend)",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59, "59s"), (60, "1m"), (3661, "1h 1m"), (3601, "1h 1s"), (90061, "1d 1h"), (864000, "10d")],
)
def test_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(table_lines([("a", "b"), ("ccc", "d")])) == ["a    b", "ccc  d"]
