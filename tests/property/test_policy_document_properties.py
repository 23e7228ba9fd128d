"""What must hold of documents whatever they say: the schema and the reader agree, and a sidecar takes what both take.

Documents are made from the table of which the schema is made, so a field that is added to it is tried here, too.
"""

from __future__ import annotations

import json
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import read_documents
from ringfence.policy.schema import texts
from ringfence.policy.schema.examples import EXAMPLES
from ringfence.policy.schema.kinds import KINDS
from ringfence.policy.schema.shapes import (
    Choice,
    Either,
    Field,
    Flag,
    Kind,
    Many,
    Named,
    Number,
    Object,
    Shape,
    Text,
    Variant,
)
from ringfence.policy.services import MeshService
from ringfence.spiffe import SpiffeId, TrustDomain
from ringfence.wire.policies import policy_to_wire, read_policy
from ringfence.wire.tokens import issuers_to_wire, read_issuers
from tests.policy_texts import schema_refuses

KEYS: Final = "".join(EXAMPLES["TokenIssuer"]).partition("inline: |\n")[2].partition("  header")[0].strip()
# What leads to other documents or to services, or must compile, is drawn from what there is.
KNOWN: Final = {
    "service": ["orders", "web"],
    "when": ["source.authenticated", "request.headers['x-a'] == 'b'", "destination.labels['a'] == 'b'"],
    "roles": [["reader"], ["shop/reader", "clerk"]],
    "callerSet": ["front", "shop/front"],
    "issuers": [["corp"]],
    "ports": [[8080], [8080, 9000]],
    "labels": [{"tier": "edge"}],
    "serviceLabels": [{"tier": "edge"}],
    "inline": [KEYS],
    "until": ["2027-01-31T18:00:00Z", "2027-01-31T20:00:00+02:00"],
    "url": ["https://login.example/keys"],
    "scope": ["namespace"],
    "posture": ["observe"],
    "maxAge": ["15m", "1h30m"],
    "cache": ["0s", "30s"],
    "leeway": ["0s", "5m"],
    "secretFile": ["/run/secrets/orders"],
    "cidrs": [["10.0.0.0/8"], ["fd00::/8", "192.0.2.1/32"]],
}
SERVICES: Final = {
    f"shop/{name}": MeshService(
        ports={8080: "http", 9000: "http2"},
        permissive=frozenset({8080}),
        spiffe_id=SpiffeId(TrustDomain("shop.example"), f"/ns/shop/sa/{name}"),
        labels=(("tier", "edge"),),
    )
    for name in ("orders", "web")
}
BESIDE: Final = [
    {"kind": "Role", "metadata": {"name": "reader"}, "spec": {"permissions": [{"name": "read", "methods": ["GET"]}]}},
    {
        "kind": "Role",
        "metadata": {"name": "clerk"},
        "spec": {
            "permissions": [
                {
                    "name": "write",
                    "paths": ["/a"],
                    "token": {"claims": {"role": ["clerk"]}},
                    "when": "source.authenticated",
                }
            ]
        },
    },
    {"kind": "CallerSet", "metadata": {"name": "front"}, "spec": {"callers": ["web", "orders"]}},
    {
        "kind": "TokenIssuer",
        "metadata": {"name": "corp"},
        "spec": {"issuer": "https://a", "audiences": ["b"], "jwks": {"inline": KEYS}},
    },
]
NOW: Final = 1_800_000_000.0


def values(shape: Shape) -> st.SearchStrategy[object]:
    """Values that the schema takes, as far as shapes can say it."""
    match shape:
        case Text() if shape is texts.SERVICE:
            return st.sampled_from(["web", "shop/orders"])
        case Text():
            whole = st.from_regex(shape.pattern, fullmatch=True, alphabet=st.characters(max_codepoint=0x17F))
            return whole.filter(lambda text: text and (shape.limit is None or len(text) <= shape.limit))
        case Number():
            return st.integers(shape.low, shape.high)
        case Flag():
            return st.just(True) if shape.only_true else st.booleans()
        case Choice():
            return st.sampled_from(shape.words)
        case Many():
            return st.lists(values(shape.item), min_size=shape.least, max_size=3, unique_by=json.dumps)
        case Named():
            return st.dictionaries(values(shape.key), values(shape.value), min_size=1, max_size=3)  # type: ignore[arg-type]
        case Either():
            return st.one_of(*(values(one) for one in shape.shapes))
        case Object():
            return objects(shape)


def of_field(field: Field) -> st.SearchStrategy[object]:
    known = KNOWN.get(field.name)
    return st.sampled_from(known) if known is not None else values(field.shape)


@st.composite
def objects(draw: st.DrawFn, shape: Object) -> dict[str, object]:
    variant = draw(st.sampled_from(shape.variants)) if shape.variants else Variant(there=())
    found: dict[str, object] = {}
    for field in shape.fields:
        if field.name in variant.absent:
            continue
        if field.required or field.name in variant.there or draw(st.booleans()):
            found[field.name] = variant.fixed.get(field.name) or draw(of_field(field))
    for name in shape.apart[1:]:
        found.pop(name, None)
    if shape.needed is not None and shape.needed.beside in found:
        found.pop(shape.needed.field, None)
    return found


@st.composite
def documents(draw: st.DrawFn) -> tuple[Kind, str]:
    kind = draw(st.sampled_from(KINDS))
    spec = draw(objects(kind.spec))
    written = [*BESIDE, {"kind": kind.name, "metadata": {"name": "drawn"}, "spec": spec}]
    texts = []
    for one in written:
        metadata = {**one["metadata"], "namespace": "shop"}  # type: ignore[dict-item]
        texts.append(json.dumps({"apiVersion": "ringfence.io/v1alpha1", **one, "metadata": metadata}))
    return kind, "\n---\n".join(texts)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(documents())
def test_what_the_reader_takes_the_schema_and_every_sidecar_take(drawn: tuple[Kind, str]) -> None:
    _, text = drawn
    found, problems = read_documents(text, "f.yaml")
    for problem in problems:
        line = str(problem)
        assert line.startswith("f.yaml:")
        assert "\n" not in line
        assert line.isascii() or "…" in line
    if problems:
        return
    assert schema_refuses(text) == []
    assert len(found) == len(BESIDE) + 1
    surroundings = Surroundings(services=SERVICES, trust_domain=TrustDomain("shop.example"), now=NOW)
    binding = bind(found, surroundings)
    for policy in binding.policies.values():
        assert read_policy("", policy_to_wire(policy.policy)) == policy.policy
        told = [one for one in policy.issuers if one.introspection is None]
        assert read_issuers("", issuers_to_wire(told)) == tuple(told)
