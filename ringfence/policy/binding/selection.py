"""Which services a document speaks of. Pure.

A document speaks of services of its own namespace and no other, but for those of the root namespace: who owns a
namespace says nothing of others' services.

By labels a service is selected that has them, which is to say all of its workloads have. Where only some do, what opens
something holds at none of them, and what denies holds at these.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ringfence.policy.labels import Labels
from ringfence.policy.problems import Absences, Problem, choose_from, shown
from ringfence.policy.services import ApartIndex, Services, has_labels, unknown_service
from ringfence.policy.written import Header, MeshSelector, NamespaceSelector, Placed, Selector, ServiceSelector

DENYLIST: Final = "denylist"
"""What a denylist is called in messages, and is known by as what closes."""


class Selection:
    """Finds services by selector; ``problems`` is told what a selector finds that it should not, or does not find.
    ``lenient``: a service that is not there may come."""

    def __init__(
        self, services: Services, root_namespace: str, problems: list[Problem], *, lenient: bool = False
    ) -> None:
        self._services = services
        self._root_namespace = root_namespace
        self._problems = problems
        self._absences = Absences(problems, lenient=lenient)
        self._all = sorted(services)
        self._apart = ApartIndex(services)
        self._partly_before: dict[tuple[str, Labels], list[str]] = {}
        self._labelled_before: dict[tuple[str, Labels], list[str]] = {}
        self._by_namespace: defaultdict[str, list[str]] = defaultdict(list)
        for name in self._all:
            self._by_namespace[name.partition("/")[0]].append(name)

    def select(self, header: Header, selector: Placed[Selector], what: str) -> tuple[str, ...]:
        """The full names of the services that a document (``what``, as in "allowlist") speaks of, in order.

        Only services with a sidecar are among them, as nobody would enforce it elsewhere.
        """
        partly = self.partly(header, selector)
        if partly:
            self._tell_partly(selector, partly, what)
        match selector.value:
            case ServiceSelector(service=service):
                found = self._one(header, service, selector, what)
            case NamespaceSelector(labels=labels):
                found = self._labelled(header.namespace, labels) if header.namespace else []
                if header.namespace and not found and not partly:
                    self._tell_none(selector, labels, f"namespace {header.namespace}")
            case MeshSelector(labels=labels):
                if header.namespace != self._root_namespace:
                    if header.namespace:
                        message = f"scope mesh in namespace {header.namespace}"
                        mend = f"only documents of the root namespace {self._root_namespace} speak of all namespaces"
                        self._problems.append(selector.place.problem(message, mend))
                    return ()
                found = self._labelled("", labels)
                if not found and not partly:
                    self._tell_none(selector, labels, "the mesh")
        return self._with_sidecars(found, selector, what)

    def partly(self, header: Header, selector: Placed[Selector]) -> tuple[str, ...]:
        """The full names of the services of which some workloads have the labels that a document asks for, and not
        all."""
        match selector.value:
            case NamespaceSelector(labels=labels) if labels and header.namespace:
                namespace = header.namespace
            case MeshSelector(labels=labels) if labels and header.namespace == self._root_namespace:
                namespace = ""
            case _:
                return ()
        found = self._partly_before.get((namespace, labels))
        if found is None:
            names = self._by_namespace.get(namespace, []) if namespace else self._all
            found = [name for name in names if self._apart.some(name, labels)]
            self._partly_before[namespace, labels] = found
        return tuple(found)

    def _tell_partly(self, selector: Placed[Selector], names: tuple[str, ...], what: str) -> None:
        more = f" and of {len(names) - 1} more services" if len(names) > 1 else ""
        message = f"only some workloads of {names[0]}{more} have these labels: "
        if what == DENYLIST:
            message += "this denylist holds at those alone"
        else:
            message += f"until all have them, this {what} holds at none"
        mend = "give all pods of a service the labels, or name the service"
        self._problems.append(selector.place.warning(message, mend))

    def _one(self, header: Header, service: str, selector: Placed[Selector], what: str) -> list[str]:
        if not service or not header.namespace:
            return []  # told where it was read
        full_name = f"{header.namespace}/{service}"
        if full_name in self._services:
            return [full_name]
        article = "an" if what[0] in "aeiou" else "a"
        self._absences.append(
            unknown_service(f"{article} {what}", header.namespace, service, selector.place, self._services)
        )
        return []

    def _labelled(self, namespace: str, labels: Labels) -> list[str]:
        """Those of a namespace, or of the mesh; looked for once, however many documents say the same."""
        found = self._labelled_before.get((namespace, labels))
        if found is None:
            names = self._by_namespace.get(namespace, []) if namespace else self._all
            found = [name for name in names if has_labels(self._services[name], labels)]
            self._labelled_before[namespace, labels] = found
        return found

    def _tell_none(self, selector: Placed[Selector], labels: Labels, where: str) -> None:
        if not labels:
            self._problems.append(
                selector.place.warning(f"selects nothing: no service of the mesh is in {where}", "choose another scope")
            )
            return
        text = ", ".join(f"{name}: {value}" for name, value in labels)
        self._problems.append(
            selector.place.warning(
                f"selects nothing: no service of {where} has the labels {{{text}}}"[:400], self._label_mend(labels)
            )
        )

    def _label_mend(self, labels: Labels) -> str:
        known = {label for service in self._services.values() for label in service.labels}
        for name, value in labels:
            if (name, value) in known:
                continue
            values = sorted(other for key, other in known if key == name)
            if values:
                return choose_from(value, values[:20])
            names = sorted({key for key, _ in known})
            return choose_from(name, names[:20]) or f"give a service the label {shown(name)} in the mesh file"
        return "no service has all of them at once: name fewer"

    def _with_sidecars(self, names: list[str], selector: Placed[Selector], what: str) -> tuple[str, ...]:
        enforcing = tuple(name for name in names if self._services[name].has_sidecar)
        bare = [name for name in names if not self._services[name].has_sidecar]
        if not bare:
            return enforcing
        if not enforcing:
            message = f"{bare[0]} has no sidecar, so that nobody would enforce this {what}"
            mend = "remove it, as the service judges its callers itself, or give the service a sidecar"
            self._absences.append(selector.place.problem(message, mend))
        elif what.endswith("list"):  # who believes no tokens, or does not observe, lets nobody in by it
            more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
            message = f"{bare[0]}{more}: without a sidecar, so that nobody enforces this {what} there"
            self._problems.append(selector.place.warning(message, "such a service judges its callers itself"))
        return enforcing
