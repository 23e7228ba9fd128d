"""Coming and going of the rules: twice is once, gone is gone, and a failure changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.netns.conftest import APP_UID, LEGACY_WAIT, SIDECAR_UID, Network
from tests.netns.spaces import environment

OWN = ("--sidecar-uid", str(SIDECAR_UID))
EVERYTHING = (
    *(*OWN, "--sidecar-mark", "0x539/0xfff", "--exclude-uid", "7", "--exclude-cidr", "192.168.0.0/16,fd00:1::/64"),
    *("--exclude-inbound-port", "22", "--exclude-outbound-port", "53"),
)

# What somebody else keeps there, ours to leave alone: also a comment that looks like a jump of ours.
FOREIGN = """*nat
:THEIRS - [0:0]
-A PREROUTING -p tcp -m tcp --dport 7001 -j THEIRS
-A PREROUTING -p udp -m comment --comment "-j RINGFENCE_INBOUND" -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 7002 -j THEIRS
-A THEIRS -p tcp -j REDIRECT --to-ports 7003
COMMIT
"""


def keep_foreign_rules(network: Network) -> None:
    flavour = "nft" if network.backend == "nft" else network.backend.removeprefix("iptables-")
    for stem in ("iptables", "ip6tables"):
        network.pod.run(f"{stem}-{flavour}-restore", *(LEGACY_WAIT if flavour == "legacy" else ()), given=FOREIGN)
    network.pod.run("nft", "add table inet theirs { chain c { type nat hook output priority -100; }; }")


def use_legacy_table(network: Network) -> None:
    """A legacy table stays once it has been used, which is not for us to undo."""
    if network.backend == "iptables-legacy":
        for stem in ("iptables", "ip6tables"):
            network.pod.run(f"{stem}-legacy-save", "-t", "nat")


def test_installing_twice_is_installing_once(fresh_network: Network) -> None:
    fresh_network.install(*EVERYTHING)
    once = fresh_network.rules()

    fresh_network.install(*EVERYTHING)

    assert fresh_network.rules() == once
    assert fresh_network.pod.dial(fresh_network.outside_at.ipv4, 80, uid=APP_UID)["port"] == 15001


def test_the_new_rules_take_the_place_of_the_old(fresh_network: Network) -> None:
    fresh_network.install(*OWN)
    only_new = fresh_network.rules()

    fresh_network.install(*EVERYTHING)
    assert fresh_network.rules() != only_new
    fresh_network.install(*OWN)

    assert fresh_network.rules() == only_new


def test_removal_leaves_nothing_where_nothing_was(fresh_network: Network) -> None:
    use_legacy_table(fresh_network)
    before = fresh_network.rules()
    fresh_network.install(*EVERYTHING)
    fresh_network.install(*OWN)
    assert fresh_network.rules() != before

    fresh_network.remove()

    assert fresh_network.rules() == before
    assert fresh_network.pod.dial(fresh_network.outside_at.ipv6, 80, uid=APP_UID)["space"] == "outside"
    assert fresh_network.outside.dial(fresh_network.pod_at.ipv6, 8080)["port"] == 8080


def test_removal_leaves_the_rules_of_others_as_they_were(fresh_network: Network) -> None:
    keep_foreign_rules(fresh_network)
    before = fresh_network.rules()
    assert "THEIRS" in before
    fresh_network.install(*EVERYTHING)
    fresh_network.install(*OWN)

    fresh_network.remove()

    assert fresh_network.rules() == before


def test_what_others_added_meanwhile_stays(fresh_network: Network) -> None:
    fresh_network.install(*OWN)
    keep_foreign_rules(fresh_network)
    both = fresh_network.rules()

    fresh_network.remove()

    after = fresh_network.rules()
    assert "RINGFENCE" not in after.replace('"-j RINGFENCE_INBOUND"', "")
    assert "table inet ringfence" not in after
    ours = ("RINGFENCE", "ringfence")
    for line in both.splitlines():
        if "7001" in line or "7002" in line or "THEIRS" in line or "theirs" in line:
            assert line in after or any(word in line for word in ours)


def test_removing_nothing_is_no_error(fresh_network: Network) -> None:
    before = fresh_network.rules()
    done = fresh_network.pod.redirect("remove")

    assert (done.returncode, done.stdout) == (0, "no redirect rules are installed\n")
    assert fresh_network.rules() == before


def test_show_tells_what_is_there_and_changes_nothing(fresh_network: Network) -> None:
    before = fresh_network.rules()
    assert fresh_network.pod.redirect("show").stdout == "no redirect rules are installed\n"
    assert json.loads(fresh_network.pod.redirect("show", "--json").stdout) == {"installed": False, "tables": []}
    assert fresh_network.rules() == before

    fresh_network.install(*OWN)
    installed = fresh_network.rules()

    shown = json.loads(fresh_network.pod.redirect("show", "--json").stdout)
    assert shown["installed"]
    assert {table["backend"] for table in shown["tables"]} == {fresh_network.backend}
    assert sorted(version for table in shown["tables"] for version in table["versions"]) == ["ipv4", "ipv6"]
    for table in shown["tables"]:
        assert any("15006" in rule for rule in table["rules"])
        assert any("1337" in rule for rule in table["rules"])
    assert "15001" in fresh_network.pod.redirect("show").stdout
    assert fresh_network.rules() == installed


def test_auto_stays_with_the_backend_that_holds_the_rules(fresh_network: Network) -> None:
    fresh_network.install(*OWN)
    once = fresh_network.rules()

    done = fresh_network.pod.redirect("install", *OWN)

    assert done.returncode == 0, done.stderr
    assert fresh_network.rules() == once


def test_two_backends_never_hold_rules_at_once(fresh_network: Network) -> None:
    fresh_network.install(*OWN)
    once = fresh_network.rules()
    other = "iptables-legacy" if fresh_network.backend == "nft" else "nft"

    done = fresh_network.pod.redirect("install", *OWN, "--backend", other)

    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {fresh_network.backend} holds rules of an earlier installation "
        "(take them away first: ringfence redirect remove)\n"
    )
    assert fresh_network.rules() == once


@pytest.mark.parametrize("earlier", [(), EVERYTHING], ids=["fresh", "over-earlier"])
def test_when_ipv6_fails_ipv4_is_as_it_was(fresh_network: Network, tmp_path: Path, earlier: tuple[str, ...]) -> None:
    use_legacy_table(fresh_network)
    keep_foreign_rules(fresh_network)
    if earlier:
        fresh_network.install(*earlier)
    before = fresh_network.rules()
    refuse_ipv6(fresh_network.backend, tmp_path)

    words = ("install", *OWN, "--backend", fresh_network.backend)
    done = fresh_network.pod.redirect(*words, path=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.startswith("Error: IPv6 rules are refused, so nothing is changed: ")
    assert "no such translation" in done.stderr
    assert "--no-ipv6" in done.stderr
    assert done.stderr.count("\n") == 1
    assert fresh_network.rules() == before

    # Without IPv6 it goes well, unless earlier IPv6 rules would have to go by the program that fails.
    goes_well = not earlier or fresh_network.backend == "nft"
    done = fresh_network.pod.redirect(*words, "--no-ipv6", path=str(tmp_path))
    assert done.returncode == (0 if goes_well else 1)
    assert (fresh_network.rules() == before) != goes_well


def refuse_ipv6(backend: str, folder: Path) -> None:
    """A program to be found before the real one, which refuses IPv6 as a kernel without its NAT would."""
    if backend == "nft":
        program, real = "nft", shutil.which("nft", path=environment()["PATH"])
        words = f"""case "$*" in
            *-f*) script=$(cat)
                case "$script" in *"table inet ringfence {{"*) echo 'no such translation' >&2; exit 1;; esac
                printf '%s\n' "$script" | {real} "$@";;
            *) exec {real} "$@";;
            esac"""
    else:
        program = f"{backend.replace('iptables', 'ip6tables')}-restore"
        words = "cat >/dev/null; echo 'no such translation' >&2; exit 1"
    (folder / program).write_text(f"#!/bin/sh\n{words}\n")
    (folder / program).chmod(0o755)


def test_settings_that_do_not_fit_change_nothing(fresh_network: Network) -> None:
    before = fresh_network.rules()

    done = fresh_network.pod.redirect(
        "install", "--backend", fresh_network.backend, "--exclude-cidr", "10.0.0.1/8,0.0.0.0/0"
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: --exclude-cidr: '10.0.0.1/8' has bits set beyond its prefix (write 10.0.0.0/8, or the address alone)"
    ]
    assert fresh_network.rules() == before
