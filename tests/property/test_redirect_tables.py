"""Our scripts on tables of any content: others' rules never move, and what is put back is what was there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.redirect.iptables import restore_script, rules
from sidecar.redirect.saved import NOTHING, OurRules, parse_save
from tests.unit.test_redirect_nftables import FULL, PLAIN

Table = dict[str, list[str]]

BUILT_IN = ("PREROUTING", "OUTPUT")

foreign_rules = st.sampled_from(
    [
        "-p udp -j THEIRS",
        "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80",
        '-m comment --comment "see -j RINGFENCE_INBOUND" -j ACCEPT',
        '-m comment --comment "a \\" b" -j RETURN',
    ]
)
our_old_rules = st.sampled_from(["-p tcp -j RINGFENCE_INBOUND", "-p tcp -j RINGFENCE_OLD", "-g RINGFENCE_OLD"])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A nat table with rules of others, and perhaps of an earlier version of ours among them."""
    ours = draw(st.booleans())
    rule = st.one_of(foreign_rules, our_old_rules) if ours else foreign_rules
    table: Table = {name: draw(st.lists(rule, max_size=6)) for name in BUILT_IN}
    table["THEIRS"] = draw(st.lists(foreign_rules, max_size=3))
    if ours:
        table["RINGFENCE_INBOUND"] = ["-i lo -j RETURN"]
        table["RINGFENCE_OLD"] = draw(st.lists(st.just("-o lo -j RETURN"), max_size=2))
    return table


def saved(table: Table) -> str:
    """As ``iptables-save`` prints it."""
    chains = [f":{name} {'ACCEPT' if name in BUILT_IN else '-'} [0:0]" for name in table]
    content = [f"-A {name} {rule}" for name, content in table.items() for rule in content]
    return "\n".join(["*nat", *chains, *content, "COMMIT", ""])


def restored(table: Table, script: str) -> Table:
    """What ``iptables-restore --noflush`` makes of a table; an error is an error here, too."""
    after = {name: list(content) for name, content in table.items()}
    lines = script.splitlines()
    assert (lines[0], lines[-1]) == ("*nat", "COMMIT")
    for line in lines[1:-1]:
        verb, _, rest = line.partition(" ")
        if line.startswith(":"):
            after[line[1:].split()[0]] = []
            continue
        name, _, rule = rest.partition(" ")
        if verb == "-A":
            after[name].append(rule)
        elif verb == "-D":
            after[name].remove(rule)
        elif verb == "-F":
            after[name].clear()
        elif verb == "-I":
            position, _, rule = rule.partition(" ")
            assert 1 <= int(position) <= len(after[name]) + 1
            after[name].insert(int(position) - 1, rule)
        else:
            assert verb == "-X"
            targets = [f"{flag} {name}" for flag in ("-j", "-g")]
            assert not [rule for content in after.values() for rule in content if rule.endswith(tuple(targets))]
            assert after.pop(name) == []
    return after


def without_ours(table: Table) -> Table:
    kept = {name: content for name, content in table.items() if not name.startswith("RINGFENCE_")}
    return {
        name: [rule for rule in content if rule.rpartition(" ")[2] not in ("RINGFENCE_INBOUND", "RINGFENCE_OLD")]
        for name, content in kept.items()
    }


def change(table: Table, wanted: OurRules) -> Table:
    return restored(table, restore_script(parse_save(saved(table)), wanted))


@given(tables())
def test_removing_leaves_exactly_what_others_have(table: Table) -> None:
    assert change(table, NOTHING) == without_ours(table)


@given(tables(), st.sampled_from([PLAIN, FULL]), st.sampled_from(["ipv4", "ipv6"]))
def test_installing_puts_ours_first_and_leaves_others_in_order(table: Table, settings: object, family: str) -> None:
    wanted = rules(settings, family)  # type: ignore[arg-type]
    once = change(table, wanted)
    assert {name: content for name, content in once.items() if name.startswith("RINGFENCE_")} == {
        name: list(content) for name, content in wanted.chains.items()
    }
    for jump in wanted.jumps:
        assert once[jump.chain][0] == jump.rule
    rest = without_ours(table)
    assert [once[name][1:] for name in BUILT_IN] == [rest[name] for name in BUILT_IN]
    assert change(once, wanted) == once
    assert change(once, NOTHING) == rest


@given(tables(), st.sampled_from([PLAIN, FULL]))
def test_what_was_there_is_put_back_rule_by_rule(table: Table, settings: object) -> None:
    before = parse_save(saved(table))
    once = change(table, rules(settings, "ipv4"))  # type: ignore[arg-type]
    assert change(once, before.ours) == table
