"""Flows as others bring them: files that were exported once, and reports of sidecars."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from controlplane.flows.reading import flows_of
from ringfence.policy.analysis.world import World
from ringfence.policy.documents import read_documents
from ringfence.policy.learning.document_text import document_lines
from ringfence.policy.learning.flow import Flow
from ringfence.policy.learning.flow_checks import fault_of
from ringfence.policy.learning.flow_file import FlowFile, file_lines, read_file
from ringfence.policy.learning.proposing import propose
from ringfence.policy.learning.replaying import replay
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.model import AuthenticatedCallers, Rule
from ringfence.wire.gen import control_pb2
from tests.fuzz.target import Target, expect
from tests.learning_shop import service_of, world_of

_SERVICE = service_of(Rule(name="everything", callers=(AuthenticatedCallers(),)))
_WORLD: World = world_of(_SERVICE)
_ALL = LearnSettings(allow_rest=True, include_denied=True, include_unauthenticated=True)


def _learned_from(flows: list[Flow]) -> None:
    """What is learned of any flows is a document without a fault, which permits them."""
    own = [flow for flow in flows if flow.service == "shop/orders"]
    proposal = propose(_SERVICE, _WORLD, own, _ALL)
    expect(not replay(proposal, _WORLD).refused, "the proposal refuses what it was learned from")
    text = "\n".join(document_lines(proposal))
    _, problems = read_documents(text, "f.yaml")
    expect(not problems, f"{problems[:1]} in {text}")


def flow_file(data: bytes) -> None:
    file, problems = read_file(data, "f.jsonl")
    for problem in problems:
        line = str(problem)
        expect(line.startswith("f.jsonl:") and "\n" not in line and problem.line >= 1, line)
    expect(not (problems and file.flows), "flows of a file with problems")
    if problems:
        return
    expect(all(fault_of(flow) is None for flow in file.flows), "a flow that cannot be")
    again = "".join(f"{line}\n" for line in file_lines(file)).encode()
    expect(read_file(again, "f.jsonl")[1] == [], "written again it is refused")
    _learned_from(list(file.flows))


def flow_report(data: bytes) -> None:
    try:
        report = control_pb2.FlowReport.FromString(data)
    except DecodeError:
        return
    flows, untold = flows_of(report, service="shop/orders", now=1_700_000_000.0)
    expect(untold >= 0 and len(flows) <= len(report.flows), "more flows than were told")
    expect(all(fault_of(flow) is None for flow in flows), "a flow that cannot be")
    lines = "".join(f"{line}\n" for line in file_lines(FlowFile(flows=tuple(flows)))).encode()
    expect(read_file(lines, "f.jsonl")[1] == [], "what is kept cannot be exported")
    _learned_from(flows)


TARGETS = (Target(name="flow_file", run=flow_file), Target(name="flow_report", run=flow_report))
