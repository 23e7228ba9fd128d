"""What is said of tokens over the wire: each word is checked again, and the secret never shown."""

from __future__ import annotations

import pytest

from ringfence.policy.model import Introspection, TokenIssuer
from ringfence.policy.words import LIMIT_KEYS_CHARACTERS
from ringfence.wire import tokens
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire
from tests.wire_policies import SECRET, Change, cleared, full_snapshot, put, repeated

TOKEN = "allowlists[0].rules[0].token"
JWT, OPAQUE = "token_issuers[0]", "token_issuers[1]"

REFUSED: list[tuple[str, Change]] = [
    (f"{TOKEN}.issuers", repeated(f"{TOKEN}.issuers", tokens.ISSUER_LIMIT + 1)),
    (f"{TOKEN}.issuers[0]", put(f"{TOKEN}.issuers[0]", "")),
    (f"{TOKEN}.scopes[0]", put(f"{TOKEN}.scopes[0]", "two words")),
    (f"{TOKEN}.scopes[0]", put(f"{TOKEN}.scopes[0]", "")),
    (f"{TOKEN}.scopes[1]", put(f"{TOKEN}.scopes[1]", 'quo"te')),
    (f"{TOKEN}.claims", repeated(f"{TOKEN}.claims", 101)),
    (f"{TOKEN}.claims[0].name", put(f"{TOKEN}.claims[0].name", "")),
    (f"{TOKEN}.claims[0].name", put(f"{TOKEN}.claims[0].name", "realm..roles")),
    (f"{TOKEN}.claims[0].name", put(f"{TOKEN}.claims[0].name", "a.b.c.d.e.f.g.h.i")),
    (f"{TOKEN}.claims[0].values", cleared(f"{TOKEN}.claims[0].values")),
    (f"{TOKEN}.acr[0]", put(f"{TOKEN}.acr[0]", "")),
    (f"{TOKEN}.amr[1]", put(f"{TOKEN}.amr[1]", "p\nwd")),
    (f"{TOKEN}.max_age_seconds", put(f"{TOKEN}.max_age_seconds", 0)),
    (f"{TOKEN}.max_age_seconds", put(f"{TOKEN}.max_age_seconds", 2**32 - 1)),
    ("token_issuers", repeated("token_issuers", tokens.ISSUER_LIMIT + 1)),
    ("token_issuers[1]", repeated("token_issuers")),
    (f"{JWT}.name", put(f"{JWT}.name", "")),
    (f"{JWT}.issuer", put(f"{JWT}.issuer", "https://login.example\n")),
    (JWT, cleared(f"{JWT}.audiences")),
    (f"{JWT}.audiences[0]", put(f"{JWT}.audiences[0]", "")),
    (JWT, cleared(f"{JWT}.algorithms")),
    (f"{JWT}.algorithms[0]", put(f"{JWT}.algorithms[0]", "none")),
    (f"{JWT}.algorithms[0]", put(f"{JWT}.algorithms[0]", "HS256")),
    (f"{JWT}.algorithms[0]", put(f"{JWT}.algorithms[0]", "es256")),
    (f"{JWT}.keys", put(f"{JWT}.keys", "x" * (LIMIT_KEYS_CHARACTERS + 1))),
    (f"{JWT}.keys", put(f"{JWT}.keys", "{\x00}")),
    (JWT, put(f"{JWT}.cookie", "Session")),
    (JWT, cleared(f"{JWT}.header")),
    (f"{JWT}.header", put(f"{JWT}.header", "Authorization")),
    (f"{OPAQUE}.cookie", put(f"{OPAQUE}.cookie", "a=b")),
    (f"{JWT}.claim_headers[1]", repeated(f"{JWT}.claim_headers")),
    (f"{JWT}.claim_headers[0].header", put(f"{JWT}.claim_headers[0].header", "X-User")),
    (f"{JWT}.claim_headers[0].header", put(f"{JWT}.claim_headers[0].header", "content-length")),
    (f"{JWT}.claim_headers[0].header", put(f"{JWT}.claim_headers[0].header", "host")),
    (f"{JWT}.claim_headers[0].header", put(f"{JWT}.claim_headers[0].header", "x_forwarded_client_cert")),
    (f"{JWT}.claim_headers[0].header", put(f"{JWT}.claim_headers[0].header", "x-real-ip")),
    (f"{JWT}.claim_headers[0].claim", put(f"{JWT}.claim_headers[0].claim", "")),
    (f"{JWT}.leeway_seconds", put(f"{JWT}.leeway_seconds", 301)),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "http://staff.example/introspect")),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "http://127.0.0.1.example/introspect")),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "https://me@staff.example/introspect")),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "https://staff.example/ x")),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "file:///etc/passwd")),
    (f"{OPAQUE}.introspection.url", put(f"{OPAQUE}.introspection.url", "")),
    (f"{OPAQUE}.introspection.client_id", put(f"{OPAQUE}.introspection.client_id", "")),
    (f"{OPAQUE}.introspection.secret", put(f"{OPAQUE}.introspection.secret", "")),
    (f"{OPAQUE}.introspection.secret", put(f"{OPAQUE}.introspection.secret", SECRET + "\n")),
    (f"{OPAQUE}.introspection.cache_seconds", put(f"{OPAQUE}.introspection.cache_seconds", 3601)),
]


@pytest.mark.parametrize(
    ("path", "change"), REFUSED, ids=[f"{number}-{path}" for number, (path, _) in enumerate(REFUSED)]
)
def test_what_does_not_hold_together_is_refused_with_its_path(path: str, change: Change) -> None:
    message = snapshot_to_wire(full_snapshot())
    change(message)
    with pytest.raises(WireError) as caught:
        snapshot_from_wire(message)
    assert str(caught.value).startswith(f"{path}: ")
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/introspect", "http://[::1]:9000/", "https://staff.example"])
def test_a_secret_goes_without_tls_to_this_machine_alone(url: str) -> None:
    message = snapshot_to_wire(full_snapshot())
    message.token_issuers[1].introspection.url = url
    introspection = snapshot_from_wire(message).token_issuers[1].introspection
    assert introspection is not None
    assert introspection.url == url


def test_a_secret_is_in_no_text_of_a_value() -> None:
    snapshot = full_snapshot()
    assert SECRET not in repr(snapshot)
    assert SECRET not in f"{snapshot}"
    assert isinstance(snapshot.token_issuers[1], TokenIssuer)
    assert isinstance(snapshot.token_issuers[1].introspection, Introspection)
