"""What looks like a regular expression, and what only has letters of one."""

from __future__ import annotations

import pytest

from ringfence.policy.literals import is_expression, is_host_expression


@pytest.mark.parametrize(
    "text",
    [
        "^a", "a$", ".*", "a.+b", "a.?", r"a\.b", r"\d", "a|b", "(a|b)", "(?i)a", "(ab)*", "(ab)+", "(ab)?", "(ab){2}",
        "[a-z]",
        "[0-9]", "x[^/]", "[abc]+", "[abc]*", "[ab]{2}", "[A-Za-z0-9_]", "a[b][c-d]",
    ],
)  # fmt: skip
def test_an_expression_is_seen(text: str) -> None:
    assert is_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "*", "*/*", "/a/*", "/a/**", "/a/{b}", "a.b", "a^b", "$a", "a$b", "(a)", "f(x)", "a+b", "1+1", "[]",
        "[::1]", "[a]",
        "a[0]", "?", "a?b", "{a}", "a;q=0.8", "-", "a-b", "[", "]", "][", "[a", "a]",
    ],
)  # fmt: skip
def test_a_literal_is_none(text: str) -> None:
    assert not is_expression(text)


@pytest.mark.parametrize(
    "text", ["^a.example", r"a\.example", "a|b", "(a)", "[a]", "a+", "a?", "{a}", ".*.example", "a.example$"]
)
def test_an_expression_among_hosts_is_seen(text: str) -> None:
    assert is_host_expression(text)


@pytest.mark.parametrize("text", ["a.example", "*.example", "a-b.c", "*", "A", "a_b", "10.0.0.1", "a:80"])
def test_a_host_is_none(text: str) -> None:
    assert not is_host_expression(text)


@pytest.mark.parametrize("text", ["[" * 1_000_000, "[a-" * 300_000, "[]" * 300_000, "(" * 1_000_000, "." * 1_000_000])
def test_a_long_text_is_looked_at_once(text: str) -> None:
    """It would not come to an end if the search went on to the text's end from each bracket."""
    assert not is_expression(text)
