"""Settings that contradict each other are told all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ca.errors import SettingsInvalid
from ca.settings import AuthoritySettings


def made(**changes: Any) -> AuthoritySettings:
    return AuthoritySettings(data_dir=Path("ca"), passphrase=b"swordfish!", **changes)


def test_the_defaults_are_an_hour_between_five_minutes_and_a_day() -> None:
    rules = made().lifetimes
    assert (rules.floor_seconds, rules.default_seconds, rules.ceiling_seconds) == (300, 3600, 86_400)
    assert rules.backdate_seconds == 60


def test_short_lifetimes_are_possible_once_the_floor_is_lowered() -> None:
    assert made(default_lifetime_seconds=10, floor_seconds=5).lifetimes.default_seconds == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"default_lifetime_seconds": 299},
        {"default_lifetime_seconds": 86_401},
        {"floor_seconds": 0},
        {"floor_seconds": 7200, "ceiling_seconds": 3600},
        {"ceiling_seconds": 91 * 86_400},
        {"backdate_seconds": -1},
        {"backdate_seconds": 3601},
    ],
)
def test_contradictions_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(SettingsInvalid):
        made(**changes)


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        made(floor_seconds=0, backdate_seconds=-1, ceiling_seconds=10)
    assert str(refusal.value).count("; ") == 2


def test_secrets_are_not_shown() -> None:
    shown = repr(made(database_url="postgresql://u:hunter2@h/d"))
    assert "swordfish" not in shown
    assert "hunter2" not in shown
