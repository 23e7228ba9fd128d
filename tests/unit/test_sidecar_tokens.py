"""Tokens of requests: found, verified once, asked about once, refused where there is doubt."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from ringfence.policy.facts import Token, TokenRefused, VerifiedToken
from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.tokens import thumbprint
from sidecar.metrics import SidecarMetrics
from sidecar.tokens import ASKED, NO_TOKENS, Asking
from sidecar.tokens.asking import HttpsAsking
from sidecar.tokens.introspector import AskError, Introspector
from sidecar.tokens.memory import TokenMemory
from sidecar.tokens.opening import IssuerRefusedError, TokenReaders
from sidecar.tokens.requests import RequestTokens
from sidecar.tokens.tally import TokenTally
from tests.issuers import local_issuer
from tests.jwts import AUDIENCE, ISSUER, NOW, Signer, ec_key, key_set, unsigned
from tests.waiting import until

BY = Signer(key=ec_key())
TRUSTED = TokenIssuer(name="shop/login", issuer=ISSUER, audiences=(AUDIENCE,), keys=key_set(ec_key()))
OPAQUE = TokenIssuer(
    name="shop/opaque",
    issuer="https://opaque.example/",
    audiences=(AUDIENCE,),
    introspection=Introspection(url="https://opaque.example/introspect", client_id="c", secret="s", cache_seconds=60),
)


class Request:
    """A request with these header fields."""

    def __init__(self, *fields: tuple[bytes, bytes], leaf_sha256: str = "", now: float = NOW) -> None:
        self._fields = fields
        self.leaf_sha256 = leaf_sha256
        self.now = now
        self.waits: Asking | None = None

    def header(self, name: bytes) -> Sequence[bytes]:
        return [value for field, value in self._fields if field == name]


def bearer(token: str, **more: object) -> Request:
    return Request((b"authorization", b"Bearer " + token.encode()), **more)  # type: ignore[arg-type]


class Side:
    """One sidecar's reader of tokens, its issuers' answers, its log."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        self.clock = FakeClock(NOW)
        self.log = io.StringIO()
        self.metrics = SidecarMetrics()
        self.tally = TokenTally(self.metrics, Logger("test", stream=self.log), self.clock)
        self.asked: list[str] = []
        self.told: dict[str, object] | Exception = {"active": True, "aud": AUDIENCE}
        self.gate = asyncio.Event()
        self.gate.set()
        self.introspector = Introspector(self.ask, tally=self.tally, clock=self.clock, seconds=0.2)
        self.reader = self.made(*issuers)

    def made(self, *issuers: TokenIssuer, before: RequestTokens | None = None) -> RequestTokens:
        return RequestTokens(issuers, introspector=self.introspector, tally=self.tally, before=before)

    async def ask(self, issuer: TokenIssuer, token: str) -> bytes:
        self.asked.append(token)
        await self.gate.wait()
        if isinstance(self.told, Exception):
            raise self.told
        return json.dumps(self.told).encode()

    async def answered(self, request: Request) -> Token:
        """What the reader says once it need not wait any more."""
        found = self.reader.token(request)
        if found is ASKED:
            assert request.waits is not None
            done = asyncio.Event()
            request.waits.then(done.set)
            await done.wait()
            found = self.reader.token(request)
        return found


def detail(found: Token) -> str:
    assert isinstance(found, TokenRefused), found
    return found.detail


async def test_a_token_is_found_in_its_header_whatever_the_case_of_its_scheme() -> None:
    side = Side(TRUSTED)
    for scheme in (b"Bearer ", b"bearer ", b"BEARER  "):
        found = side.reader.token(Request((b"authorization", scheme + BY.token().encode())))
        assert isinstance(found, VerifiedToken)
    assert side.metrics.tokens.at("verified").value == 3


async def test_without_a_token_there_is_none() -> None:
    side = Side(TRUSTED)
    assert side.reader.token(Request()) is None
    assert side.reader.token(Request((b"authorization", b"Basic YTpi"))) is None
    assert NO_TOKENS.token(bearer(BY.token())) is None


@pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer a,b", b'Bearer "a"', b"Bearer \xff"])
async def test_what_is_no_token_in_form_is_refused(value: bytes) -> None:
    assert detail(Side(TRUSTED).reader.token(Request((b"authorization", value)))) == "it is no token in form"


