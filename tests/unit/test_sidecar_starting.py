"""``python -m sidecar``: flags as supervisors write them are read as the command itself reads them."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sidecar import commands
from sidecar.settings_sources import SETTINGS
from sidecar.starting import plain_flags

WORDS = st.lists(
    st.sampled_from(
        [f"--{setting.key}" for setting in SETTINGS[:4]]
        + ["--config", "--print-config", "--join=a:1", "--", "-h", "--help", "", "a", "-", "--stat"]
    ),
    max_size=8,
)


def as_the_command_reads(words: list[str]) -> dict[str, str] | None:
    """What click makes of ``words``, with nothing but settings in it; None: it refuses them."""
    taken: list[dict[str, str]] = []

    def take(config: object, flags: dict[str, str | None]) -> int:
        assert config is None
        taken.append({key: value for key, value in flags.items() if value is not None})
        return 0

    with patch.object(commands, "run_or_tell", take):
        CliRunner().invoke(commands.sidecar, words)
    return taken[0] if taken else None


@given(WORDS)
def test_what_is_read_plainly_the_command_reads_the_same(words: list[str]) -> None:
    plain = plain_flags(words)
    if plain is not None:
        assert plain == as_the_command_reads(words)


def test_flags_and_their_values_are_plain() -> None:
    assert plain_flags(["--join", "127.0.0.1:7401", "--state", "--x"]) == {"join": "127.0.0.1:7401", "state": "--x"}
    assert plain_flags([]) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["--state"],
        ["--state", "a", "--state", "b"],
        ["--state=a"],
        ["--stat", "a"],
        ["--config", "file"],
        ["--state", "a", "--print-config"],
        ["a", "--state"],
        ["-h"],
        ["--unheard-of", "a"],
    ],
)
def test_all_else_is_left_to_the_command(words: list[str]) -> None:
    assert plain_flags(words) is None
