"""Labels: what is one, and what only looks like one."""

from __future__ import annotations

import pytest

from ringfence.policy.labels import LIMIT_LABELS, Labels, read_labels
from ringfence.policy.problems import Problem
from ringfence.policy.yamlnodes import MappingReader, load_yaml


def read(text: str) -> tuple[Labels, list[str]]:
    problems: list[Problem] = []
    (node,) = load_yaml(f"labels: {text}", "l.yaml", problems)
    reader = MappingReader(node, "l.yaml", problems)
    labels = read_labels(reader, "labels", problems)
    reader.finish()
    return labels, [problem.message for problem in problems]


def test_labels_are_read_in_the_order_of_their_names() -> None:
    assert read("{tier: edge, data: pii, shop.example/Team: A_b.1}") == (
        (("data", "pii"), ("shop.example/Team", "A_b.1"), ("tier", "edge")),
        [],
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[a]", "a", "{a: 1}", "{a: true}", "{a: ''}", "{a: '*'}", "{'*': a}", "{a: -a}", "{a-: a}", '{a: "b\\n"}',
        '{"a\\n": b}', '{a: "\\u0430"}', '{"\\u0430": a}', "{/a: b}", "{A/a: b}", "{a/b/c: d}", "{a: [b]}",
        "{a: b, a: c}", f"{{a: {'x' * 64}}}", f"{{{'x' * 64}: a}}",
        "{" + ", ".join(f"a{n}: b" for n in range(LIMIT_LABELS + 1)) + "}",
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused(text: str) -> None:
    labels, messages = read(text)
    assert messages
    assert labels in ((), (("a", "b"),))
