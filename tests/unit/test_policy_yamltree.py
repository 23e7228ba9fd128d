"""YAML to a tree with places: the shape of the tree and the refusals of what is dangerous or surprising."""

from __future__ import annotations

import pytest

from ringfence.policy.problems import Problem
from ringfence.policy.yamltree import MappingNode, Node, RefusedNode, ScalarNode, SequenceNode, load_yaml


def load(text: str | bytes) -> tuple[list[Node], list[str]]:
    problems: list[Problem] = []
    documents = load_yaml(text, "f.yaml", problems)
    return documents, [str(problem) for problem in problems]


def test_a_tree_knows_lines_columns_and_quotes() -> None:
    documents, problems = load(
        "a: 1\nb:\n  - 'x'\n  - {c: |\n      y\n    }\n".replace("{c: |\n      y\n    }", "c: |\n      y")
    )
    assert problems == []
    assert documents == [
        MappingNode(
            1,
            1,
            (
                (ScalarNode(1, 1, "a", True), ScalarNode(1, 4, "1", True)),
                (
                    ScalarNode(2, 1, "b", True),
                    SequenceNode(
                        3,
                        3,
                        (
                            ScalarNode(3, 5, "x", False),
                            MappingNode(4, 5, ((ScalarNode(4, 5, "c", True), ScalarNode(4, 8, "y\n", False)),)),
                        ),
                    ),
                ),
            ),
        )
    ]


def test_text_and_bytes_give_the_same_tree() -> None:
    text = "a: é\n"
    assert load(text) == load(text.encode())


@pytest.mark.parametrize("text", ["", "\n", "# only\n", "---\n", "---\n---\n# x\n...\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert load(text) == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: [1,\n b: }",
            ["f.yaml:2:5: not valid YAML: while parsing a flow node, did not find expected node content"],
        ),
        ("a: @x", ["f.yaml:1:4: '@' cannot start a value (put the value in quotes)"]),
        ("a: b: c", ["f.yaml:1:5: not valid YAML: mapping values are not allowed in this context"]),
        ("x:\n  a: \x01", ["f.yaml:2:6: control character '\\x01' (remove it)"]),
        (b"a: 1\nb: \xff", ["f.yaml:2:1: text is not valid UTF-8 (save the file as UTF-8)"]),
        ("a: \ud800", ["f.yaml:1:1: text is not valid UTF-8 (save the file as UTF-8)"]),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str | bytes, expected: list[str]) -> None:
    assert load(text) == ([], expected)


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a: 1\n\tb: 2\n", "\ta: 1\n", "a:\n  b: 1\n \tc: 2\n"])
def test_a_tab_in_the_indentation_is_told_as_such(text: str) -> None:
    documents, problems = load(text)
    assert documents == []
    assert [problem.split(": ", 1)[1] for problem in problems] == ["tab in the indentation (indent with spaces)"]


def test_every_line_with_a_tab_is_told() -> None:
    assert [problem.split(": ")[0] for problem in load("a:\n\tb: 1\n\tc: 1\n  \td: 1\n")[1]] == [
        "f.yaml:2:1",
        "f.yaml:3:1",
        "f.yaml:4:3",
    ]


def test_tabs_elsewhere_are_as_good_as_spaces() -> None:
    assert load("a:\t1\nb: {\n\tc: 1}\n")[1] == []


def test_anchors_aliases_and_tags_are_refused_and_the_rest_is_read() -> None:
    documents, problems = load("a: &x 1\nb: *x\nc: !!python/name:os.system y\nd: 1\n")
    assert problems == [
        "f.yaml:1:4: anchor or alias 'x' (aliases are not supported: write the value out)",
        "f.yaml:2:4: anchor or alias 'x' (aliases are not supported: write the value out)",
        "f.yaml:3:4: tag 'tag:yaml.org,2002:python/name:os.system' (tags are not supported: remove it)",
    ]
    (document,) = documents
    assert isinstance(document, MappingNode)
    assert [key.text for key, _ in document.entries] == ["a", "b", "c", "d"]
    assert document.entries[1][1] == RefusedNode(2, 4)


def test_duplicate_keys_are_told_at_the_second_and_the_first_is_kept() -> None:
    documents, problems = load("a: 1\nb: {c: 1, c: 2}\n'a': 3\n")
    assert problems == [
        "f.yaml:2:11: duplicate key 'c' (first given on line 2: keep one)",
        "f.yaml:3:1: duplicate key 'a' (first given on line 1: keep one)",
    ]
    assert isinstance(documents[0], MappingNode)
    assert [value.text for key, value in documents[0].entries if isinstance(value, ScalarNode)] == ["1"]


def test_a_key_that_is_no_text_is_refused() -> None:
    assert load("{[a]: 1}")[1] == ["f.yaml:1:2: a key that is not text (use plain words as keys)"]
    assert load("{*a : 1}")[1] == ["f.yaml:1:2: anchor or alias 'a' (aliases are not supported: write the value out)"]


@pytest.mark.parametrize("text", ['a: "x\\0y"', '{b: ["\\x00"]}', '"\\u0000": 1', '"\\U00000000"'])
def test_a_nul_is_refused_wherever_it_stands(text: str) -> None:
    # No path, argument or environment variable can hold one, and what passes them on would fall over it.
    assert [problem.split(": ", 1)[1] for problem in load(text)[1]] == ["NUL character in a value (remove it)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 32 + "]" * 32, None),
        ("[" * 33 + "]" * 33, "nested deeper than 32 levels"),
        ("[" + "1," * 49_999 + "]", None),
        ("[" + "1," * 50_000 + "]", "more than 50000 values in one file"),
        ("#" * (1 << 20), None),
        ("#" * ((1 << 20) + 1), "file of more than 1048576 bytes"),
        (("é" * ((1 << 19) + 1)).encode(), "file of more than 1048576 bytes"),
    ],
)
def test_limits_hold_at_their_edge(text: str | bytes, message: str | None) -> None:
    documents, problems = load(text)
    assert [problem.split(": ", 1)[1].split(" (")[0] for problem in problems] == ([message] if message else [])
    assert message is None or documents == []
