"""Conditions: what is refused when it is loaded, with its place; what an error of evaluation is; what is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ringfence.policy.conditions import VARIABLES, ConditionError, ConditionFailedError, Conditions, check_condition


def message(text: str) -> str:
    found = check_condition(text)
    assert len(found) == 1, found
    with pytest.raises(ConditionError) as refused:
        Conditions().compile(text)
    assert str(refused.value) == found[0]
    return found[0]


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("", "1:1", "syntax error"),
        ("1 +", "1:4", "syntax error"),
        ("source.authenticated;true", "1:21", "syntax error"),
        ("true ||\n  (false", "2:9", "syntax error"),
        ("(" * 100 + "true" + ")" * 100, "1:1", "recursion limit"),
        ("[" * 2000 + "]" * 2000 + " == []", "1:1", "recursion limit"),
        ("source.address == 'a\u200b'", "1:1", "cannot be seen"),
        ("true\x00", "1:1", "cannot be seen"),
        ("true || source.address == '" + "x" * 4096 + "'", "1:1", "4096 bytes"),
        ("true || source.address == '" + "é" * 2048 + "'", "1:1", "4096 bytes"),
        ("\ud800 == 'a'", "1:1", "cannot be seen"),
    ],
)
def test_a_condition_that_does_not_compile_is_refused_with_its_place(text: str, place: str, told: str) -> None:
    assert message(text).startswith(f"condition {place}: ")
    assert told in message(text)


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("source.spifeid == ''", "1:7", "source.spifeid"),
        ("user == 'me'", "1:1", "user"),
        ("source == 'me'", "1:1", "source"),
        ("destination.port == '80'", "1:18", "no matching overload"),
        ("true &&\n source.spiffe_id.trust == ''", "2:18", "select"),
        ("now > '2026-01-01'", "1:5", "no matching overload"),
        ("source.spiffe_id", "1:1", "its value is string"),
        ("destination.port + 1", "1:1", "its value is int"),
        ("token.claims.admin", "1:1", "its value is dyn"),
        ("token.email == 'a'", "1:6", "token has no email"),
        ("token", "1:1", "its value is dyn"),
        ("token == 'a'", "1:1", "compare it with null"),
        ("request.headers.size() > 1", "1:8", "read one by name"),
        ("request.headers.exists(name, name == 'x-a')", "1:8", "read one by name"),
        ("request.headers[request.method] == 'a'", "1:16", "not literal"),
        ("request.headers['X-Team'] == 'a'", "1:16", "lower case"),
    ],
)
def test_a_condition_that_does_not_type_check_is_refused_with_its_place(text: str, place: str, told: str) -> None:
    assert message(text).startswith(f"condition {place}: ")
    assert told in message(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("token.scopes.all(a, token.scopes.all(b, a == b))", "steps"),
        ("token.claims.rows.all(a, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(b, a == b))", "steps"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "loops within each other"),
        ("[1].map(v, [v, v]).map(v, [v, v]) == []", "what another loop made"),
        ("['ab'].map(v, v + v) == []", "joined within a loop"),
        ("[token.claims.a].map(v, v + v) == []", "joined within a loop"),
        ("[[1]].map(v, v + v) == []", "joined within a loop"),
        ("token.scopes.exists(s, request.path.matches('a+b'))", "steps"),
        ("request.path.matches(request.headers['x-a'])", "not literal"),
        ("'a'.matches(source.spiffe_id + '+')", "not literal"),
        ("request.path.matches('(((a{999}){999}){999}')", "regular expression"),
        ("request.path.matches('(')", "regular expression"),
    ],
)
def test_a_condition_that_costs_too_much_is_refused(text: str, told: str) -> None:
    assert told in message(text)


@pytest.mark.parametrize(
    "text",
    [
        "token.scopes.all(a, ['read', 'write'].exists(b, a == b))",
        "['a+', 'b+'].size() == 2 && ['/a', '/b'].exists(p, request.path.matches('^/[ab]+$') && request.path == p)",
        "[1, 2, 3].map(v, v + 1) == [2, 3, 4]",
        "token.claims.groups.filter(g, g.startsWith('ops-')).size() > 0",
        "request.path.matches('^/orders/[0-9]+$')",
        "true && " * 400 + "true",
        "token != null && token.claims.admin",
        "source.spiffe_id == 'a' +\n\t'b'",
        "null == token",
        "now.getHours('Europe/Berlin') < 18",
    ],
)
def test_what_is_like_the_refused_and_costs_little_is_accepted(text: str) -> None:
    assert check_condition(text) == []


def test_what_a_condition_reads_is_known() -> None:
    condition = Conditions().compile(
        "request.headers['x-a'] == 'b' && 'x-b' in request.headers && has(request.headers.c) && token == null"
    )
    assert condition.reads == {"request.headers", "token"}
    assert condition.headers == ("c", "x-a", "x-b")
    assert condition.reads_call
    condition = Conditions().compile("source.address == 'a' && [1].all(now, now == 1)")
    assert not condition.reads_call
    assert condition.reads <= VARIABLES.keys()


def test_a_text_is_compiled_once() -> None:
    conditions = Conditions()
    assert conditions.compile("true") is conditions.compile("true")


def test_a_condition_holds_or_does_not_or_fails() -> None:
    condition = Conditions().compile("token.claims.level > 2 && request.headers['x-a'] == 'b'")
    assert condition.holds({"token.claims": {"level": 3}, "request.headers": {"x-a": "b"}})
    assert not condition.holds({"token.claims": {"level": 2}, "request.headers": {"x-a": "b"}})
    for values in (
        {},
        {"token.claims": {"level": 3}},
        {"token.claims": {"level": 3}, "request.headers": {}},
        {"token.claims": {"level": "3"}, "request.headers": {"x-a": "b"}},
        {"token.claims": {}, "request.headers": {"x-a": "b"}},
        {"token.claims": {"level": 2**80}, "request.headers": {"x-a": "b"}},
        {"token.claims": "text", "request.headers": {"x-a": "b"}},
    ):
        with pytest.raises(ConditionFailedError):
            condition.holds(values)


def test_a_dynamic_value_that_is_no_truth_fails() -> None:
    condition = Conditions().compile("token.claims.a || token.claims.b")
    assert condition.holds({"token.claims": {"a": False, "b": True}})
    with pytest.raises(ConditionFailedError):
        condition.holds({"token.claims": {"a": "true", "b": "true"}})


def test_nothing_is_imported_before_the_first_condition() -> None:
    program = (
        "import sys\n"
        "import ringfence.policy.compile, ringfence.policy.conditions\n"
        "heavy = [name for name in sys.modules if 'cel' in name.split('_') or name.startswith('google.protobuf')]\n"
        "assert not heavy, heavy\n"
        "assert ringfence.policy.conditions.check_condition('true') == []\n"
        "assert 'cel_expr_python' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
