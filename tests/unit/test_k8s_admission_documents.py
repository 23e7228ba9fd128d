"""Documents before they are written: what is refused, in which words, and when nobody can say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from k8s.admission.documents import DocumentJudge
from k8s.admission.review import ALLOWED, AdmissionRequest, Answer
from k8s.admission.room import CLUSTER_LIMIT_BYTES, NAMESPACE_LIMIT, NAMESPACE_LIMIT_BYTES, HeldSize, Room
from k8s.controller.documents import written_of
from k8s.objects.places import at_fields
from ringfence.platform import WrittenDocument
from ringfence.policy.documents import read_documents
from ringfence.policy.problems import Problem, Severity

ROOT = "ringfence-system"
RULE = {"name": "reads", "from": ["web"], "to": {"methods": ["GET"]}}


def allowlist(**rule: object) -> dict[str, Any]:
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": "one", "generation": 1, "uid": "u"},
        "spec": {"service": "orders", "rules": [{**RULE, **rule}]},
    }


def request(content: dict[str, Any], **change: Any) -> AdmissionRequest:
    given: dict[str, Any] = {
        "uid": "1",
        "operation": "CREATE",
        "kind": ("ringfence.io", "v1alpha1", "Allowlist"),
        "namespace": "shop",
        "name": "one",
        "content": content,
        "before": {},
    }
    return AdmissionRequest(**{**given, **change})


class Checker:
    """What a control plane would find; it keeps what it was asked."""

    def __init__(self, *further: Problem, error: OSError | None = None) -> None:
        self.further = further
        self.error = error
        self.asked: list[WrittenDocument] = []

    async def __call__(self, documents: Sequence[WrittenDocument]) -> list[Problem]:
        self.asked += documents
        if self.error is not None:
            raise self.error
        return [problem for one in documents for problem in read_documents(one.content.decode(), one.name)[1]] + list(
            self.further
        )


async def judged(content: dict[str, Any], checker: Checker | None = None, **change: Any) -> Answer:
    return await DocumentJudge(written_of, checker or Checker(), Room(list, ROOT)).judge(request(content, **change))


async def test_a_good_document_is_written() -> None:
    checker = Checker()
    assert (await judged(allowlist(), checker)).allowed
    (asked,) = checker.asked
    assert asked.name == "Allowlist/shop/one"


async def test_a_slip_is_refused_at_its_field_with_the_mend() -> None:
    answer = await judged(allowlist(to={"methods": ["GET"], "pahts": ["/orders"]}))
    assert not answer.allowed
    assert answer.code == 422
    assert answer.message.startswith("spec.rules[0].to.pahts: unknown field 'pahts'")
    assert "did you mean paths?" in answer.message


async def test_every_error_is_told_and_of_very_many_the_first() -> None:
    spec = {"service": "orders", "rules": [{**RULE, "name": f"r{number}", "nam": 1} for number in range(30)]}
    answer = await judged({**allowlist(), "spec": spec})
    assert answer.message.count("unknown field") == 10
    assert answer.message.endswith("; and 20 more")


async def test_what_is_surely_not_meant_is_a_warning() -> None:
    warning = Problem("x", 1, 1, "no service orders in shop", "deploy it", Severity.WARNING)
    answer = await judged(allowlist(), Checker(warning))
    assert answer.allowed
    assert list(answer.warnings) == ["no service orders in shop (deploy it)"]


async def test_the_namespace_is_the_one_that_the_api_server_knows() -> None:
    checker = Checker()
    content = allowlist()
    content["metadata"]["namespace"] = "ringfence-system"
    await judged(content, checker)
    assert json.loads(checker.asked[0].content)["metadata"]["namespace"] == "shop"


async def test_where_nobody_can_judge_nothing_is_written() -> None:
    answer = await judged(allowlist(), Checker(error=OSError("no reading yet")))
    assert (answer.allowed, answer.code) == (False, 503)
    assert "no reading yet (try again)" in answer.message


async def test_what_is_no_document_is_not_judged() -> None:
    checker = Checker(error=OSError("must not be asked"))
    assert await judged(allowlist(), checker, subresource="status") == ALLOWED
    assert await judged(allowlist(), checker, operation="DELETE") == ALLOWED
    assert await judged(allowlist(), checker, kind=("", "v1", "Pod")) == ALLOWED
    assert await judged(allowlist(), checker, kind=("ringfence.io", "v1alpha1", "Other")) == ALLOWED
    assert checker.asked == []


async def test_an_object_that_is_none_is_refused() -> None:
    answer = await judged({"metadata": 5, "spec": {}})
    assert (answer.allowed, answer.code) == (False, 400)


def sized(size_bytes: int, namespace: str = "shop", name: str = "new") -> HeldSize:
    return HeldSize(namespace, f"Allowlist/{namespace}/{name}", size_bytes)


def room(*held: HeldSize) -> Room:
    return Room(lambda: held, ROOT)


async def test_a_document_for_which_there_is_no_room_is_refused_unread() -> None:
    checker = Checker()
    judge = DocumentJudge(written_of, checker, room(sized(NAMESPACE_LIMIT_BYTES, name="old")))
    answer = await judge.judge(request(allowlist()))
    assert (answer.allowed, answer.code) == (False, 403)
    assert answer.message.startswith("with it the documents of namespace shop would be 4194")
    assert answer.message.endswith(
        ", at most 4194304 (share what repeats in a Role or CallerSet, or remove what nobody needs)"
    )
    assert not checker.asked


def test_a_namespace_has_room_up_to_its_limits_and_no_further() -> None:
    held = room(sized(NAMESPACE_LIMIT_BYTES - 10, name="old"), sized(NAMESPACE_LIMIT_BYTES, "other"))
    assert not held.lacks(sized(10))
    assert "at most 4194304" in held.lacks(sized(11))
    many = [sized(1, name=str(number)) for number in range(NAMESPACE_LIMIT)]
    assert not room(*many[1:]).lacks(sized(1))
    assert "namespace shop has 2000 documents, which is the most" in room(*many).lacks(sized(1))
    assert not room(*many).lacks(sized(1, "other"))


def test_the_root_namespace_may_have_what_the_cluster_may_and_no_more() -> None:
    many = [sized(NAMESPACE_LIMIT_BYTES // 1000, ROOT, str(number)) for number in range(NAMESPACE_LIMIT)]
    assert not room(*many).lacks(sized(NAMESPACE_LIMIT_BYTES, ROOT))
    assert "of the cluster" in room(sized(CLUSTER_LIMIT_BYTES, ROOT, "old")).lacks(sized(1, ROOT))


def test_what_becomes_no_larger_always_has_room() -> None:
    full = room(sized(NAMESPACE_LIMIT_BYTES, name="old"), sized(5, name="new"), sized(CLUSTER_LIMIT_BYTES, ROOT))
    assert not full.lacks(sized(5))
    assert not full.lacks(sized(4))
    assert full.lacks(sized(6))


def test_who_fills_the_cluster_stops_himself_and_nobody_with_less() -> None:
    greedy = [sized(NAMESPACE_LIMIT_BYTES, f"greedy-{number}", "old") for number in range(4)]
    told = room(*greedy).lacks(sized(1, "greedy-0"))
    assert told.startswith("with it the documents of namespace greedy-0 would be")
    held = [*greedy[:3], sized(NAMESPACE_LIMIT_BYTES - 100, "greedy-3", "old"), sized(100, "shop", "old")]
    assert "more of them than an even share" in room(*held).lacks(sized(1, "greedy-3"))
    assert not room(*held).lacks(sized(CLUSTER_LIMIT_BYTES // 5 - 100))
    assert "more of them than an even share" in room(*held).lacks(sized(CLUSTER_LIMIT_BYTES // 5 - 99))


def test_fields_are_named_by_their_paths() -> None:
    content = b'{\n  "spec": {\n    "rules": [\n      {"a": 1},\n      ["b"]\n    ]\n  }\n}\n'
    places = {(2, 3): "spec", (3, 5): "spec.rules", (4, 8): "spec.rules[0].a", (4, 13): "spec.rules[0].a"}
    places |= {(5, 7): "spec.rules[1]", (5, 8): "spec.rules[1][0]", (1, 1): "", (9, 9): ""}
    for (line, column), path in places.items():
        (told,) = at_fields(content, [Problem("x", line, column, "wrong", "mend it")])
        assert told == (f"{path}: wrong (mend it)" if path else "wrong (mend it)")


def test_nothing_unprintable_reaches_a_terminal() -> None:
    assert at_fields(b"{}", [Problem("x", 1, 1, "a\x1b[31m\n")]) == ["a\\x1b[31m\\n"]
