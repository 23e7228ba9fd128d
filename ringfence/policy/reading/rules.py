"""The rules of lists and the permissions of roles, and what two of them must not share. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from ringfence.policy.envelope import read_label
from ringfence.policy.lists import read_items, read_list
from ringfence.policy.problems import Place, shown
from ringfence.policy.reading.calls import FIELDS, path_shape, read_calls
from ringfence.policy.reading.context import Context, placed, read_reference
from ringfence.policy.reading.origins import DENY_FORMS, RULE_FORMS, read_origins
from ringfence.policy.reading.tokens import read_token, read_when
from ringfence.policy.written import Permission, Placed, Words, WrittenCallers, WrittenRule
from ringfence.policy.yamlnodes import MappingReader

LIMIT_RULES: Final = 10_000
LIMIT_PERMISSIONS: Final = 1_000


def read_rules(spec: MappingReader, context: Context, *, denies: bool = False) -> tuple[WrittenRule, ...]:
    """The rules in which nothing is wrong, at ``rules``; those of a denylist have other words."""
    rules: list[WrittenRule] = []
    for reader, name in _named(spec, "rules", "rule", LIMIT_RULES, context):
        before = len(context.problems)
        rule = _read_rule(reader, name, context, denies=denies)
        reader.finish()
        if name and len(context.problems) == before:
            rules.append(rule)
    _check_clashes(((rule.name, rule.words, rule.callers) for rule in rules), context)
    return tuple(rules)


def read_permissions(spec: MappingReader, context: Context) -> tuple[Permission, ...]:
    """The permissions in which nothing is wrong, at ``permissions``, of which there is at least one."""
    permissions: list[Permission] = []
    before = len(context.problems)
    for reader, name in _named(spec, "permissions", "permission", LIMIT_PERMISSIONS, context):
        at = len(context.problems)
        # The words of ``to`` stand in the permission itself, as it has no callers to tell them from.
        words = _read_conditions(reader, read_calls(reader, context), context)
        if reader.present and not set(reader) - {"name"}:
            mend = "name what it permits; paths: [/**] is every request, ports: [N] everything on a port"
            reader.problem("permission says nothing, so that it would permit everything", mend)
        reader.finish()
        if name and len(context.problems) == at:
            permissions.append(Permission(name=name, place=reader.place("name"), words=words))
    if not permissions and len(context.problems) == before:
        spec.problem("permissions is empty", "add one, or remove the role", key="permissions")
    _check_clashes(((one.name, one.words, ()) for one in permissions), context)
    return tuple(permissions)


def _named(
    spec: MappingReader, key: str, what: str, limit: int, context: Context
) -> Iterator[tuple[MappingReader, str]]:
    """The mappings at ``key`` with their names; a name that comes twice is told, and is "" where it comes again."""
    seen: dict[str, Place] = {}
    for item in read_items(spec, key, limit):
        reader = item.mapping()
        name = read_label(reader, "name")
        place = reader.place("name")
        if name and seen.setdefault(name, place) is not place:
            mend = f"first used on line {seen[name].line}: rename one"
            reader.problem(f"duplicate {what} name {shown(name)}", mend, key="name")
            name = ""
        yield reader, name


def _read_rule(reader: MappingReader, name: str, context: Context, *, denies: bool) -> WrittenRule:
    callers = read_origins(reader, "from", DENY_FORMS if denies else RULE_FORMS, context)
    to = reader.mapping("to", default=None)
    if to.present and not list(to):
        reader.problem("to is empty", "remove it to leave all open, or add ports, methods or paths", key="to")
    words = read_calls(to, context)
    roles = placed(
        read_list(
            to,
            "roles",
            lambda item: read_reference(item, "role", context),
            context.problems,
            "remove it, or name a role",
        )
    )
    beside = [field for field in FIELDS if field in to]
    if "roles" in to and beside:
        mend = "keep one of them, or put it into the role's permissions"
        to.problem(f"to has roles and {beside[0]}", mend, key=beside[0])
    to.finish()
    if not denies:
        words = _read_conditions(reader, words, context)
    else:
        words = replace(words, when=read_when(reader, context))
        if "token" in reader:
            # What has no token, or a bad one, would pass such a rule: it would refuse the honest only.
            mend = "refuse by a condition in when, or require the token in an Allowlist"
            reader.problem("a denylist cannot ask for a token", mend, key="token")
            reader.known("token")
    return WrittenRule(name=name, place=reader.place("name"), callers=callers, words=words, roles=roles)


def _read_conditions(reader: MappingReader, words: Words, context: Context) -> Words:
    token, issuers = read_token(reader, context)
    return replace(words, token=token, issuers=issuers, when=read_when(reader, context))


def _check_clashes(rules: Iterable[tuple[str, Words, tuple[Placed[WrittenCallers], ...]]], context: Context) -> None:
    """Tell two rules that differ in nothing but the spelling of a path: which of them spoke could not be told.

    That two templates overlap is no error otherwise (``/a/{x}/b`` and ``/a/c/{y}``): any match permits.
    """
    seen: dict[Hashable, tuple[str, Place]] = {}
    for name, words, callers in rules:
        beside = tuple(
            frozenset(part.value for part in parts)
            for parts in (callers, words.ports, words.methods, words.hosts, words.headers, words.grpc)
        )
        for path in words.paths:
            key = (beside, words.token, words.when, path_shape(path.value))
            first, place = seen.setdefault(key, (name, path.place))
            if first != name:
                message = f"path {shown(path.value)} of {name} takes the same calls as a path of {first}"
                mend = f"first on line {place.line}: remove one, or let the two differ in callers or methods"
                context.problems.append(path.place.problem(message, mend))
