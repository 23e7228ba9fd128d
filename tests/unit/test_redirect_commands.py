"""The commands' words: help, dry run, problems."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from sidecar.redirect.commands import redirect
from sidecar.redirect.iptables import fresh_script
from sidecar.redirect.nftables import ruleset
from tests.unit.test_redirect_nftables import FULL, PLAIN

FULL_WORDS = (
    *("--sidecar-uid", "1337", "--sidecar-gid", "1338", "--sidecar-mark", "0x539/0xfff"),
    *("--inbound-listener", "16006", "--outbound-listener", "16001", "--mesh-port", "16008"),
    *("--signals-port", "9402", "--exclude-inbound-port", "22", "--only-inbound-port", "80,8080"),
    *("--exclude-outbound-port", "53", "--exclude-outbound-port", "25"),
    *("--exclude-cidr", "10.0.0.0/24,10.0.1.0/24, 192.0.2.1", "--exclude-cidr", "fd00::/8"),
    *("--exclude-uid", "0,7", "--exclude-gid", "8", "--exclude-mark", "1,2/2"),
)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(redirect, words)


def dry(*words: str, backend: str = "nft") -> Result:
    return invoke("install", "--dry-run", "--backend", backend, *words)


def test_a_dry_run_prints_what_would_be_applied() -> None:
    assert dry("--sidecar-uid", "1337").output == ruleset(PLAIN)
    assert dry(*FULL_WORDS).output == ruleset(FULL)
    for flavour in ("nft", "legacy"):
        assert dry(*FULL_WORDS, backend=f"iptables-{flavour}").output == fresh_script(FULL)
    assert json.loads(dry("--sidecar-uid", "1337", "--json").output) == {"script": ruleset(PLAIN)}


def test_directions_and_ipv6_may_be_left_alone() -> None:
    assert "chain inbound" not in dry("--no-inbound", "--sidecar-uid", "1").output
    assert "chain output" not in dry("--no-outbound").output
    assert dry("--no-ipv6", "--sidecar-uid", "1337").output == ruleset(PLAIN.without_ipv6())


def test_every_wrong_word_is_told_at_once_under_its_option() -> None:
    done = dry("--sidecar-uid", "no-such-user", "--exclude-cidr", "10.0.0.1/8,x", "--inbound-listener", "http")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "Error: --inbound-listener: 'http' is no port (a number from 1 to 65535)",
        "Error: --sidecar-uid: there is no user 'no-such-user' here (give the number)",
        "Error: --exclude-cidr: '10.0.0.1/8' has bits set beyond its prefix (write 10.0.0.0/8, or the address alone)",
        "Error: --exclude-cidr: 'x' is no network (such as 10.0.0.0/8 or fd00::/8)",
    ]
    assert done.stdout == ""


def test_words_that_do_not_fit_together_are_told_at_once() -> None:
    done = dry("--mesh-port", "15001", "--exclude-inbound-port", "15006")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize(
    ("flag", "option"),
    [
        ("--no-inbound", "--only-inbound-port"),
        ("--no-inbound", "--exclude-inbound-port"),
        ("--no-outbound", "--exclude-outbound-port"),
        ("--no-outbound", "--exclude-uid"),
    ],
)
def test_an_exclusion_from_what_is_left_alone_is_a_mistake(flag: str, option: str) -> None:
    done = dry("--sidecar-uid", "1337", flag, option, "80")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {option}: ")
    assert dry("--sidecar-uid", "1337", flag).exit_code == 0


def test_an_empty_word_in_a_list_is_refused() -> None:
    assert dry("--sidecar-uid", "1337", "--exclude-outbound-port", "53,").exit_code == 2


def test_an_unknown_backend_is_bad_input() -> None:
    assert dry("--sidecar-uid", "1337", backend="ipfw").exit_code == 2


@pytest.mark.parametrize("words", [(), ("install",), ("remove",), ("show",)])
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    done = invoke(*words, "--help")
    assert done.exit_code == 0
    assert "ringfence redirect " in done.output.partition("Example")[2]
