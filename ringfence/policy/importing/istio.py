"""AuthorizationPolicy and RequestAuthentication of Istio. Pure.

In Istio a workload without an ALLOW policy takes every call; here it takes none: what no rule permits is refused. A
source and an operation hold together, so each pair of them becomes a rule of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from ringfence.policy.conditions import check_condition
from ringfence.policy.importing.draft import Draft
from ringfence.policy.importing.imported import (
    CannotSayError,
    Import,
    Made,
    Unsaid,
    Weight,
    Words,
    checked,
    checked_rule,
    selector_of,
)
from ringfence.policy.importing.istio_calls import read_operation
from ringfence.policy.importing.istio_conditions import read_condition
from ringfence.policy.importing.istio_sources import Names, read_source
from ringfence.policy.importing.istio_tokens import read_issuers
from ringfence.policy.importing.objects import KubeObject, match_labels
from ringfence.policy.problems import Place, shown
from ringfence.policy.yamlnodes import MappingReader

GROUP: Final = "security.istio.io"
_RULES: Final = {"ALLOW": "Allowlist", "DENY": "Denylist"}
_WEIGHTS: Final = {"ALLOW": Weight.ALLOW, "AUDIT": Weight.NOTE}
_ACTIONS: Final = {
    "AUDIT": "action AUDIT only logs: every call is counted here anyway",
    "CUSTOM": "action CUSTOM asks another service, and none is asked here",
}
_MODES: Final = "modes of ports stand in the mesh file: strict unless a port says permissive"


def import_istio(objects: Iterable[KubeObject], made: Import, *, trust_domain: str, roots: Mapping[str, str]) -> None:
    """Add what the objects say. ``roots``: Istio's root namespace to ours, where policies speak of the whole mesh."""
    objects = list(objects)
    issuers: dict[str, str] = {}
    for found in objects:
        if found.kind == "RequestAuthentication":
            issuers |= read_issuers(found, _selector(found, roots), roots.get(found.namespace, found.namespace), made)
    names = Names(trust_domain=trust_domain, issuers=issuers)
    for found in objects:
        if found.kind == "AuthorizationPolicy":
            _import_policy(found, names, roots, made)
        elif found.kind != "RequestAuthentication":
            why = "it says nothing of who may call what" if found.kind != "PeerAuthentication" else _MODES
            made.unsaid.append(Unsaid(place=found.place, source=str(found), why=why, weight=Weight.NOTE))


def _selector(found: KubeObject, roots: Mapping[str, str]) -> Words | CannotSayError:
    """Our selector, or why there is none."""
    spec = found.spec
    try:
        for key in ("targetRefs", "targetRef"):
            if key in spec:
                spec.known(key)
                return _target(found, key)
        labels = match_labels(spec.mapping("selector", default=None), found)
        if found.namespace in roots:
            return {"scope": "mesh"} | ({"labels": labels} if labels else {})
        return selector_of(labels)
    except CannotSayError as error:
        return error


def _target(found: KubeObject, key: str) -> Words:
    items = found.spec.mappings(key) if key == "targetRefs" else [found.spec.mapping(key)]
    if len(items) != 1:
        raise CannotSayError(found.spec.place(key), "several targets: one document selects one")
    kind, name = items[0].text("kind"), items[0].text("name")
    if kind != "Service":
        raise CannotSayError(found.spec.place(key), f"{kind} is no service of the mesh")
    return {"service": name}


def _import_policy(found: KubeObject, names: Names, roots: Mapping[str, str], made: Import) -> None:
    action = found.spec.text("action", default="ALLOW")
    policy = _Policy(found, names, action, made)
    selector = _selector(found, roots)
    try:
        if isinstance(selector, CannotSayError):
            raise selector
        if action not in _RULES:
            raise CannotSayError(
                found.spec.place("action"), _ACTIONS.get(action, f"action {shown(action)} is not known")
            )
        found.take_problem()
        kind = _RULES[action]
        rules = list(policy.rules(kind))
        found.spec.known("provider")
        found.spec.finish()
        found.take_problem()
        if kind == "Allowlist" or rules:
            namespace = roots.get(found.namespace, found.namespace)
            document = Made(kind=kind, namespace=namespace, name=found.name, spec={**selector, "rules": rules})
            made.add(checked(document, found.place), found.place, str(found))
    except CannotSayError as error:
        found.problems.clear()
        policy.unsaid(error)


class _Policy:
    """One policy, rule by rule."""

    def __init__(self, found: KubeObject, names: Names, action: str, made: Import) -> None:
        self._found = found
        self._names = names
        self._made = made
        self._denies = action == "DENY"
        self._weight = _WEIGHTS.get(action, Weight.DENY)

    def unsaid(self, error: CannotSayError) -> None:
        """List what cannot be said."""
        told = Unsaid(place=error.place, source=str(self._found), why=error.why, weight=self._weight)
        self._made.unsaid.append(told)

    def rules(self, kind: str) -> Iterator[Words]:
        """Our rules; each that cannot be said is listed and left out."""
        for number, item in enumerate(self._found.spec.mappings("rules", default=None), 1):
            sources: list[MappingReader | None] = []
            sources += [one.mapping("source") for one in item.mappings("from", default=None)]
            calls: list[MappingReader | None] = []
            calls += [one.mapping("operation") for one in item.mappings("to", default=None)]
            conditions = item.mappings("when", default=None)
            item.finish()
            try:
                self._found.take_problem()
            except CannotSayError as error:
                self.unsaid(error)
                continue
            pairs = list(product(sources or [None], calls or [None]))
            for at, (source, call) in enumerate(pairs, 1):
                name = f"rule-{number}" if len(pairs) == 1 else f"rule-{number}-{at}"
                try:
                    rule = self._draft(source, call, conditions, (source or call or item).place()).rule(name)
                    wrong = check_condition(rule["when"]) if "when" in rule else []
                    if wrong:
                        raise CannotSayError(item.place(), wrong[0])
                    yield checked_rule(kind, rule, item.place())
                except CannotSayError as error:
                    self._found.problems.clear()
                    self.unsaid(error)

    def _draft(
        self,
        source: MappingReader | None,
        call: MappingReader | None,
        conditions: Iterable[MappingReader],
        place: Place,
    ) -> Draft:
        draft = Draft(denies=self._denies)
        try:
            if source is not None:
                read_source(source, self._found.namespace, self._names, draft)
            if call is not None:
                read_operation(call, draft)
            for condition in conditions:
                read_condition(condition, self._names, draft)
        except ValueError as error:
            raise CannotSayError(place, str(error)) from error
        self._found.take_problem()
        return draft
