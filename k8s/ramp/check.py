"""``ringfence k8s check`` as a function: objects in, findings out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import yaml

from k8s.ramp.entrances import exposed_findings, ingress_findings, webhook_findings
from k8s.ramp.facts import cluster_findings
from k8s.ramp.finding import Finding, Weight
from k8s.ramp.injected import injection_findings, outdated_findings
from k8s.ramp.network_policies import network_policy_findings
from k8s.ramp.outside import outside_findings
from k8s.ramp.scrapers import scraper_findings
from k8s.ramp.services import service_findings
from k8s.ramp.snapshot import Cluster
from k8s.ramp.users import user_findings

_CHECKS = (
    cluster_findings,
    injection_findings,
    outdated_findings,
    network_policy_findings,
    user_findings,
    scraper_findings,
    webhook_findings,
    ingress_findings,
    exposed_findings,
    outside_findings,
    service_findings,
)


def check(cluster: Cluster) -> list[Finding]:
    """All that is found, what breaks first, each once."""
    told: set[tuple[str, str, str]] = set()
    findings = []
    for one in (finding for judge in _CHECKS for finding in judge(cluster)):
        key = (one.code, one.subject, one.what)
        if key not in told:
            told.add(key)
            findings.append(one)
    return sorted(findings, key=lambda one: one.weight is Weight.NOTICE)


def is_clean(findings: Iterable[Finding]) -> bool:
    """Whether nothing breaks; notices alone are clean."""
    return all(one.weight is Weight.NOTICE for one in findings)


def report_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A stream of YAML: what is found as comments, what mends it as documents, so that ``kubectl apply -f -`` takes it
    as it is."""
    for one in findings:
        yield f"# {one.weight}: {_plain(one.subject)}: {_plain(one.what)} ({_plain(one.mend)})"
        yield from (f"#   {_plain(command)}" for command in one.commands)
        for document in one.documents:
            yield "---"
            yield yaml.safe_dump(_own(document), sort_keys=False, default_flow_style=False).rstrip("\n")
            yield "---"


def _own(value: object) -> object:
    """A copy that shares no list, or YAML would write anchors."""
    if isinstance(value, dict):
        return {name: _own(one) for name, one in value.items()}
    return [_own(one) for one in value] if isinstance(value, list) else value


def _plain(text: str) -> str:
    """One line that a terminal only shows: names come from whoever may write objects."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
