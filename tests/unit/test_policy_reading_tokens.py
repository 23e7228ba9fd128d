"""What a rule asks of tokens, and its condition."""

from __future__ import annotations

import pytest

from ringfence.policy.model import TokenMatch
from ringfence.policy.written import AllowlistDocument, DenylistDocument, WrittenRule
from tests.policy_texts import allowlist, denylist, read_one, schema_refuses, told


def rule_of(text: str) -> WrittenRule:
    (rule,) = read_one(text, AllowlistDocument).rules
    assert schema_refuses(text) == []
    return rule


def test_all_that_can_be_asked_of_a_token_is_read() -> None:
    words = rule_of(
        allowlist(
            "from: [web], token: {issuers: [corp, bank/legacy], scopes: ['orders:read', b], acr: ['urn:x:mfa', '2'], "
            "amr: [hwk, pin], maxAge: 15m, claims: {team: [a, 'b c'], realm.role: [clerk]}}"
        )
    ).words
    assert words.token is not None
    assert words.token.value == TokenMatch(
        issuers=("shop/corp", "bank/legacy"),
        scopes=("orders:read", "b"),
        claims=(("realm.role", ("clerk",)), ("team", ("a", "b c"))),
        acr=("urn:x:mfa", "2"),
        amr=("hwk", "pin"),
        max_age_seconds=900,
    )
    assert [issuer.value for issuer in words.issuers] == ["shop/corp", "bank/legacy"]
    assert words.http == words.token.place


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("{}", "token is empty (name the issuers, or remove it to ask for none)"),
        ("yes", "must be a mapping"),
        ("{issuers: []}", "issuers is empty"),
        ("{issuers: [https://login.example]}", "is not the name of a token issuer"),
        ("{scopes: [orders read]}", "is not a scope (list each scope by itself)"),
        ("{scopes: ['a\"b']}", "is not a scope"),
        ("{scopes: [a, a]}", "is there twice"),
        ("{claims: {}}", "claims is empty"),
        ("{claims: {team: a}}", "team must be a list, not a value"),
        ("{claims: {team: []}}", "team is empty"),
        ("{claims: {team: [true]}}", "must be text, not true (put it in quotes)"),
        ("{claims: {team: [7]}}", "must be text, not 7 (put it in quotes)"),
        ("{claims: {'a b': [c]}}", "'a b' is not the name of a claim"),
        ("{claims: {'a..b': [c]}}", "is not the name of a claim"),
        ("{claims: {'https://shop.example/roles': [c]}}", "ask for it in when: token.claims['https://shop.example/roles']"),
        ('{claims: {team: ["a\\n"]}}', "cannot be the value of a claim"),
        ("{acr: [' a']}", "is no word of a token"),
        ("{amr: [ü]}", "is no word of a token"),
        ("{maxAge: 0s}", "is out of range"),
        ("{maxAge: 1500ms}", "maxAge has a part of a second"),
        ("{maxAge: 15}", "is not a duration"),
        ("{maxage: 15m}", "unknown field 'maxage' in token (did you mean maxAge?)"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_token_is_refused(token: str, said: str) -> None:
    problems = told(allowlist(f"from: [web], token: {token}"))
    assert len(problems) == 1
    assert said in problems[0]


def test_a_denylist_asks_for_no_token() -> None:
    text = denylist("from: [web], token: {scopes: [a]}")
    assert told(text) == [
        "a denylist cannot ask for a token (refuse by a condition in when, or require the token in an Allowlist)"
    ]
    assert schema_refuses(text)


def test_a_condition_is_kept_as_written_with_its_place() -> None:
    when = rule_of(allowlist("from: [web], when: source.namespace == 'shop'")).words.when
    assert when is not None
    assert (when.value, when.place.line) == ("source.namespace == 'shop'", 4)
    (rule,) = read_one(denylist("from: [web], when: '!source.authenticated'"), DenylistDocument).rules
    assert rule.words.when is not None
    assert rule.words.http is None


def test_a_rule_whose_condition_is_wrong_is_left_out() -> None:
    from ringfence.policy.documents import read_documents

    (document,), problems = read_documents(allowlist("from: [web], when: source.namespace"), "p.yaml")
    assert isinstance(document, AllowlistDocument)
    assert document.rules == ()
    assert len(problems) == 1


def test_a_condition_of_several_lines_tells_the_line_in_it() -> None:
    head = allowlist("from: [web]").partition("spec:")[0]
    rule = "    - name: r\n      from: [web]\n      when: |\n        true &&\n        nothing\n"
    text = f"{head}spec:\n  service: a\n  rules:\n{rule}"
    (problem,) = told(text)
    assert problem.startswith("when, at its 2:1: undeclared reference to 'nothing'")


@pytest.mark.parametrize("when", ["''", "[a]", "{}", "", "true", "7"])
def test_what_is_no_text_is_no_condition(when: str) -> None:
    assert told(allowlist(f"from: [web], when: {when}"))
    assert schema_refuses(allowlist(f"from: [web], when: {when}"))
