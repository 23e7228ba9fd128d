"""Policy files from someone careless or hostile: each is refused with its place, none costs more than reading it."""

from __future__ import annotations

import sys

import pytest

from ringfence.policy.documents import read_documents
from ringfence.policy.written import AllowlistDocument, PolicyDocument, WrittenRule

HEAD = """\
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: a, namespace: shop}
spec:
  service: orders
  rules:
"""


def rules_of(documents: list[PolicyDocument]) -> list[WrittenRule]:
    return [rule for document in documents if isinstance(document, AllowlistDocument) for rule in document.rules]


def refused(text: str | bytes) -> list[str]:
    """The problems of ``text``; no document with a rule may come out beside them."""
    documents, problems = read_documents(text, "evil.yaml")
    assert problems
    assert rules_of(documents) == []
    for problem in problems:
        line = str(problem)
        assert line.startswith("evil.yaml:")
        assert line.isascii()
        assert "\n" not in line
        assert len(line) < 500
    return [problem.message for problem in problems]


def rule(caller: str = "{namespace: shop}", to: str = "") -> str:
    return HEAD + f"  - {{name: r, from: [{caller}]{', to: ' + to if to else ''}}}\n"


def test_the_plain_rule_of_these_tests_is_good() -> None:
    documents, problems = read_documents(rule(to="{ports: [80], methods: [GET], paths: [/a]}"), "good.yaml")
    assert problems == []
    assert len(rules_of(documents)) == 1


def test_a_billion_laughs_are_refused_at_the_first() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert any("anchor or alias 'a0'" in message for message in refused("\n".join(lines)))


def test_a_merge_key_pulls_nothing_in() -> None:
    text = HEAD + "  - &r {name: r, from: [{namespace: shop}]}\n  - {<<: *r, name: s}\n"
    documents, problems = read_documents(text, "evil.yaml")
    messages = [problem.message for problem in problems]
    assert [rule.name for rule in rules_of(documents)] == ["r"]
    assert any("alias 'r'" in message for message in messages)
    assert "unknown field '<<' in item of rules" in messages


def test_tabs_are_told_line_by_line() -> None:
    text = HEAD + "\t- name: r\n\t  from: [{namespace: shop}]\n"
    assert refused(text) == ["tab in the indentation"] * 2


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_is_refused_before_it_hurts(opening: str) -> None:
    limit = sys.getrecursionlimit()
    depth = 200_000 if opening != "{a: " else 20_000
    assert refused(opening * depth) == ["nested deeper than 32 levels"]
    assert sys.getrecursionlimit() == limit


def test_ten_megabytes_are_not_even_parsed() -> None:
    assert refused(HEAD + "  - {}\n" * 1_500_000) == ["file of more than 1048576 bytes"]


def test_a_crowd_of_values_is_refused() -> None:
    assert refused("[" + "a," * 400_000 + "]") == ["more than 50000 values in one file"]


def test_a_crowd_of_wrong_rules_is_told_without_a_crowd_of_words() -> None:
    messages = refused(HEAD + "  - {x: 1}\n" * 10_001)
    assert messages == ["rules has 10001 items"]


def test_keys_of_a_megabyte_are_cut() -> None:
    assert refused("x" * 900_000 + ": 1\nkind: Allowlist\n")


@pytest.mark.parametrize(
    "extra", ["service: payments", "rules: []", "'service': orders", '"\\x72ules": []', "? service\n  : orders"]
)
def test_a_key_given_twice_is_refused_however_it_is_spelled(extra: str) -> None:
    text = rule().replace("  service: orders\n", f"  service: orders\n  {extra}\n")
    problems = read_documents(text, "evil.yaml")[1]
    assert any(problem.message.startswith("duplicate key") for problem in problems)


def test_unknown_fields_are_told_with_the_nearest_name() -> None:
    text = HEAD + "  - {name: r, from: [{namespace: shop}], To: {ports: [80]}}\n"
    problems = read_documents(text, "evil.yaml")[1]
    assert [str(p) for p in problems] == ["evil.yaml:7:42: unknown field 'To' in item of rules (did you mean to?)"]
    assert refused(text)


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "spiffe://shop.example/ns/shop/sa/web*", "spiffe://shop.example/ns/sh*p/sa/web", "spiffe://shop.example/**",
        "spiffe://*/ns/shop/sa/web", "spiffe://*.example/ns/shop/sa/web", "*", "spiffe://shop.example/ns/*/sa/w?b",
        "spiffe://shop.example/ns/shop/sa/(web|admin)", "spiffe://shop.example/ns/shop/sa/.*", "spiffe://shop.example",
        "spiffe://shop.example/ns/shop/sa/web/", "spiffe://shop.example/ns/shop/sa/../web", "spiffe://shop.example//ns",
        "spiffe://shop.example/ns/shop/sa/web\\n", "spiffe://shop.example/ns/shop/sa/web\\u0000",
        "spiffe://shop.example\\n/ns",
        "spiffe://shop.example/ns/shop/sa/w\\u0435b", "spiffe://sh\\u043ep.example/ns/shop/sa/web",
        "spiffe://shop.example/ns/shop/sa/web\\u200b", "spiffe://shop\\u3002example/a",
        "\\ufeffspiffe://shop.example/a",
        "spiffe://\\u212Aelvin.example/a", "spiffe://shop.example/ns/shop/sa/web%0a", "",
    ],
)  # fmt: skip
def test_an_identity_that_is_not_plainly_one_is_refused(spiffe_id: str) -> None:
    assert refused(rule(f'{{spiffeId: "{spiffe_id}"}}'))