async def test_two_tokens_in_one_place_are_refused() -> None:
    side = Side(TRUSTED)
    one = (b"authorization", b"Bearer " + BY.token().encode())
    assert "2 values" in detail(side.reader.token(Request(one, one)))
    assert "2 values" in detail(side.reader.token(Request(one, (b"authorization", b"Basic YTpi"))))


async def test_a_token_may_stand_in_a_header_of_its_own_or_in_a_cookie() -> None:
    own = TokenIssuer(name="shop/a", issuer=ISSUER, audiences=(AUDIENCE,), keys=TRUSTED.keys, header="x-token")
    token = BY.token().encode()
    side = Side(own)
    assert isinstance(side.reader.token(Request((b"x-token", token))), VerifiedToken)
    assert isinstance(side.reader.token(Request((b"x-token", b"Bearer " + token))), VerifiedToken)
    assert side.reader.token(bearer(BY.token())) is None
    cookie = TokenIssuer(
        name="shop/b", issuer=ISSUER, audiences=(AUDIENCE,), keys=TRUSTED.keys, header="", cookie="session"
    )
    side = Side(cookie)
    assert isinstance(side.reader.token(Request((b"cookie", b"a=b; session=" + token + b"; c"))), VerifiedToken)
    assert side.reader.token(Request((b"cookie", b"Session=" + token))) is None
    assert side.reader.token(Request((b"cookie", b"xsession=" + token))) is None
    twice = Request((b"cookie", b"session=" + token + b"; session=x"))
    assert "2 cookies" in detail(side.reader.token(twice))
    apart = Request((b"cookie", b"session=" + token), (b"cookie", b"session=x"))
    assert "2 cookies" in detail(side.reader.token(apart))


async def test_forged_tokens_are_refused_and_counted_and_never_logged() -> None:
    side = Side(TRUSTED)
    for token in (unsigned(), BY.token(aud="payments"), BY.token(exp=NOW - 60), "x" * 9000, "opaque"):
        assert isinstance(side.reader.token(bearer(token)), TokenRefused)
        assert token[:40] not in side.log.getvalue()
    assert side.metrics.tokens.at("refused").value == 5


async def test_a_token_of_an_issuer_that_is_not_believed_is_refused() -> None:
    side = Side(TRUSTED)
    assert "not believed here" in detail(side.reader.token(bearer(BY.token(iss="https://evil.example/"))))


async def test_of_two_issuers_each_vouches_for_its_own_tokens_alone() -> None:
    other = Signer(key=ec_key("other"))
    second = TokenIssuer(
        name="shop/other", issuer="https://other.example/", audiences=(AUDIENCE,), keys=key_set(ec_key("other"))
    )
    side = Side(TRUSTED, second)
    for signer, issuer, name in ((BY, ISSUER, "shop/login"), (other, second.issuer, "shop/other")):
        found = side.reader.token(bearer(signer.token(iss=issuer)))
        assert isinstance(found, VerifiedToken)
        assert found.issuer == name
    assert isinstance(side.reader.token(bearer(other.token(iss=ISSUER))), TokenRefused)


async def test_a_verified_token_is_remembered_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(TRUSTED)
    token = BY.token(exp=NOW + 10)
    assert isinstance(side.reader.token(bearer(token)), VerifiedToken)
    verifier = side.reader.vouchers[0].verifier
    assert verifier is not None
    monkeypatch.setattr(type(verifier), "verify", lambda *_: TokenRefused("asked again"))
    assert isinstance(side.reader.token(bearer(token, now=NOW + 39)), VerifiedToken)
    assert detail(side.reader.token(bearer(token, now=NOW + 40))) == "asked again"


async def test_a_remembered_token_is_still_bound_to_its_certificate() -> None:
    side = Side(TRUSTED)
    token = BY.token(cnf={"x5t#S256": thumbprint("ab" * 32)})
    assert isinstance(side.reader.token(bearer(token, leaf_sha256="ab" * 32)), VerifiedToken)
    assert "another client" in detail(side.reader.token(bearer(token, leaf_sha256="cd" * 32)))
    assert "another client" in detail(side.reader.token(bearer(token)))


async def test_new_keys_forget_what_the_old_ones_verified() -> None:
    side = Side(TRUSTED)
    token = BY.token()
    assert isinstance(side.reader.token(bearer(token)), VerifiedToken)
    rotated = TokenIssuer(name=TRUSTED.name, issuer=ISSUER, audiences=(AUDIENCE,), keys=key_set(ec_key("ec-2")))
    after = side.made(rotated, before=side.reader)
    assert "in no key set" in detail(after.token(bearer(token)))
    same = side.made(TRUSTED, before=side.reader)
    assert same.vouchers[0] is side.reader.vouchers[0]


