"""One change at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.redirect.errors import RedirectError
from sidecar.redirect.turn import taken_turn


def test_a_second_change_waits_and_then_says_so(tmp_path: Path) -> None:
    handle = tmp_path / "net"
    handle.touch()
    with (
        taken_turn(handle),
        pytest.raises(RedirectError, match="another process is changing the redirect rules"),
        taken_turn(handle, deadline_seconds=0.1),
    ):
        pytest.fail("two changes at once")
    with taken_turn(handle, deadline_seconds=0.0):
        pass


def test_the_kernels_handle_on_the_namespace_can_be_held() -> None:
    with taken_turn():
        pass


def test_without_proc_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(RedirectError, match="is /proc mounted"), taken_turn(tmp_path / "missing"):
        pass
