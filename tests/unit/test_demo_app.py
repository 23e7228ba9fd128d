"""What the demo keeps when something went wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.demo.app import _keep_log


def test_the_kept_log_goes_to_a_file_of_its_own_whatever_others_put_into_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common, log, precious = tmp_path / "common", tmp_path / "mesh.log", tmp_path / "precious"
    common.mkdir()
    log.write_text("what went wrong")
    precious.write_text("precious")
    (common / f"ringfence-demo-{os.getpid()}.log").symlink_to(precious)
    monkeypatch.setattr("tempfile.tempdir", str(common))
    _keep_log(log)
    assert precious.read_text() == "precious"
    (kept,) = [path for path in common.iterdir() if not path.is_symlink()]
    assert kept.read_text() == "what went wrong"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert str(kept) in capsys.readouterr().err
