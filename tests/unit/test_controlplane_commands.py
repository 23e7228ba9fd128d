"""What the control plane's flags come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.commands import _token_issuers


def test_the_authorities_of_token_issuers_are_found_where_the_link_leads_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "ca.pem").write_text(version)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "ca.pem").symlink_to("data/ca.pem")
    monkeypatch.chdir(tmp_path)
    rules = _token_issuers((), (), Path("ca.pem"))
    monkeypatch.chdir("/")
    assert Path(rules.ca_file).read_text() == "one"
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("two")
    assert Path(rules.ca_file).read_text() == "two", "as a mounted ConfigMap is renewed"
