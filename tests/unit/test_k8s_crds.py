"""The custom resource definitions: what the API server takes, what it keeps, and that they say what the table says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from k8s.crds.conditions import conditions
from k8s.crds.definition import KINDS, definition
from k8s.crds.generate import FOLDERS, main, stale, texts
from k8s.crds.structure import re2, structure
from ringfence.policy.envelope import read_kinds
from ringfence.policy.schema.shapes import Choice, Either, Field, Many, Named, Number, Object, Shape, Text, Variant
from ringfence.policy.yamltree import load_yaml
from ringfence.routing.documents import KIND, read_route
from ringfence.routing.schema import ROUTE
from tests.policy_texts import plain

SHOP = Path(__file__).parents[2] / "examples" / "shop" / "policies"
EXAMPLES = [
    *(example for kind in KINDS for example in kind.examples),
    *(path.read_text(encoding="utf-8") for path in sorted(SHOP.glob("*.yaml"))),
]
BY_KIND = {kind.name: definition(kind) for kind in KINDS}
PRESERVES = "x-kubernetes-preserve-unknown-fields"


def schema_of(kind: str) -> dict[str, Any]:
    spec: Any = BY_KIND[kind]["spec"]
    return dict(spec["versions"][0]["schema"]["openAPIV3Schema"])


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema of a value below ``schema``."""
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


def specs() -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        yield from nodes(schema_of(kind.name)["properties"]["spec"])


def test_the_files_are_up_to_date() -> None:
    assert {folder: stale(folder) for folder in FOLDERS} == {folder: [] for folder in FOLDERS}
    assert main(["--check"]) == 0


def test_a_file_of_no_kind_is_stale(tmp_path: Path) -> None:
    for name, text in texts().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert stale(tmp_path) == []
    (tmp_path / "ringfence.io_olds.yaml").write_text("kind: Old\n", encoding="utf-8")
    assert stale(tmp_path) == ["ringfence.io_olds.yaml"]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_repository_is_taken(text: str) -> None:
    for node in load_yaml(text, "e.yaml", []):
        document: Any = plain(node)
        errors = [error.message for error in Draft7Validator(schema_of(document["kind"])).iter_errors(document)]
        assert errors == []


def test_no_object_drops_what_it_does_not_know() -> None:
    # The API server drops unknown fields, and says so only to clients that ask: a rule whose ``pahts`` is gone permits
    # every path.
    for node in (*specs(), *(schema_of(kind.name) for kind in KINDS)):
        if "properties" in node:
            assert node[PRESERVES] is True


def test_a_list_is_replaced_as_a_whole() -> None:
    lists = [node for node in specs() if node.get("type") == "array"]
    assert lists
    assert {node["x-kubernetes-list-type"] for node in lists} == {"atomic"}
    assert all(node["maxItems"] for node in lists)


def test_every_value_has_one_type_or_is_left_to_the_webhook() -> None:
    for node in specs():
        assert "type" in node or node[PRESERVES] is True


def test_patterns_are_those_of_re2() -> None:
    patterns = [node["pattern"] for node in specs() if "pattern" in node]
    assert patterns
    for pattern in patterns:
        assert "(?!" not in pattern and "(?=" not in pattern
        assert all(int(most) <= 1000 for most in re.findall(r"\{[0-9]+,([0-9]+)\}", pattern))
        assert pattern.startswith("^(?:") and pattern.endswith(")$")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("(?!a)b", "b"),
        ("(?=[^/]*:)[0-9A-Fa-f:.]+", "[0-9A-Fa-f:.]+"),
        (r"(?!.*\$(?![\s\S]))/x", "/x"),
        ("(?![(])a", "a"),
        (r"(?!\))a", "a"),
        ("[(?!]a", "[(?!]a"),
        (r"\(?!a", r"\(?!a"),
        ("[ -~]{0,2046}", "[ -~]{0,}"),
        ("[ -~]{1,1000}", "[ -~]{1,1000}"),
        ("a{3}", "a{3}"),
    ],
)
def test_what_re2_lacks_is_left_out(pattern: str, wanted: str) -> None:
    assert re2(pattern) == wanted


@pytest.mark.parametrize("pattern", ["(?!a", "[a", "(?![a)b"])
def test_half_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="without end"):
        re2(pattern)


WORD = Text(name="name", pattern="[a-z]+")


def fields(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name=name, shape=WORD, summary=name) for name in names)


def test_a_rule_names_its_mend() -> None:
    shape = Object(
        name="Some",
        summary="some",
        fields=fields("service", "namespace"),
        variants=(
            Variant(there=("service",), absent=("namespace",)),
            Variant(there=("namespace",), fixed={"namespace": "x"}),
            Variant(there=(), absent=("service",)),
        ),
        any_of=("service", "namespace"),
        apart=("service", "namespace"),
    )
    assert conditions(shape) == [
        {
            "rule": "(has(self.service) && !has(self.__namespace__)) || (has(self.__namespace__) && "
            "self.__namespace__ == 'x') || (!has(self.service))",
            "message": "choose exactly one form: service; namespace: x; none of them, without service",
        },
        {
            "rule": "has(self.service) || has(self.__namespace__)",
            "message": "it says nothing: add one of service, namespace",
        },
        {
            "rule": "!(has(self.service) && has(self.__namespace__))",
            "message": "service and namespace exclude each other: remove one",
        },
    ]


