"""What iptables-save printed, taken apart."""

from __future__ import annotations

from sidecar.redirect.saved import EMPTY_TABLE, Jump, parse_save
from tests.unit.test_redirect_iptables import SAVED, SYN


def test_our_chains_and_jumps_are_found_with_their_places() -> None:
    table = parse_save(SAVED)
    assert table.ours.chains == {
        "RINGFENCE_INBOUND": ("-i lo -j RETURN", "-p tcp -j REDIRECT --to-ports 15006"),
        "RINGFENCE_OLD": (),
    }
    assert table.ours.jumps == (
        Jump(chain="PREROUTING", position=2, rule=f"{SYN} -j RINGFENCE_INBOUND"),
        Jump(chain="OUTPUT", position=1, rule="-g RINGFENCE_OLD"),
    )
    assert table.counts == {"PREROUTING": 3, "OUTPUT": 2}


def test_other_tables_and_their_rules_are_not_ours() -> None:
    assert parse_save("*filter\n:RINGFENCE_INBOUND - [0:0]\n-A INPUT -j RINGFENCE_INBOUND\nCOMMIT\n") == EMPTY_TABLE


def test_no_output_is_an_empty_table() -> None:
    assert parse_save("") == EMPTY_TABLE
    assert not parse_save("").ours


def test_words_of_others_that_only_look_like_ours_are_left_alone() -> None:
    text = (
        "*nat\n:NOT_RINGFENCE_INBOUND - [0:0]\n"
        '-A OUTPUT -m comment --comment "x -j RINGFENCE_OUTPUT y" -j ACCEPT\n'
        "-A OUTPUT -j NOT_RINGFENCE_INBOUND\n"
        '-A OUTPUT -m comment --comment "RINGFENCE_ -j ACCEPT\n'
        "COMMIT\n"
    )
    table = parse_save(text)
    assert not table.ours
    assert table.counts == {"NOT_RINGFENCE_INBOUND": 0, "OUTPUT": 3}


def test_the_lines_are_those_of_the_program() -> None:
    assert parse_save(SAVED).ours.lines() == (
        f"-A PREROUTING {SYN} -j RINGFENCE_INBOUND",
        "-A OUTPUT -g RINGFENCE_OLD",
        "-A RINGFENCE_INBOUND -i lo -j RETURN",
        "-A RINGFENCE_INBOUND -p tcp -j REDIRECT --to-ports 15006",
    )
