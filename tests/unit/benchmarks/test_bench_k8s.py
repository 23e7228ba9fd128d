"""The rows of a run, and that the world that is written is one that an API server takes."""

from __future__ import annotations

from benchmarks.k8s import Measured, rows
from benchmarks.k8s_world import World, allowlist_rules, running


def test_each_figure_has_its_row_and_its_bar() -> None:
    found = Measured(
        admitted={"meshed": [0.02] * 99 + [0.2], "plain": [0.01] * 100},
        started={"meshed": [2.0, 3.0], "plain": [1.0, 1.0]},
        memory={"at rest": 120.0, "of a big cluster": 600.0},
        pushed=[0.5, 6.0],
    )
    made = {(row.metric, row.level): row for row in rows(found)}
    assert made["admission_ms", "p50"].ratio == 2.0
    assert made["admission_ms", "p50"].met is None
    assert made["ready_seconds", "one pod"].ratio == 2.5
    assert made["control_plane_mb", "at rest"].met
    assert made["control_plane_mb", "of a big cluster"].met is False
    assert made["push_seconds", "p50"].met
    assert made["push_seconds", "p99"].met is False


def test_addresses_are_of_one_pod_each_and_rules_name_services_that_there_are() -> None:
    world = World()
    addresses = [running(number)["podIP"] for number in range(world.pods)]
    assert len(set(addresses)) == world.pods
    assert all(int(part) <= 255 for address in addresses for part in address.split("."))
    known = {f"{world.namespace(one)}/{world.service(one)}" for one in range(world.services)}
    for number in (0, 7, world.services - 1):
        rules = allowlist_rules(world, number, path="/changed")
        assert len({rule["name"] for rule in rules}) == world.rules
        assert {rule["from"][0] for rule in rules} <= known
        assert rules[0]["to"]["paths"] == ["/changed"]


def test_a_part_of_a_world_keeps_its_namespaces_in_use() -> None:
    assert World().scaled(1) == World(services=20, pods=50, rules=20, namespaces=20)