def test_rules_stay_within_the_budget_of_the_api_server() -> None:
    shape: Shape = Object(name="Some", summary="some", fields=fields("a", "b"), any_of=("a", "b"))
    deep: Any = structure(Many(item=Many(item=shape, most=1_000), most=1_000))
    assert deep["items"]["items"]["anyOf"] == [{"required": ["a"]}, {"required": ["b"]}]
    assert "x-kubernetes-validations" not in deep["items"]["items"]
    assert "x-kubernetes-validations" in structure(shape)


def test_a_value_of_several_types_has_its_fields_described_and_no_rule() -> None:
    one = Object(name="Some", summary="some.", fields=fields("a"), any_of=("a",))
    found: Any = structure(Either(shapes=(WORD, one)))
    assert "type" not in found and "x-kubernetes-validations" not in found and "required" not in found
    assert found["properties"]["a"]["pattern"] == "^(?:[a-z]+)$"
    assert found["description"] == "name; or a mapping: some."


def test_words_that_come_once_each_bound_their_list() -> None:
    found = structure(Many(item=Choice(words=("a", "b")), most=1_000))
    assert found["maxItems"] == 2


def test_names_are_found_beside_kubernetes_own() -> None:
    names: list[Any] = [one["spec"]["names"] for one in BY_KIND.values()]  # type: ignore[index]
    short = [name for found in names for name in found["shortNames"]]
    assert len(set(short)) == len(KINDS)
    assert not {"role", "roles", "rolebinding", "rolebindings"} & set(short)
    assert {tuple(found["categories"]) for found in names} == {("ringfence", "policy")}


# ---------------------------------------------------------------------------------------------- the table of a Route


def mappings(value: object, shape: Shape, way: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Object]]:
    if isinstance(shape, Many) and isinstance(value, list):
        for number, item in enumerate(value):
            yield from mappings(item, shape.item, (*way, number))
    elif isinstance(shape, Object) and isinstance(value, dict):
        yield way, shape
        for field in shape.fields:
            if field.name in value:
                yield from mappings(value[field.name], field.shape, (*way, field.name))


EXAMPLE: Any = plain(load_yaml(ROUTE.examples[0], "e", [])[0])
ROUTES = list(mappings(EXAMPLE["spec"], ROUTE.spec, ("spec",)))


def route_problems(way: tuple[str | int, ...], change: dict[str, object]) -> list[str]:
    document: Any = plain(load_yaml(ROUTE.examples[0], "e", [])[0])
    found = document
    for key in way:
        found = found[key]
    found.update(change)
    return [str(problem) for problem in read_kinds(yaml.safe_dump(document), "e.yaml", {KIND: read_route})[1]]


def test_the_example_of_a_route_is_read() -> None:
    assert route_problems(("spec",), {}) == []


@pytest.mark.parametrize(("way", "shape"), ROUTES, ids=lambda value: str(value)[:40])
def test_a_route_has_the_fields_that_its_reader_knows(way: tuple[str | int, ...], shape: Object) -> None:
    (problem,) = route_problems(way, {"zzzzzzzzzzzz": "x"})
    known = problem.partition("(use one of ")[2].rstrip(")").split(", ")
    assert sorted(known) == sorted(field.name for field in shape.fields)


@pytest.mark.parametrize(("way", "shape"), ROUTES, ids=lambda value: str(value)[:40])
def test_a_number_of_a_route_has_the_bounds_of_its_reader(way: tuple[str | int, ...], shape: Object) -> None:
    for field in shape.fields:
        if isinstance(field.shape, Number):
            assert any("out of range" in one for one in route_problems(way, {field.name: field.shape.high + 1}))
            assert any("out of range" in one for one in route_problems(way, {field.name: field.shape.low - 1}))
            assert not any("out of range" in one for one in route_problems(way, {field.name: field.shape.high}))


def test_named_values_are_bounded() -> None:
    found: Any = structure(Named(key=WORD, value=WORD, most=3))
    assert (found["minProperties"], found["maxProperties"], found["x-kubernetes-map-type"]) == (1, 3, "atomic")


@pytest.mark.parametrize(("way", "shape"), ROUTES, ids=lambda value: str(value)[:40])
def test_a_route_lacks_what_its_reader_misses(way: tuple[str | int, ...], shape: Object) -> None:
    for field in shape.fields:
        document: Any = plain(load_yaml(ROUTE.examples[0], "e", [])[0])
        found = document
        for key in way:
            found = found[key]
        if found.pop(field.name, None) is None:
            continue
        problems = [str(one) for one in read_kinds(yaml.safe_dump(document), "e.yaml", {KIND: read_route})[1]]
        assert any(f" lacks {field.name} (" in one for one in problems) == field.required