async def test_an_issuer_without_keys_refuses_and_bad_keys_refuse_the_snapshot() -> None:
    side = Side(TokenIssuer(name="shop/login", issuer=ISSUER, audiences=(AUDIENCE,)))
    assert "never answered" in detail(side.reader.token(bearer(BY.token())))
    readers = TokenReaders(side.metrics, Logger("test", stream=side.log), side.clock)
    with pytest.raises(IssuerRefusedError, match="shop/bad"):
        readers.made((TokenIssuer(name="shop/bad", issuer=ISSUER, audiences=(AUDIENCE,), keys="{}"),))
    assert readers.made(()) is NO_TOKENS
    made = readers.made((TRUSTED,))
    assert readers.made((TRUSTED,)) is made


# ------------------------------------------------------------------------------------------------------- introspection


async def test_an_opaque_token_is_asked_about_once_and_remembered() -> None:
    side = Side(OPAQUE)
    request = bearer("opaque-token")
    assert side.reader.token(request) is ASKED
    again = bearer("opaque-token")
    assert side.reader.token(again) is ASKED
    assert again.waits is request.waits
    assert isinstance(await side.answered(request), VerifiedToken)
    assert isinstance(side.reader.token(bearer("opaque-token", now=NOW + 59)), VerifiedToken)
    assert side.asked == ["opaque-token"]
    assert side.reader.token(bearer("opaque-token", now=NOW + 60)) is ASKED
    side.introspector.close()


async def test_an_answer_is_remembered_no_longer_than_the_token_lives() -> None:
    side = Side(OPAQUE)
    side.told = {"active": True, "aud": AUDIENCE, "exp": NOW + 5}
    assert isinstance(await side.answered(bearer("t")), VerifiedToken)
    assert isinstance(side.reader.token(bearer("t", now=NOW + 34)), VerifiedToken)
    assert side.reader.token(bearer("t", now=NOW + 35)) is ASKED
    side.introspector.close()


async def test_an_inactive_token_is_refused_and_asked_about_again_soon() -> None:
    side = Side(OPAQUE)
    side.told = {"active": False}
    assert "not active" in detail(await side.answered(bearer("t")))
    assert "not active" in detail(side.reader.token(bearer("t", now=NOW + 4)))
    assert side.reader.token(bearer("t", now=NOW + 5)) is ASKED
    assert side.metrics.introspections.at("inactive").value == 1
    side.introspector.close()


async def test_an_issuer_that_cannot_be_asked_denies_and_is_not_asked_by_each_request() -> None:
    side = Side(OPAQUE)
    side.told = AskError("connection refused")
    assert "could not be asked" in detail(await side.answered(bearer("t")))
    assert "could not be asked" in detail(side.reader.token(bearer("t")))
    assert side.asked == ["t"]
    assert "connection refused" in side.log.getvalue()


async def test_an_issuer_that_does_not_answer_denies_in_time() -> None:
    side = Side(OPAQUE)
    side.gate.clear()
    assert "could not be asked" in detail(await side.answered(bearer("t")))
    assert side.metrics.introspections.at("failed").value == 1


async def test_questions_under_way_are_bounded() -> None:
    side = Side(OPAQUE)
    side.gate.clear()
    answers = [side.reader.token(bearer(f"t{at}")) for at in range(300)]
    assert answers.count(ASKED) == 256
    assert {detail(one) for one in answers if one is not ASKED} == {"too many tokens are being asked about"}
    side.introspector.close()


async def test_a_defect_while_asking_denies() -> None:
    side = Side(OPAQUE)
    side.told = RuntimeError("defect")
    assert "could not be asked" in detail(await side.answered(bearer("t")))


async def test_a_token_of_another_issuer_is_never_shown_to_one_that_is_asked() -> None:
    side = Side(OPAQUE)
    assert isinstance(side.reader.token(bearer(BY.token())), TokenRefused)
    assert side.asked == []
    own = BY.token(iss=OPAQUE.issuer)
    assert side.reader.token(bearer(own)) is ASKED
    side.introspector.close()


