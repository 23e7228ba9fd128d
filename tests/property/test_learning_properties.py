"""A learned proposal permits every call that it was learned from, and no call that the evidence does not span."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from ringfence.policy.analysis.calls import Call, Judge
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import read_documents
from ringfence.policy.learning.document_text import document_lines
from ringfence.policy.learning.flow import Flow, Verdict
from ringfence.policy.learning.proposal import Proposal
from ringfence.policy.learning.proposing import propose
from ringfence.policy.learning.replaying import replay
from ringfence.policy.learning.settings import LearnSettings
from ringfence.policy.model import AuthenticatedCallers, PolicySet, Rule, UnauthenticatedCallers
from ringfence.policy.problems import errors
from ringfence.policy.services import MeshService
from tests.learning_shop import CART, PORTS, RULE, SHOP, WEB, flow, service_of, world_of

SERVICE = service_of(Rule(name="everything", callers=(AuthenticatedCallers(), UnauthenticatedCallers())))
WORLD = world_of(SERVICE)
CALLERS = [WEB, CART, None]
METHODS = ["GET", "POST", "DELETE"]
WORDS = ["a", "b", "orders", "x.json", "%7Bid%7D", "null"]
SEGMENTS = [*WORDS, "{id}", "{id}", "{word}"]


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    verdict = draw(st.sampled_from([Verdict.PERMIT, Verdict.WOULD_DENY, Verdict.WOULD_DENY, Verdict.DENY]))
    kind = draw(st.sampled_from(["http", "http", "http", "grpc", "tcp"]))
    path = "/" + "/".join(draw(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4)))
    words: dict[str, object] = {
        "http": {
            "port": draw(st.sampled_from([8080, 8081])),
            "method": draw(st.sampled_from([*METHODS, "{other}"])),
            "path": path + draw(st.sampled_from(["", "", "", "/", "/{rest}"])),
        },
        "grpc": {"port": 9090, "method": "POST", "path": draw(st.sampled_from(["/s.A/Get", "/s.A/List", "/s/x/y"]))},
        "tcp": {"port": draw(st.sampled_from([5432, 7000])), "method": "", "path": ""},
    }[kind]  # type: ignore[assignment]
    count = draw(st.integers(1, 9))
    return flow(
        protocol=kind,
        caller=draw(st.sampled_from(CALLERS)),
        verdict=verdict,
        rule=RULE if verdict is Verdict.PERMIT else "",
        reason="" if verdict is Verdict.PERMIT else draw(st.sampled_from(["path_not_allowed", "token_missing"])),
        count=count,
        missed=draw(st.sampled_from([0, 0, 0, count])),
        **words,
    )


SETTINGS = st.builds(
    LearnSettings,
    min_count=st.integers(1, 5),
    merge_above=st.sampled_from([2, 3, 1000]),
    allow_rest=st.booleans(),
    include_denied=st.booleans(),
    include_unauthenticated=st.booleans(),
)


def in_force(proposal: Proposal) -> PolicySet:
    """What the control plane would make of the proposal's document."""
    text = "\n".join(document_lines(proposal))
    documents, problems = read_documents(text, "learned.yaml")
    assert problems == [], (problems, text)
    ports = MeshService(
        ports={port.port: port.protocol for port in PORTS},
        permissive=frozenset(port.port for port in PORTS if port.permissive),
        spiffe_id=SERVICE.spiffe_id,
    )
    binding = bind(documents, Surroundings(services={"shop/orders": ports}, trust_domain=SHOP))
    assert not errors(binding.problems), (binding.problems, text)
    policy = binding.policies["shop/orders"].policy if "shop/orders" in binding.policies else PolicySet()
    assert policy.allowlists == (proposal.allowlist,)
    return policy


