"""Nonces: unforgeable, for one host key, for a short time."""

from __future__ import annotations

import secrets
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ca.errors import RefusalReason
from ca.nonces import NONCE_BYTES, NonceMint, SpentNonce

MINT = NonceMint(secret=b"s" * 32, life_seconds=30.0)
KEY = "ab" * 32
NOW = 1_800_000_000.0


def test_a_fresh_nonce_is_good_until_its_time_is_over() -> None:
    nonce = MINT.mint(KEY, NOW, secrets.token_bytes)
    assert len(nonce) == NONCE_BYTES
    good = SpentNonce(sha256=sha256(nonce).hexdigest(), expires_at=NOW + 30.0)
    assert MINT.check(nonce, KEY, NOW) == good
    assert MINT.check(nonce, KEY, NOW + 29.999) == good
    assert MINT.check(nonce, KEY, NOW + 30.0) is RefusalReason.NONCE_EXPIRED


def test_a_nonce_serves_one_host_key_only() -> None:
    nonce = MINT.mint(KEY, NOW, secrets.token_bytes)
    assert MINT.check(nonce, "cd" * 32, NOW) is RefusalReason.NONCE_INVALID


def test_a_nonce_of_another_authority_is_no_good() -> None:
    nonce = NonceMint(secret=b"t" * 32, life_seconds=30.0).mint(KEY, NOW, secrets.token_bytes)
    assert MINT.check(nonce, KEY, NOW) is RefusalReason.NONCE_INVALID


def test_two_replicas_take_each_others() -> None:
    replica = NonceMint(secret=b"s" * 32, life_seconds=10.0)
    assert isinstance(MINT.check(replica.mint(KEY, NOW, secrets.token_bytes), KEY, NOW), SpentNonce)


@given(position=st.integers(0, NONCE_BYTES - 1), bit=st.integers(0, 7))
def test_a_nonce_with_any_bit_turned_is_no_good(position: int, bit: int) -> None:
    nonce = bytearray(MINT.mint(KEY, NOW, lambda size: bytes(size)))
    nonce[position] ^= 1 << bit
    assert MINT.check(bytes(nonce), KEY, NOW) is RefusalReason.NONCE_INVALID


@given(st.binary(max_size=200))
def test_rubbish_is_no_good_and_never_an_error(rubbish: bytes) -> None:
    assert MINT.check(rubbish, KEY, NOW) is RefusalReason.NONCE_INVALID


def test_no_two_nonces_are_the_same() -> None:
    assert len({MINT.mint(KEY, NOW, secrets.token_bytes) for _ in range(100)}) == 100


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(MINT)
