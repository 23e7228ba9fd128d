"""Properties of identities: parsing undoes formatting, nothing but the form is read, and garbage is only refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ringfence.spiffe import ChainVerifier, SpiffeId, SpiffeIdError, TrustDomain, VerificationError
from tests.pki import TestCa

NOW = 1_800_000_000.0
CA = TestCa("shop.example", now=NOW)
GOOD = CA.svid("spiffe://shop.example/ns/shop/sa/web")
VERIFIER = ChainVerifier([CA.bundle()])

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=40)
segments = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", min_size=1, max_size=20).filter(
    lambda segment: segment not in (".", "..")
)
ids = st.builds(
    lambda name, parts: SpiffeId(TrustDomain(name), "".join(f"/{part}" for part in parts)),
    names,
    st.lists(segments, max_size=6),
)


@given(ids)
def test_parse_undoes_format(spiffe_id: SpiffeId) -> None:
    again = SpiffeId.parse(str(spiffe_id))
    assert again == spiffe_id
    assert hash(again) == hash(spiffe_id)
    assert str(again) == str(spiffe_id)
    assert "".join(f"/{segment}" for segment in again.segments) == spiffe_id.path


@given(ids, ids)
def test_equality_is_equality_of_the_uris(one: SpiffeId, other: SpiffeId) -> None:
    assert (one == other) == (str(one) == str(other))


@given(st.one_of(st.text(), st.builds("spiffe://{}".format, st.text())))
def test_what_is_read_is_what_was_written(text: str) -> None:
    try:
        spiffe_id = SpiffeId.parse(text)
    except SpiffeIdError:
        return
    scheme_and_host, _, path = text[len("spiffe://") :].partition("/")
    assert str(spiffe_id) == "spiffe://" + scheme_and_host.lower() + ("/" + path if path else "")
    assert text.isascii()


@given(ids, st.characters(exclude_characters="/"), st.data())
def test_one_character_put_in_changes_the_id_or_is_refused(
    spiffe_id: SpiffeId, extra: str, data: st.DataObject
) -> None:
    text = str(spiffe_id)
    place = data.draw(st.integers(len("spiffe://"), len(text)))
    changed = text[:place] + extra + text[place:]
    try:
        assert SpiffeId.parse(changed) != spiffe_id
    except SpiffeIdError:
        assert text != changed


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # the parser's, before the leaf rules refuse it
@settings(max_examples=400)
@given(st.integers(0, len(GOOD.chain[0]) - 1), st.integers(0, 255), st.integers(0, 1))
def test_no_changed_byte_of_a_chain_is_believed(position: int, value: int, which: int) -> None:
    chain = [bytearray(der) for der in GOOD.chain]
    assume(position < len(chain[which]) and chain[which][position] != value)
    chain[which][position] = value
    with pytest.raises(VerificationError):
        VERIFIER.verify([bytes(der) for der in chain], NOW)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_garbage_is_refused_and_never_a_crash(chain: list[bytes]) -> None:
    with pytest.raises(VerificationError):
        VERIFIER.verify(chain, NOW)