@pytest.mark.parametrize(
    "caller",
    [
        "{namespace: '*'}", "{namespace: Shop}", "{namespace: sh/op}", '{namespace: "shop\\n"}',
        '{namespace: "sh\\u043ep"}',
        "{namespace: ''}", "{namespace: [shop]}", "{namespace: {}}", "{namespace: null}", "{namespace: yes}",
        "{namespace: 12}",
        "{trustDomain: '*'}", "{trustDomain: '*.example'}", "{trustDomain: spiffe://shop.example/ns}",
        '{trustDomain: "a\\n"}',
        "{trustDomain: shop.example:443}", "{trustDomain: ''}", "{namespace: shop, spiffeId: spiffe://shop.example/a}",
        "{}", "[web]", "[]", "null", "*", "{spiffeid: spiffe://shop.example/a}",
        "{unauthenticated: false}", "{unauthenticated: 'true'}", "{unauthenticated: yes}", "{unauthenticated: True}",
        "{unauthenticated: 1}", "{unauthenticated: null}", "{unauthenticated: {}}", "{unauthenticated: [true]}",
        "{unauthenticated: true, namespace: shop}", "{unauthenticated: true, trustDomain: '*'}",
        "{Unauthenticated: true}", "unauthenticated",
    ],
)  # fmt: skip
def test_a_caller_that_is_not_plainly_one_is_refused(caller: str) -> None:
    assert refused(rule(caller))


@pytest.mark.parametrize(
    "to",
    [
        "{}", "[]", "all", "null", "{ports: []}", "{ports: 80}", "{ports: ['80']}", "{ports: [0x50]}", "{ports: [080]}",
        "{ports: [80-90]}", "{ports: [-1]}", "{ports: [65536]}", "{ports: [80.0]}", "{ports: [8_0]}",
        "{ports: [99999999999999999999]}",
        "{ports: ['*']}", "{ports: [http]}", "{methods: []}", "{methods: ['*']}", "{methods: [get]}",
        "{methods: [CONNECT]}",
        "{methods: ['GET POST']}", '{methods: ["GET\\n"]}', '{methods: ["G\\u0415T"]}', "{methods: GET}",
        "{methods: [GET, GET]}",
        "{paths: []}", "{paths: ['*']}", "{paths: ['/orders*']}", "{paths: ['/orders/.*']}", "{paths: ['^/orders$']}",
        "{paths: ['/(a|b)*']}", "{paths: ['/a/**/b']}", "{paths: ['/..']}", "{paths: ['//a']}", "{paths: ['/a%2fb']}",
        "{paths: ['/a?x=1']}", '{paths: ["/a\\n"]}', '{paths: ["/\\u0430dmin"]}', "{paths: [/a, /a]}",
        "{paths: [/a, '/%61']}",
        "{paths: ['http://orders/a']}", "{host: [a]}", "{path: [/a]}",
    ],
)  # fmt: skip
def test_a_part_that_is_not_plainly_one_is_refused(to: str) -> None:
    assert refused(rule(to=to))


@pytest.mark.parametrize("callers", ["", "[]", "{}", "all", "null", "'*'", "[[]]"])
def test_a_rule_for_nobody_is_refused(callers: str) -> None:
    assert refused(HEAD + f"  - name: r\n    from: {callers}\n")
    assert refused(HEAD + "  - name: r\n")


@pytest.mark.parametrize("byte", [b"\x00", b"\xff\xfe", b"\xfe\xff\x00a", b"\x1b[2J", b"\xc0\xaf"])
def test_bytes_that_are_no_text_are_refused(byte: bytes) -> None:
    assert refused(rule().encode() + byte)
    assert refused(byte + rule().encode())


@pytest.mark.parametrize("text", ["[]", "x", "12", "- a\n- b", "apiVersion: v1\nkind: Pod", "kind: 12", "{}"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    assert refused(text)


def test_one_bad_document_does_not_hide_the_errors_of_the_next() -> None:
    text = rule(to="{ports: [0]}") + "---\n" + rule(to="{methods: [get]}") + "---\nkind: Pod\n"
    problems = read_documents(text, "evil.yaml")[1]
    assert [(problem.line, problem.message) for problem in problems] == [
        (7, "item of ports 0 is out of range"),
        (15, "method 'get' is not known"),
        (17, "document lacks apiVersion"),
        (17, "kind 'Pod' is not known here"),
    ]
