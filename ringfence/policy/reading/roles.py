"""Roles, caller sets, and the bindings that bring them together. Pure.

kind: Role
spec:
  permissions:
    - {name: read, methods: [GET], paths: ["/orders/{id}"]}

kind: CallerSet
spec: {callers: [web, {namespace: billing}]}

kind: RoleBinding
spec: {service: orders, roles: [reader], from: [{callerSet: front}]}
"""

from __future__ import annotations

from ringfence.policy.lists import read_list
from ringfence.policy.reading.context import Context, placed, read_reference
from ringfence.policy.reading.origins import PLAIN_FORMS, RULE_FORMS, read_origins
from ringfence.policy.reading.rules import read_permissions
from ringfence.policy.reading.selectors import read_mode, read_selector
from ringfence.policy.written import CallerSetDocument, RoleBindingDocument, RoleDocument
from ringfence.policy.yamlnodes import MappingReader


def read_role(spec: MappingReader, context: Context) -> RoleDocument:
    """The role in ``spec``."""
    return RoleDocument(header=context.header, permissions=read_permissions(spec, context))


def read_caller_set(spec: MappingReader, context: Context) -> CallerSetDocument:
    """The caller set in ``spec``. It names no other, so that no chain of them has an end to look for."""
    return CallerSetDocument(header=context.header, callers=read_origins(spec, "callers", PLAIN_FORMS, context))


def read_role_binding(spec: MappingReader, context: Context) -> RoleBindingDocument:
    """The role binding in ``spec``."""
    roles = read_list(
        spec,
        "roles",
        lambda item: read_reference(item, "role", context),
        context.problems,
        "name a role, or remove the binding",
        required=True,
    )
    return RoleBindingDocument(
        header=context.header,
        selector=read_selector(spec, context.problems),
        mode=read_mode(spec),
        roles=placed(roles),
        callers=read_origins(spec, "from", RULE_FORMS, context),
    )
