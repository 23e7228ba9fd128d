"""Lists of rules with all names in them resolved: callers, and roles as the rules that they stand for. Pure.

A rule with roles becomes one rule for each of their permissions, named ``<rule>.<role>.<permission>``; a role binding
becomes an allowlist of its own name with the rules ``<role>.<permission>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ringfence.policy.binding.callers import CallerResolver
from ringfence.policy.binding.catalog import Catalog
from ringfence.policy.binding.conditions import compiled
from ringfence.policy.binding.selection import DENYLIST
from ringfence.policy.bounds import CALLER_LIMIT, TOKEN_WORD_LIMIT
from ringfence.policy.conditions import ConditionError
from ringfence.policy.model import Callers, Rule, TokenMatch, UnauthenticatedCallers
from ringfence.policy.problems import Place, Problem, shown
from ringfence.policy.services import unknown_name
from ringfence.policy.written import (
    AllowlistDocument,
    DenylistDocument,
    Header,
    Mode,
    Placed,
    RoleBindingDocument,
    RoleDocument,
    Selector,
    Words,
    WrittenCallers,
    WrittenRule,
)

EXPANDED_LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatRule:
    """A rule as sidecars are told it, and where its parts stand.

    ``unauthenticated``: where it says so, if it does. ``whole``: all of its callers are known.
    """

    rule: Rule
    place: Place
    words: Words
    unauthenticated: Place | None
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Whom a rule names."""

    callers: tuple[Callers, ...]
    whole: bool
    unauthenticated: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatList:
    """An allowlist (also one made of a role binding) or a denylist, names resolved but for its selector."""

    header: Header
    selector: Placed[Selector]
    mode: Mode
    denies: bool
    rules: tuple[FlatRule, ...]

    @property
    def what(self) -> str:
        """Its kind, for messages."""
        return DENYLIST if self.denies else "allowlist"