async def test_an_issuer_is_asked_over_tls_and_its_secret_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_issuer(tmp_path) as issuer:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.ca_file))
        asked = TokenIssuer(
            name="shop/opaque",
            issuer=ISSUER,
            audiences=(AUDIENCE,),
            introspection=Introspection(url=issuer.introspection_url, client_id="or:ders", secret="pass word"),
        )

        async def active(form: dict[str, str]) -> web.StreamResponse:
            return web.json_response({"active": True})

        issuer.introspect = active
        assert json.loads(await HttpsAsking()(asked, "a+b/c=")) == {"active": True}
        assert issuer.tokens == ["a+b/c="]
        assert issuer.authorizations == ["Basic b3IlM0FkZXJzOnBhc3Mrd29yZA=="]
        for response in (
            web.Response(status=302, headers={"location": "http://169.254.169.254/"}),
            web.Response(status=401),
            web.Response(body=io.BytesIO(b" " * 100_000)),
        ):

            async def other(form: dict[str, str], response: web.Response = response) -> web.StreamResponse:
                return response

            issuer.introspect = other
            with pytest.raises(AskError):
                await HttpsAsking()(asked, "t")


async def test_an_issuer_whose_certificate_is_nobodys_is_shown_no_token(tmp_path: Path) -> None:
    async with local_issuer(tmp_path) as issuer:
        asked = TokenIssuer(
            name="shop/opaque",
            issuer=ISSUER,
            audiences=(AUDIENCE,),
            introspection=Introspection(url=issuer.introspection_url, client_id="c", secret="s"),
        )
        with pytest.raises(AskError, match="certificate"):
            await HttpsAsking()(asked, "t")
        assert issuer.tokens == []


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::1",
    ],
)
async def test_no_name_leads_to_the_credentials_of_this_machine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rebound(host: str, port: int, **_: object) -> list[object]:
        return [(2, 1, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebound, raising=False)
    with pytest.raises(AskError, match="no address"):
        await HttpsAsking()(OPAQUE, "t")


async def test_an_issuer_that_hangs_holds_up_no_other() -> None:
    side = Side(OPAQUE)
    hanging = replace(OPAQUE, name="shop/hangs")
    asked: list[str] = []

    async def ask(issuer: TokenIssuer, token: str) -> bytes:
        asked.append(issuer.name)
        if issuer.name == hanging.name:
            await asyncio.Event().wait()
        return json.dumps(side.told).encode()

    introspector = Introspector(ask, tally=side.tally, clock=side.clock, seconds=60.0)
    memory = TokenMemory()
    found = [introspector.ask(hanging, memory, f"t{at}", at.to_bytes(2, "big")) for at in range(300)]
    assert isinstance(found[-1], TokenRefused)
    question = introspector.ask(OPAQUE, memory, "t", b"t")
    assert not isinstance(question, TokenRefused)
    await until(lambda: question.ended)
    assert isinstance(memory.get(b"t", NOW), VerifiedToken)
    introspector.close()
    await until(lambda: all(isinstance(one, TokenRefused) or one.ended for one in found))


async def test_what_an_issuer_tells_counts_with_the_token_it_tells_of() -> None:
    side = Side(OPAQUE)
    side.told = {"active": True, "aud": AUDIENCE, "roles": ["r" * 60_000]}
    memory = TokenMemory(size_bytes=200_000)
    introspector = Introspector(side.ask, tally=side.tally, clock=side.clock)
    for at in range(5):
        question = introspector.ask(OPAQUE, memory, f"t{at}", bytes([at]))
        await until(lambda question=question: question.ended)
    assert len(memory) == 3


def test_memory_is_bounded_by_number_and_size() -> None:
    memory = TokenMemory(tokens=3, size_bytes=100)
    token = VerifiedToken(issuer="a", claims={}, expires=NOW + 10)
    for at in range(5):
        memory.put(bytes([at]), token, NOW + 10, 10)
    assert len(memory) == 3
    assert memory.get(b"\x01", NOW) is None
    assert memory.get(b"\x02", NOW) is token
    memory.put(b"\x07", token, NOW + 10, 90)
    assert memory.get(b"\x02", NOW) is token
    assert len(memory) == 2
    assert memory.get(b"\x02", NOW + 10) is None
    assert len(memory) == 1


async def test_who_waits_is_told_when_the_sidecar_stops() -> None:
    side = Side(OPAQUE)
    side.gate.clear()
    request = bearer("t")
    assert side.reader.token(request) is ASKED
    told: list[int] = []
    assert request.waits is not None
    request.waits.then(lambda: told.append(1))
    side.introspector.close()
    await until(lambda: told)
