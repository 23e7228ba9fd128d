"""Whole documents of each kind, as the reference page shows them; a test reads each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_ALLOWLIST: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: orders-callers, namespace: shop}
spec:
  service: orders
  rules:
    - name: web-reads
      from: [web]
      to:
        methods: [GET]
        paths: [/orders, "/orders/{id}"]
    - name: billing-exports
      from:
        - service: billing/export
          cidrs: [10.20.0.0/16]
        - callerSet: auditors
      to:
        ports: [8080]
        hosts: [orders.shop.example]
        paths: ["/reports/**"]
        headers:
          - {name: x-tenant, values: [blue, green]}
          - {name: x-debug, present: false}
      token:
        issuers: [corp]
        scopes: [orders:read]
        claims: {department: [finance]}
        acr: ["urn:shop:mfa"]
        amr: [hwk]
        maxAge: 15m
      when: request.headers["x-tenant"] == "blue" || now.getHours() < 18
"""
_ALLOWLIST_SHADOW: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Allowlist
metadata: {name: pii-callers, namespace: shop}
spec:
  labels: {data: pii}
  mode: shadow
  rules:
    - name: catalogue
      from: [{serviceLabels: {tier: edge}}, {namespace: ops}]
      to:
        grpc: ["shop.Catalogue/Get", "shop.Search/*"]
    - name: readers
      from: [{trustDomain: partner.example}]
      to: {roles: [orders-reader]}
    - name: health
      from: [{authenticated: true}, {unauthenticated: true}]
      to: {methods: [GET], paths: [/healthz]}
"""
_DENYLIST: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Denylist
metadata: {name: never, namespace: ringfence-system}
spec:
  scope: mesh
  rules:
    - name: no-admin-paths
      from: [{anyone: true}]
      to: {paths: ["/admin/**"]}
    - name: lost-laptop
      from: [{spiffeId: "spiffe://shop.example/ns/shop/sa/laptop"}]
"""
_ROLE: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Role
metadata: {name: orders-reader, namespace: shop}
spec:
  permissions:
    - name: read
      methods: [GET, HEAD]
      paths: [/orders, "/orders/{id}"]
    - name: watch
      grpc: [shop.Orders/Watch]
      when: source.namespace == "shop"
"""
_CALLER_SET: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: CallerSet
metadata: {name: auditors, namespace: shop}
spec:
  callers: [audit, billing/audit, {namespace: compliance}]
"""
_ROLE_BINDING: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: RoleBinding
metadata: {name: readers, namespace: shop}
spec:
  service: orders
  roles: [orders-reader]
  from: [web, {callerSet: auditors}]
"""
_POSTURE: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Posture
metadata: {name: bringing-in, namespace: shop}
spec:
  scope: namespace
  posture: observe
  until: 2027-01-31T18:00:00Z
"""
_ISSUER: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec:
  issuer: https://login.shop.example
  audiences: [orders]
  jwks: {url: "https://login.shop.example/keys"}
  algorithms: [ES256]
  claimHeaders: {x-user: sub}
"""
_ISSUER_INLINE: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: TokenIssuer
metadata: {name: partner, namespace: ringfence-system}
spec:
  scope: mesh
  labels: {tier: edge}
  issuer: https://partner.example
  audiences: [shop]
  jwks:
    inline: |
      {"keys": [{"kty": "EC", "crv": "P-256", "kid": "2027",
         "x": "OVApog4Kelp0C7KCU5SuSYh1SUCVPd94tbF8d8TAfMQ",
         "y": "c1RdWzkzTse1_Mzd_R-tOhNJSj-hptf4U5M0UbyXjYs"}]}
  header: x-partner-token
  leeway: 5s
"""
_ISSUER_OPAQUE: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: TokenIssuer
metadata: {name: legacy, namespace: shop}
spec:
  service: orders
  issuer: https://old.shop.example
  audiences: [orders]
  cookie: session
  introspection:
    url: https://old.shop.example/introspect
    clientId: orders
    secretFile: /run/secrets/orders-introspection
    cache: 30s
"""
_EGRESS: Final = """\
apiVersion: ringfence.io/v1alpha1
kind: Egress
metadata: {name: payments, namespace: shop}
spec:
  service: orders
  rules:
    - name: stripe
      hosts: [api.stripe.com, "*.stripe.network"]
      ports: [443]
    - name: old-database
      cidrs: [10.9.0.0/24]
      ports: [5432]
"""

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "Allowlist": (_ALLOWLIST, _ALLOWLIST_SHADOW),
    "Denylist": (_DENYLIST,),
    "Role": (_ROLE,),
    "CallerSet": (_CALLER_SET,),
    "RoleBinding": (_ROLE_BINDING,),
    "Posture": (_POSTURE,),
    "Egress": (_EGRESS,),
    "TokenIssuer": (_ISSUER, _ISSUER_INLINE, _ISSUER_OPAQUE),
}