class ListResolver:
    """Makes flat lists of documents. ``callers`` resolves those who are permitted, ``denied`` those who are not."""

    def __init__(
        self, catalog: Catalog, callers: CallerResolver, denied: CallerResolver, problems: list[Problem]
    ) -> None:
        self._catalog = catalog
        self._callers = callers
        self._denied = denied
        self._problems = problems

    def resolve(self) -> list[FlatList]:
        """Every list of the catalog, role bindings among them, in the order of their places."""
        found = [self._list(one) for one in self._catalog.allowlists]
        found += [self._list(one) for one in self._catalog.denylists]
        found += [self._binding(one) for one in self._catalog.bindings]
        return sorted(found, key=lambda one: one.header.place)

    def _list(self, document: AllowlistDocument | DenylistDocument) -> FlatList:
        denies = isinstance(document, DenylistDocument)
        callers = self._denied if denies else self._callers
        rules = self._distinct(flat for rule in document.rules for flat in self._rule(rule, callers))
        for flat in rules:
            if denies and flat.rule.token is not None:
                # What has no token, or a bad one, would pass such a rule.
                message = (
                    f"rule {flat.rule.name} of a denylist would ask for a token, as a permission of this role does"
                )
                self._problems.append(flat.place.problem(message, "name another role, or write its words here"))
        return FlatList(
            header=document.header, selector=document.selector, mode=document.mode, denies=denies, rules=rules
        )

    def _binding(self, document: RoleBindingDocument) -> FlatList:
        named = self._named(document.callers, document.header.place, self._callers)
        rules = [
            self._flat(name, role.place, words, named)
            for role in document.roles
            for name, words in self._permissions(role)
        ]
        return FlatList(
            header=document.header,
            selector=document.selector,
            mode=document.mode,
            denies=False,
            rules=self._distinct(rules),
        )

    def _rule(self, rule: WrittenRule, callers: CallerResolver) -> Iterator[FlatRule]:
        named = self._named(rule.callers, rule.place, callers)
        if not rule.roles:
            yield self._flat(rule.name, rule.place, rule.words, named)
            return
        for role in rule.roles:
            for name, words in self._permissions(role):
                both = self._both(words, rule.words, role.place)
                if both is not None:
                    yield self._flat(f"{rule.name}.{name}", role.place, both, named)

    def _named(self, items: tuple[Placed[WrittenCallers], ...], place: Place, resolver: CallerResolver) -> _Named:
        """The callers of a rule. Without any, why was told where they stand; what else is wrong is still looked for."""
        callers = resolver.resolve(items)
        whole = resolver.whole
        if len(callers) > CALLER_LIMIT:
            message = f"{len(callers)} callers are more than {CALLER_LIMIT}"
            self._problems.append(place.problem(message, "name a namespace instead of its services, or split the rule"))
        return _Named(callers=callers, whole=whole, unauthenticated=_unauthenticated(items))

    def _permissions(self, reference: Placed[str]) -> Iterator[tuple[str, Words]]:
        role = self._catalog.roles.get(reference.value)
        if role is None:
            self._problems.append(unknown_name("role", reference.value, reference.place, self._catalog.roles))
            return
        for permission in role.permissions:
            yield f"{_short(role)}.{permission.name}", permission.words

    def _both(self, words: Words, beside: Words, place: Place) -> Words | None:
        """A permission's words, and what its rule asks for beside them; None where no call could have both."""
        token, when = words.token, words.when
        if beside.token is not None:
            merged = _merge(words.token.value, beside.token.value) if words.token is not None else beside.token.value
            if merged is None:
                message = "the rule and a permission of this role ask for tokens that no request can have at once"
                self._problems.append(place.problem(message, "ask for issuers and acr in one of them"))
                return None
            if max(len(merged.scopes), len(merged.claims), len(merged.amr)) > TOKEN_WORD_LIMIT:
                message = (
                    f"the rule and its role ask tokens for more than {TOKEN_WORD_LIMIT} words of one kind together"
                )
                self._problems.append(place.problem(message, "ask for fewer scopes, claims or amr"))
            token = Placed(merged, beside.token.place)
        if beside.when is not None:
            # Line ends, as a comment would run on to the end of the line.
            text = f"({words.when.value}\n) && ({beside.when.value}\n)" if words.when is not None else beside.when.value
            found = compiled(text)
            if isinstance(found, ConditionError):
                message = f"the conditions of the rule and of its role cannot be enforced together: {found.message}"
                self._problems.append(place.problem(message, "shorten or simplify them"))
            when = Placed(text, beside.when.place)
        return replace(words, token=token, when=when, issuers=(*words.issuers, *beside.issuers))

    def _flat(self, name: str, place: Place, words: Words, named: _Named) -> FlatRule:
        return FlatRule(
            rule=Rule(
                name=name,
                callers=named.callers,
                ports=tuple(part.value for part in words.ports),
                methods=tuple(part.value for part in words.methods),
                paths=tuple(part.value for part in words.paths),
                hosts=tuple(part.value for part in words.hosts),
                headers=tuple(part.value for part in words.headers),
                grpc=tuple(part.value for part in words.grpc),
                token=words.token.value if words.token is not None else None,
                when=words.when.value if words.when is not None else "",
            ),
            place=place,
            words=words,
            unauthenticated=named.unauthenticated,
            whole=named.whole,
        )

    def _distinct(self, rules: Iterable[FlatRule]) -> tuple[FlatRule, ...]:
        """The rules, no name twice: two roles may have one name in two namespaces."""
        found: dict[str, FlatRule] = {}
        for flat in rules:
            first = found.setdefault(flat.rule.name, flat)
            if first is not flat:
                message = f"two rules become {shown(flat.rule.name)}"
                self._problems.append(flat.place.problem(message, f"first at {first.place}: rename a role"))
            if len(found) > EXPANDED_LIMIT:
                message = f"roles become more than {EXPANDED_LIMIT} rules"
                self._problems.append(flat.place.problem(message, "bind fewer roles here"))
                break
        return tuple(found.values())


def _short(role: RoleDocument) -> str:
    return role.header.name


def _unauthenticated(items: Iterable[Placed[WrittenCallers]]) -> Place | None:
    """Where callers without identity are named by these words; who says ``anyone`` names them by the way."""
    return next((item.place for item in items if isinstance(item.value.origin, UnauthenticatedCallers)), None)


def _merge(one: TokenMatch, other: TokenMatch) -> TokenMatch | None:
    """What a token must say to satisfy both; None where none can."""
    issuers, acr = _either(one.issuers, other.issuers), _either(one.acr, other.acr)
    if issuers is None or acr is None:
        return None
    ages = [age for age in (one.max_age_seconds, other.max_age_seconds) if age is not None]
    return TokenMatch(
        issuers=issuers,
        scopes=tuple(dict.fromkeys((*one.scopes, *other.scopes))),
        claims=tuple(dict.fromkeys((*one.claims, *other.claims))),
        acr=acr,
        amr=tuple(dict.fromkeys((*one.amr, *other.amr))),
        max_age_seconds=min(ages, default=None),
    )


def _either(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """The words that both have, where an empty list is open; None where they share none."""
    if not one or not other:
        return one or other
    return tuple(word for word in one if word in other) or None
