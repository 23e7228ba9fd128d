"""Allowlists and denylists. Pure.

kind: Allowlist                         # or Denylist: what its rules speak of is refused, whatever permits it
metadata: {name: orders-callers, namespace: shop}
spec:
  service: orders                       # or labels, or scope
  mode: enforce                         # or shadow: judged beside what is in force, never enforced
  rules:
    - name: web-reads
      from: [web]                       # any one of them
      to: {methods: [GET], paths: ["/orders/{id}"]}   # all of them; what is absent is open
      token: {scopes: [orders:read]}    # never in a Denylist
      when: source.namespace == "shop"
"""

from __future__ import annotations

from ringfence.policy.reading.context import Context
from ringfence.policy.reading.rules import read_rules
from ringfence.policy.reading.selectors import read_mode, read_selector
from ringfence.policy.written import AllowlistDocument, DenylistDocument
from ringfence.policy.yamlnodes import MappingReader


def read_allowlist(spec: MappingReader, context: Context) -> AllowlistDocument:
    """The allowlist in ``spec``."""
    return AllowlistDocument(
        header=context.header,
        selector=read_selector(spec, context.problems),
        mode=read_mode(spec),
        rules=read_rules(spec, context),
    )


def read_denylist(spec: MappingReader, context: Context) -> DenylistDocument:
    """The denylist in ``spec``."""
    return DenylistDocument(
        header=context.header,
        selector=read_selector(spec, context.problems),
        mode=read_mode(spec),
        rules=read_rules(spec, context, denies=True),
    )
