"""Which programs a flavour of iptables takes, and what is read of a legacy table that is not in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.redirect.errors import BackendUnsupported, RedirectError
from sidecar.redirect.iptables_backend import Flavour, IptablesBackend

SAVED = "*nat\\n:RINGFENCE_INBOUND - [0:0]\\n-A PREROUTING -p tcp -j RINGFENCE_INBOUND\\nCOMMIT\\n"


class Programs:
    """A folder of small programs that stand for iptables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, *, version: str = "", prints: str = "") -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\ncase \"$1\" in --version) printf '{version}';; *) printf '{prints}';; esac\n")
        path.chmod(0o755)

    def find(self, name: str) -> str | None:
        path = self.folder / name
        return str(path) if path.exists() else None

    def backend(self, flavour: Flavour, proc_net: Path) -> IptablesBackend:
        return IptablesBackend(flavour, proc_net=proc_net, find=self.find)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.mark.parametrize(
    ("version", "flavour"),
    [
        ("iptables v1.8.9 (nf_tables)\\n", "nft"),
        ("iptables v1.8.9 (legacy)\\n", "legacy"),
        ("iptables v1.6.1\\n", "legacy"),
    ],
)
def test_the_short_name_counts_for_the_flavour_that_it_is(
    programs: Programs, tmp_path: Path, version: str, flavour: Flavour
) -> None:
    (tmp_path / "ip_tables_names").write_text("filter\nnat\n")
    programs.add("iptables-save", version=version, prints=SAVED)

    (held,) = programs.backend(flavour, tmp_path).held()
    assert held.backend == f"iptables-{flavour}"
    assert held.rules == ("-A PREROUTING -p tcp -j RINGFENCE_INBOUND",)

    other: Flavour = "legacy" if flavour == "nft" else "nft"
    with pytest.raises(BackendUnsupported, match=f"iptables-{other}-save is not installed"):
        programs.backend(other, tmp_path).held()


def test_the_full_name_goes_before_the_short_one(programs: Programs, tmp_path: Path) -> None:
    programs.add("iptables-save", version="iptables v1.8.9 (nf_tables)", prints="")
    programs.add("iptables-nft-save", prints=SAVED)
    assert programs.backend("nft", tmp_path).held()


def test_a_legacy_table_that_is_not_in_use_is_not_even_read(programs: Programs, tmp_path: Path) -> None:
    programs.add("iptables-legacy-save", prints=SAVED)
    (tmp_path / "ip_tables_names").write_text("filter\n")
    assert programs.backend("legacy", tmp_path).held() == ()
    (tmp_path / "ip_tables_names").unlink()
    assert programs.backend("legacy", tmp_path).held() == ()
    (tmp_path / "ip_tables_names").write_text("nat\n")
    assert programs.backend("legacy", tmp_path).held() != ()


def test_a_names_file_that_cannot_be_read_is_told(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "ip_tables_names").mkdir()
    with pytest.raises(RedirectError, match="ip_tables_names cannot be read"):
        programs.backend("legacy", tmp_path).held()


def test_without_the_program_for_ipv6_nothing_of_ipv6_can_be_ours(programs: Programs, tmp_path: Path) -> None:
    programs.add("iptables-nft-save", prints=SAVED)
    assert [held.versions for held in programs.backend("nft", tmp_path).held()] == [("ipv4",)]
