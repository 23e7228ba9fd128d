"""Every input that is kept passes, within its budget of work: seeds, and what was a finding once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.bounds import Bounds
from tests.fuzz.budget import TooMuchWorkError, within_budget
from tests.fuzz.mutation import fuzz, mutated
from tests.fuzz.registry import CORPUS, TARGETS, kept
from tests.fuzz.target import INPUT_LIMIT_BYTES, Finding, Target, expect

INPUTS = [(name, path) for name in TARGETS for path in kept(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_a_kept_input_passes_within_its_budget(name: str, path: Path) -> None:
    within_budget(TARGETS[name].run, path.read_bytes())


def test_every_folder_of_the_corpus_is_a_targets_and_its_inputs_are_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(0 < path.stat().st_size <= INPUT_LIMIT_BYTES for _, path in INPUTS)


def test_a_target_that_never_ends_is_stopped_by_its_budget() -> None:
    def run(_: bytes) -> None:
        while True:
            len(b"")

    with pytest.raises(TooMuchWorkError):
        within_budget(run, b"x")


def test_a_finding_is_written_down(tmp_path: Path) -> None:
    target = Target(name="no-nul", run=lambda data: expect(b"\0" not in data, "a NUL"))
    with pytest.raises(Finding):
        fuzz(target, [b"GET / HTTP/1.1"], Bounds(seconds=60.0, seed=1), tmp_path / "found")
    assert b"\0" in (tmp_path / "found").read_bytes()


def test_a_walk_ends_with_its_inputs_or_its_time(tmp_path: Path) -> None:
    target = Target(name="all", run=lambda data: None)
    assert fuzz(target, [b"a"], Bounds(seconds=60.0, inputs=7, seed=1), tmp_path / "found") == 7
    assert fuzz(target, [b"a"], Bounds(seconds=0.0, inputs=7, seed=1), tmp_path / "found") == 1


def test_mutations_of_the_same_chance_are_the_same() -> None:
    inputs = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]
    made = [[mutated(inputs, random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 40
