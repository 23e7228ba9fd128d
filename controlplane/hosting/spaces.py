"""The documents of one namespace bound to its services, beside those of the root namespace. Pure.

A document speaks of services of its own namespace alone, so namespaces are bound one by one: what is wrong in one costs
no other, and what changed in one is looked at in that one. Within one, a document with errors stands as it stood
before, where that still holds, or is left out; then all is bound again, until no errors are left.

A denylist that is left out would let pass what it refused. So whatever it could speak of refuses everybody, until it is
mended or removed. The same holds for one of the root namespace that cannot be bound beside what a namespace has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from controlplane.hosting.parsing import Name, Parsed
from controlplane.intake.judging import Document
from controlplane.mesh.document import MeshDocument
from controlplane.tokens.needs import IssuerNeeds, needs_of
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.bound import Binding
from ringfence.policy.problems import Problem, errors
from ringfence.policy.written import PolicyDocument, TokenIssuerDocument
from ringfence.routing.bind import Routes, bind_routes
from ringfence.routing.documents import RouteDocument

DENYLIST: Final = "Denylist"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """One document as it stands: ``wanted`` is what its author wrote last, ``held`` what was in force before."""

    wanted: Parsed
    held: Parsed | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """What binding one namespace came to. ``in_force``: by name, the version that is; ``problems``: by name, all that
    is to be said of the version wanted; ``closed``: the denylists that are in force in no version, or not here."""

    key: Hashable
    in_force: Mapping[str, Parsed]
    problems: Mapping[str, tuple[Problem, ...]]
    closed: tuple[str, ...]
    binding: Binding
    routes: Routes = field(default_factory=dict)
    needs: IssuerNeeds = field(default_factory=IssuerNeeds)


def bind_space(
    key: Hashable,
    own: Mapping[str, Written],
    beside: Iterable[Parsed],
    surroundings: Surroundings,
    document: MeshDocument,
) -> Space:
    """Bind ``own`` documents, with those that hold there or are referred to ``beside``, which stay as they are."""
    chosen: dict[str, Parsed] = {}
    problems: dict[str, list[Problem]] = {name: list(one.wanted.problems) for name, one in own.items()}
    for name, one in own.items():
        first = one.wanted if one.wanted.document is not None else one.held
        if first is not None:
            chosen[name] = first
    others = tuple(beside)
    lost: list[str] = []
    while True:
        attempt = _attempt([*chosen.values(), *others], surroundings, document)
        wrong = {problem.file for problem in errors(attempt.problems)}
        for problem in attempt.problems:
            # What is said of a version that stands in is not said of the one that is wanted.
            name = problem.file
            is_wanted = name in chosen and chosen[name] is own[name].wanted
            if is_wanted and problem not in problems[name]:
                problems[name].append(problem)
        if not wrong:
            break
        mine = wrong & chosen.keys()
        theirs = wrong & {one.written.name for one in others}
        if mine:
            theirs = set()  # one of our own may be why another's is wrong here
        elif not theirs:  # nobody's is wrong by itself
            mine, theirs = set(chosen), set() if chosen else {one.written.name for one in others}
        for name in mine:
            held = own[name].held
            if chosen[name] is own[name].wanted and held is not None and held.written != chosen[name].written:
                chosen[name] = held
            else:
                del chosen[name]
        others = tuple(one for one in others if one.written.name not in theirs)
        lost.extend(sorted(name for name in theirs if Name.of(name).kind == DENYLIST))
        if not chosen and not others:
            break
    closed = tuple(name for name in own if own[name].wanted.name.kind == DENYLIST and name not in chosen)
    for name in closed:
        namespace = own[name].wanted.name.namespace
        where = "the mesh" if namespace == surroundings.root_namespace else f"namespace {namespace}"
        message = f"no version of this denylist can be enforced, so that every service of {where} refuses everybody"
        problems[name].append(Problem(name, 1, 1, message, "mend it, or remove it"))
    return Space(
        key=key,
        in_force=chosen,
        problems={name: tuple(sorted(found)) for name, found in problems.items()},
        closed=(*closed, *lost),
        binding=attempt.binding,
        routes=attempt.routes,
        needs=attempt.needs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    binding: Binding
    routes: Routes
    needs: IssuerNeeds
    problems: Sequence[Problem]


def _attempt(parsed: Iterable[Parsed], surroundings: Surroundings, document: MeshDocument) -> _Attempt:
    documents: list[Document] = [one.document for one in parsed if one.document is not None]
    policies: list[PolicyDocument] = [one for one in documents if not isinstance(one, RouteDocument)]
    binding = bind(policies, surroundings)
    routes = [one for one in documents if isinstance(one, RouteDocument)]
    leading, misled = bind_routes(routes, surroundings.services, lenient=surroundings.lenient)
    bare, named = _without_files(policies)
    needs, told = needs_of(bare, document)
    # What is wrong with the mesh's own settings is no document's fault; then no keys come, and tokens are refused.
    lacking = [problem for problem in told if problem.file != document.file]
    return _Attempt(
        binding=binding, routes=leading, needs=needs, problems=[*binding.problems, *misled, *named, *lacking]
    )


def _without_files(documents: Iterable[PolicyDocument]) -> tuple[list[PolicyDocument], list[Problem]]:
    """Documents of a platform name no files of the control plane: whoever may write one could read them."""
    bare: list[PolicyDocument] = []
    problems: list[Problem] = []
    for one in documents:
        if isinstance(one, TokenIssuerDocument) and one.secret_file is not None:
            message = f"secret file {one.secret_file.value!a} cannot be read: there are no files beside this document"
            problems.append(one.secret_file.place.problem(message, "use an issuer whose tokens are JWTs"))
            bare.append(replace(one, secret_file=None))
        else:
            bare.append(one)
    return bare, problems