@given(st.lists(flows(), max_size=25), SETTINGS)
def test_a_proposal_permits_what_it_was_learned_from_and_its_document_says_just_it(
    seen: list[Flow], settings: LearnSettings
) -> None:
    proposal = propose(SERVICE, WORLD, seen, settings)
    assert replay(proposal, WORLD).refused == ()
    assert len(proposal.learned) + len(proposal.left_out) == len(seen)
    assert sum(told.evidence.count for told in proposal.rules) == sum(one.count for one in proposal.learned)
    in_force(proposal)


def spans(seen: Flow, call: Call) -> bool:
    """Whether a flow tells of such a call: the same caller, port and method, on a path of its shape."""
    if (seen.caller, seen.port) != (call.caller, call.port) or seen.is_opaque is not call.opaque:
        return False
    if call.opaque:
        return True
    shape, path = seen.path[1:].split("/"), call.path[1:].split("/")
    if seen.method != call.method:
        return False
    if shape[-1] == "{rest}":
        shape.pop()
        path = path[: len(shape)] if len(path) >= len(shape) else [""] * 99
    if len(shape) != len(path):
        return False
    return all(one == other or (one in ("{id}", "{word}") and other) for one, other in zip(shape, path, strict=True))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    port = draw(st.sampled_from(PORTS))
    opaque = port.protocol == "tcp" or (port.protocol == "auto" and draw(st.booleans()))
    paths = st.lists(st.sampled_from([*WORDS, "other", ""]), min_size=1, max_size=5).map(
        lambda one: "/" + "/".join(one)
    )
    return Call(
        caller=draw(st.sampled_from(CALLERS)),
        service="shop/orders",
        port=port.port,
        method=draw(st.sampled_from([*METHODS, "PUT"])),
        path=draw(st.one_of(paths, st.sampled_from(["/s.A/Get", "/s.A/List", "/s.A/Put"]))),
        opaque=opaque,
    )


@given(st.lists(flows(), max_size=25), SETTINGS, st.lists(calls(), max_size=20))
def test_a_proposal_permits_no_call_beyond_callers_methods_and_paths_that_were_seen(
    seen: list[Flow], settings: LearnSettings, asked: list[Call]
) -> None:
    exact = LearnSettings(
        min_count=settings.min_count,
        merge_above=1000,
        allow_rest=settings.allow_rest,
        include_denied=settings.include_denied,
        include_unauthenticated=settings.include_unauthenticated,
    )
    proposal = propose(SERVICE, WORLD, seen, exact)
    judge = Judge(world_of(service_of(policy=PolicySet(allowlists=(proposal.allowlist,)))))
    for call in asked:
        permitted = judge.judge(call).permitted
        assert permitted == any(spans(one, call) for one in proposal.learned), call


@given(st.lists(flows(), max_size=25), SETTINGS, st.lists(calls(), max_size=20))
def test_merging_widens_neither_caller_nor_port_nor_method_nor_the_root_of_a_path(
    seen: list[Flow], settings: LearnSettings, asked: list[Call]
) -> None:
    assume(not settings.allow_rest)
    proposal = propose(SERVICE, WORLD, seen, settings)
    judge = Judge(world_of(service_of(policy=PolicySet(allowlists=(proposal.allowlist,)))))
    for call in asked:
        if judge.judge(call).permitted and not call.opaque:
            root = call.path.split("/")[1]
            assert any(
                (one.caller, one.port, one.method) == (call.caller, call.port, call.method)
                and one.path.count("/") == call.path.count("/")
                and one.path.split("/")[1] in (root, "{id}")
                for one in proposal.learned
            ), call


@given(st.lists(flows(), max_size=15), SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_flows_does_not_matter(seen: list[Flow], settings: LearnSettings, random: object) -> None:
    again = list(seen)
    random.shuffle(again)  # type: ignore[attr-defined]
    once, twice = propose(SERVICE, WORLD, seen, settings), propose(SERVICE, WORLD, again, settings)
    assert once.allowlist == twice.allowlist
    assert once.rules == twice.rules
