"""What rules may read of a request is what the app will see of it, in either version of HTTP, and nothing else."""

from __future__ import annotations

import pytest

from ringfence.policy.facts import Token, TokenRefused
from ringfence.snapshot import ForwardedFor
from sidecar import forwarded
from sidecar.facts import ConnectionFacts, From, RequestFacts, host_asked
from sidecar.http1.verdicts import RequestFields
from sidecar.http2.head import RequestHead
from sidecar.http2.literal import encode
from sidecar.tokens import NO_TOKENS, TokenRequest

CAME = From("ab", b"10.0.0.7", ForwardedFor.REPLACE)


def http1(*lines: str, setting: ForwardedFor = ForwardedFor.REPLACE) -> RequestFields:
    block = "".join(f"{line}\r\n" for line in ("host: api.shop:8080", *lines)) + "\r\n"
    return forwarded.http1_heads()[setting].judge_request(b" HTTP/1.1\r\n" + block.encode())


def http2(*fields: tuple[str, str], setting: ForwardedFor = ForwardedFor.REPLACE) -> RequestHead:
    given = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "api.shop:8080"), *fields]
    heads = forwarded.http2_heads()[setting]
    block = encode([(name.encode(), value.encode()) for name, value in given])
    return heads.request(heads.read(block, heads.request_table, 4096))


def test_a_header_is_found_under_its_lower_case_name_with_each_of_its_values() -> None:
    fields = http1("X-Team: a", "x-other: b", "x-team:   c\t")
    assert fields.values(b"x-team") == (b"a", b"c")
    assert fields.values(b"x-other") == (b"b",)
    assert fields.values(b"x-tea") == ()
    head = http2(("x-team", "a"), ("x-other", "b"), ("x-team", "c"))
    assert head.values(b"x-team") == (b"a", b"c")
    assert head.values(b"x-tea") == ()


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-client-cert", "x_forwarded_client_cert", "x-ringfence-refusal", "x-forwarded-for", "forwarded"],
)
def test_what_is_taken_out_on_the_way_is_not_there(name: str) -> None:
    assert http1(f"{name}: forged").values(name.encode()) == ()
    assert http2((name, "forged")).values(name.encode()) == ()
    kept = name in ("x-forwarded-for", "forwarded")
    found = (b"forged",) if kept else ()
    assert http1(f"{name}: forged", setting=ForwardedFor.OFF).values(name.encode()) == found
    assert http2((name, "forged"), setting=ForwardedFor.OFF).values(name.encode()) == found


def test_an_offer_that_is_withdrawn_is_not_there() -> None:
    fields = http1("connection: upgrade", "upgrade: h2c")
    assert fields.values(b"upgrade") == ()
    assert http1("connection: upgrade", "upgrade: websocket").values(b"upgrade") == (b"websocket",)


def test_the_host_and_the_cookies_are_the_same_in_either_version() -> None:
    assert http1().values(b"host") == http2().values(b"host") == (b"api.shop:8080",)
    assert http2(("host", "API.shop:8080")).values(b"host") == (b"api.shop:8080",)
    assert http2(("cookie", "a=1"), ("cookie", "b=2")).values(b"cookie") == (b"a=1; b=2",)
    assert http1("cookie: a=1; b=2").values(b"cookie") == (b"a=1; b=2",)


def test_pseudo_fields_are_no_headers() -> None:
    assert http2().values(b":path") == ()


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"API.Shop:8080", b"api.shop"),
        (b"api.shop", b"api.shop"),
        (b"api.shop.", b"api.shop"),
        (b"api.shop.:80", b"api.shop"),
        (b"10.0.0.1:80", b"10.0.0.1"),
        (b"[::1]", b"[::1]"),
        (b"[::1]:80", b"[::1]"),
        (b"[FD00::A]", b"[fd00::a]"),
        (b"", b""),
    ],
)
def test_a_host_has_no_port_no_case_and_no_dot_at_its_end(authority: bytes, host: bytes) -> None:
    assert host_asked(authority) == host


class Reader:
    def __init__(self) -> None:
        self.asked: list[TokenRequest] = []

    def token(self, request: TokenRequest) -> Token:
        self.asked.append(request)
        return TokenRefused("no")


def test_a_token_is_read_once_and_only_when_it_is_asked_for() -> None:
    reader = Reader()
    facts = RequestFacts(http1("authorization: Bearer x"), 5.0, reader, CAME)
    assert not reader.asked
    assert facts.token() == facts.token() == TokenRefused("no")
    [request] = reader.asked
    assert (request.now, request.leaf_sha256) == (5.0, "ab")
    assert request.header(b"authorization") == (b"Bearer x",)


def test_without_issuers_nobody_has_a_token() -> None:
    assert RequestFacts(http1("authorization: Bearer x"), 5.0, NO_TOKENS, CAME).token() is None


def test_opaque_bytes_say_nothing_but_the_time() -> None:
    facts = ConnectionFacts(7.0)
    assert (facts.now, facts.host, facts.header(b"host"), facts.token()) == (7.0, b"", (), None)


@pytest.mark.parametrize(
    ("setting", "sent", "seen"),
    [
        (ForwardedFor.REPLACE, ("1.1.1.1",), (b"10.0.0.7",)),
        (ForwardedFor.REPLACE, (), (b"10.0.0.7",)),
        (ForwardedFor.APPEND, ("1.1.1.1", "2.2.2.2"), (b"1.1.1.1, 2.2.2.2, 10.0.0.7",)),
        (ForwardedFor.APPEND, (), (b"10.0.0.7",)),
        (ForwardedFor.OFF, ("1.1.1.1", "2.2.2.2"), (b"1.1.1.1", b"2.2.2.2")),
        (ForwardedFor.OFF, (), ()),
    ],
)
def test_where_it_comes_from_is_what_the_app_is_told(
    setting: ForwardedFor, sent: tuple[str, ...], seen: tuple[bytes, ...]
) -> None:
    came = From("", b"10.0.0.7", setting)
    lines = http1(*(f"X-Forwarded-For: {one}" for one in sent), setting=setting)
    fields = http2(*(("x-forwarded-for", one) for one in sent), setting=setting)
    for head in (lines, fields):
        assert RequestFacts(head, 0.0, NO_TOKENS, came).header(b"x-forwarded-for") == seen


@pytest.mark.parametrize(
    ("name", "other", "alike"),
    [
        (b"x-team", "x_team", True),
        (b"x-team", "X.Team", True),
        (b"x_team", "x-team", True),
        (b"x-team", "x-team", False),
        (b"x_team", "x_team", False),
        (b"x-team", "x-teams", False),
        (b"x-team", "x_teams", False),
    ],
)
def test_a_field_that_an_app_may_take_for_another_is_known(name: bytes, other: str, alike: bool) -> None:
    for head in (http1(f"{other}: a", "x-plain: b"), http2((other.lower(), "a"), ("x-plain", "b"))):
        assert head.has_alike(name) is alike
        facts = RequestFacts(head, 0.0, NO_TOKENS, CAME)
        facts.header(b"x-plain")
        assert not facts.ambiguous
        facts.header(name)
        assert facts.ambiguous is alike


@pytest.mark.parametrize(
    ("option", "alike"), [("x-team", True), ("X-Team", True), ("x_team", True), ("x-teams", False)]
)
def test_a_header_that_a_connection_option_takes_out_is_one_that_some_apps_do_not_see(option: str, alike: bool) -> None:
    fields = http1("x-team: a", f"connection: keep-alive, {option}")
    assert fields.has_alike(b"x-team") is alike
    assert not http1("connection: upgrade", "upgrade: websocket").has_alike(b"upgrade")
