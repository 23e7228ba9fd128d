"""What a rule asks of the token of a request, and its condition. Pure.

token:
  issuers: [corp]                       # TokenIssuers, by name; without: any that the service knows
  scopes: [orders:write]                # each
  claims: {team: [a, b], realm.role: [clerk]}
  acr: [urn:shop:mfa]                   # any
  amr: [hwk, pin]                       # each
  maxAge: 15m                           # since the user last proved who they are
when: request.headers["x-tenant"] == source.namespace
"""

from __future__ import annotations

from typing import Final

from ringfence.policy.bounds import ISSUER_LIMIT, TOKEN_WORD_LIMIT
from ringfence.policy.conditions import ConditionError
from ringfence.policy.lists import read_list
from ringfence.policy.model import TokenMatch
from ringfence.policy.problems import Place, shown
from ringfence.policy.reading.context import Context, placed, read_reference
from ringfence.policy.words import LIMIT_AGE_SECONDS, LIMIT_WHEN_CHARACTERS, is_claim_name, is_scope
from ringfence.policy.written import Placed
from ringfence.policy.yamlnodes import MappingReader, ValueReader

LIMIT_WORD_CHARACTERS: Final = 2_048
_OPEN: Final = "remove it to leave it open, or name what is asked"


def read_token(reader: MappingReader, context: Context) -> tuple[Placed[TokenMatch] | None, tuple[Placed[str], ...]]:
    """What ``token`` asks for, and the issuers in it with their places; None where it is absent."""
    if "token" not in reader:
        reader.known("token")
        return None, ()
    token = reader.mapping("token")
    if token.present and not list(token):
        reader.problem("token is empty", "name the issuers, or remove it to ask for none", key="token")
    problems = context.problems
    issuers = placed(
        read_list(
            token,
            "issuers",
            lambda item: read_reference(item, "token issuer", context),
            problems,
            _OPEN,
            limit=ISSUER_LIMIT,
        )
    )
    scopes = read_list(token, "scopes", _read_scope, problems, _OPEN, limit=TOKEN_WORD_LIMIT)
    match = TokenMatch(
        issuers=tuple(issuer.value for issuer in issuers),
        scopes=_values(scopes),
        claims=_read_claims(token, context),
        acr=_values(read_list(token, "acr", read_word, problems, _OPEN, limit=TOKEN_WORD_LIMIT)),
        amr=_values(read_list(token, "amr", read_word, problems, _OPEN, limit=TOKEN_WORD_LIMIT)),
        max_age_seconds=_read_age(token),
    )
    token.finish()
    return Placed(match, reader.place("token")), issuers


def _values(found: list[tuple[str, Place]]) -> tuple[str, ...]:
    return tuple(value for value, _ in found)


def _read_age(token: MappingReader) -> int | None:
    seconds = token.duration("maxAge", low=1, high=LIMIT_AGE_SECONDS, default=None)
    if seconds is not None and seconds != int(seconds):
        token.problem("maxAge has a part of a second", "write whole seconds", key="maxAge")
    return int(seconds) if seconds is not None else None


def read_word(item: ValueReader) -> str | None:
    """A word of a token: ASCII that can be seen, without spaces at its ends."""
    text = item.text()
    if not text:
        return None
    if len(text) > LIMIT_WORD_CHARACTERS or not (text.isascii() and text.isprintable()) or text != text.strip():
        item.problem(f"{shown(text)} is no word of a token", "use ASCII that can be seen, with spaces only inside")
        return None
    return text


def _read_scope(item: ValueReader) -> str | None:
    text = item.text()
    if not text:
        return None
    if not is_scope(text):
        mend = "list each scope by itself" if " " in text else "use ASCII that can be seen, but '\"' and '\\'"
        item.problem(f"{shown(text)} is not a scope", mend)
        return None
    return text


def _read_claims(token: MappingReader, context: Context) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Claims and their values, ordered by name."""
    reader = token.mapping("claims", default=None)
    names = list(reader)
    if reader.present and not names:
        token.problem("claims is empty", _OPEN, key="claims")
    if len(names) > TOKEN_WORD_LIMIT:
        token.problem(f"claims has {len(names)} items", f"at most {TOKEN_WORD_LIMIT}: split the rule", key="claims")
        return ()
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if "://" in name:
            # The dots of such a name would be read as the way into nested objects, and never match.
            mend = f"ask for it in when: token.claims[{name!r}]"
            reader.problem(f"claim {shown(name)} has a name that cannot be written here", mend[:160], key=name)
        elif not is_claim_name(name):
            mend = "use ASCII letters, digits and '_', with dots into nested objects"
            reader.problem(f"{shown(name)} is not the name of a claim", mend, key=name)
        else:
            found[name] = _values(
                read_list(reader, name, read_claim_value, context.problems, "name a value", limit=TOKEN_WORD_LIMIT)
            )
    return tuple(sorted(found.items()))


def read_claim_value(item: ValueReader) -> str | None:
    """A value of a claim: any text that can be seen, of whatever script."""
    text = item.text()
    if text and (len(text) > LIMIT_WORD_CHARACTERS or not text.isprintable()):
        item.problem(f"{shown(text)} cannot be the value of a claim", "remove what cannot be seen")
        return None
    return text or None


def read_when(reader: MappingReader, context: Context) -> Placed[str] | None:
    """The condition, which compiles and is of the right type; None where there is none."""
    text = reader.text("when", default=None)
    if text is None:
        return None
    if len(text) > LIMIT_WHEN_CHARACTERS:
        mend = f"at most {LIMIT_WHEN_CHARACTERS}: put part of it into another rule"
        reader.problem(f"when has {len(text)} characters", mend, key="when")
        return None
    try:
        if text:
            context.conditions.compile(text)
    except ConditionError as error:
        reader.problem(f"when, at its {error.line}:{error.column}: {error.message}", key="when")
    return Placed(text, reader.place("when"))
