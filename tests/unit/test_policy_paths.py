"""Judged paths and path templates: what counts as the same, what is refused, and that refusals have neighbours."""

from __future__ import annotations

import pytest

from ringfence.policy.paths import TemplateError, Variable, judged_path, parse_template


@pytest.mark.parametrize(
    ("target", "judged"),
    [
        (b"/", b"/"),
        (b"/orders/7", b"/orders/7"),
        (b"/orders/", b"/orders/"),
        (b"/orders?next=//../x#", b"/orders"),
        (b"/a!$&'()*+,=:@~_.-b", b"/a!$&'()*+,=:@~_.-b"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a/...", b"/a/..."),
        (b"/a..b", b"/a..b"),
        (b"/orders;v=1", b"/orders;v=1"),
        (b"/a;x;y", b"/a;x;y"),
        (b"/%6Frders", b"/orders"),
        (b"/%7e%41", b"/~A"),
        (b"/%c3%a9", b"/%C3%A9"),
        (b"/a%20b", b"/a%20b"),
        (b"/a%0d%0ab", b"/a%0D%0Ab"),
        (b"/a%3Bb/c", b"/a%3Bb/c"),
        (b"/a%252e", b"/a%252e"),
        (b"/a%3Fb", b"/a%3Fb"),
        (b"/a|b", b"/a%7Cb"),
        (b'/"<>[]^`{}', b"/%22%3C%3E%5B%5D%5E%60%7B%7D"),
        (b"*", b"*"),
    ],
)
def test_what_all_servers_read_alike_has_one_spelling(target: bytes, judged: bytes) -> None:
    assert judged_path(target) == judged


@pytest.mark.parametrize(
    "target",
    [
        b"/.", b"/..", b"/a/./b", b"/a/../b", b"/a/..", b"/a/.", b"/../", b"/..?x",
        b"/%2e", b"/%2E%2e/a", b"/a/.%2e", b"/a/%2e./b",
        b"//", b"//a", b"/a//b", b"/a//",
        b"/a\\b", b"/\\", b"/..\\a", b"/a#b", b"/#",
        b"/a;x/b", b"/;/b", b"/a/..;/b", b"/..;", b"/a/..;x=1", b"/a/.;", b"/..%3b", b"/%2e%2E;x",
        b"/;x", b"/a/;", b"/%3b",
        b"/%", b"/%2", b"/a%", b"/%zz", b"/%2g", b"/% 20", b"/%u002f",
        b"/a%2fb", b"/a%2Fb", b"/..%2fadmin", b"/%2F", b"/a%5cb", b"/a%5Cb", b"/a%00", b"/%00",
        b"/a b", b"/a\tb", b"/a\nb", b"/a\r", b"/a\x00", b"/a\x7f", b"/a\n",
        b"/\xc3\xa9", b"/a\xff", b"/a\x80",
        b"", b"?", b"?/a", b"a", b"orders/7", b"http://shop/a", b"HTTP://shop/a", b"shop:80", b"**", b"*/a", b"*?x",
    ],
)  # fmt: skip
def test_what_servers_read_differently_is_ambiguous(target: bytes) -> None:
    assert judged_path(target) is None


@pytest.mark.parametrize("piece", [b";", b"%3b", b".", b"/a", b"%", b"/;", b"/.", b"%2e", b"|", b"/%3B", b"?", b";."])
def test_a_hostile_path_costs_no_more_than_its_length(piece: bytes) -> None:
    """A path of 2 MB: linear work is done at once, squared work would run into the test's deadline."""
    path = b"/x" + piece * (2_000_000 // len(piece))
    assert (judged_path(path) is None) == (judged_path(b"/x" + piece * 3) is None)


def test_a_template_is_literals_variables_and_rest() -> None:
    template = parse_template("/orders/{id}/*/%6Cines/**")
    assert template.segments == (b"orders", Variable("id"), Variable(), b"lines")
    assert template.rest
    assert str(template) == "/orders/{id}/*/lines/**"


@pytest.mark.parametrize("text", ["/", "/**", "/a", "/a/", "/{id}/", "/*", "/a;v=1", "/%2A", "/a:b@c", "/" + "a/" * 30])
def test_a_template_formats_to_what_was_written(text: str) -> None:
    assert str(parse_template(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not start with '/'"),
        ("orders", "does not start with '/'"),
        ("*", "does not start with '/'"),
        ("/a?x=1", "has a query"),
        ("/**/a", "'**' before the end"),
        ("/a/**/", "'**' before the end"),
        ("/a*", "wildcard inside a segment"),
        ("/*a", "wildcard inside a segment"),
        ("/a/***", "wildcard inside a segment"),
        ("/{}", "wildcard inside a segment"),
        ("/{a}b", "wildcard inside a segment"),
        ("/{a b}", "wildcard inside a segment"),
        ("/{a", "wildcard inside a segment"),
        ("/{id}/{id}", "uses a name twice"),
        ("/é", "outside ASCII"),
        ("/аdmin", "outside ASCII"),
        ("//", "no request can match"),
        ("/a//**", "no request can match"),
        ("/a/../b", "no request can match"),
        ("/%2e%2e", "no request can match"),
        ("/a%2Fb", "no request can match"),
        ("/a\\b", "no request can match"),
        ("/a b", "no request can match"),
        ("/a\n", "no request can match"),
        ("/a#b", "no request can match"),
        ("/a;x/b", "no request can match"),
        ("/a;x/**", "no request can match"),
        ("/" + "a" * 1024, "more than 1024 characters"),
        ("/" + "|" * 342, "more than 1024 characters, escaped"),
        ("/{" + "n" * 700 + "}/" + "|" * 120, "more than 1024 characters, escaped"),
        ("/" + "a/" * 32, "more than 32 segments"),
    ],
)
def test_a_template_that_means_something_else_than_it_looks_is_refused(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(text)
    assert message in caught.value.message
    assert caught.value.mend


def test_the_mend_for_a_letter_outside_ascii_is_its_escape() -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template("/café")
    assert "/caf%C3%A9" in "/" + caught.value.mend.rpartition(" ")[2]
