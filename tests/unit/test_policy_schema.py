"""The table of documents against their reader, and what is published of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from controlplane.policy.commands import policy
from controlplane.policy.publish import published, stale
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import KINDS as READERS
from ringfence.policy.documents import read_documents
from ringfence.policy.schema.json_schema import json_schema
from ringfence.policy.schema.kinds import KINDS
from ringfence.policy.schema.shapes import Either, Many, Named, Object, Shape
from ringfence.policy.services import MeshService
from ringfence.policy.yamltree import load_yaml
from ringfence.spiffe import SpiffeId, TrustDomain
from tests.policy_texts import allowlist, plain, schema_refuses, told

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = [(kind.name, number) for kind in KINDS for number in range(len(kind.examples))]
UNKNOWN = "zzzzzzzzzzzz"


@dataclass(frozen=True)
class Spot:
    """A mapping in an example, found by the keys that lead to it, and what the table says of it."""

    example: str
    way: tuple[str | int, ...]
    shape: Object

    def changed(self, change: Callable[[dict[str, Any]], object]) -> str:
        """The example with ``change`` made to the mapping."""
        document = plain(load_yaml(self.example, "e", [])[0])
        found: Any = document
        for key in self.way:
            found = found[key]
        change(found)
        return yaml.safe_dump(document, sort_keys=False)

    @property
    def there(self) -> dict[str, Any]:
        found: Any = plain(load_yaml(self.example, "e", [])[0])
        for key in self.way:
            found = found[key]
        return dict(found)


def spots(value: object, shape: Shape, example: str, way: tuple[str | int, ...]) -> Iterator[Spot]:
    if isinstance(shape, Either):
        for one in shape.shapes:
            yield from spots(value, one, example, way)
    elif isinstance(shape, Many) and isinstance(value, list):
        for number, item in enumerate(value):
            yield from spots(item, shape.item, example, (*way, number))
    elif isinstance(shape, Named) and isinstance(value, dict):
        for key, item in value.items():
            yield from spots(item, shape.value, example, (*way, key))
    elif isinstance(shape, Object) and isinstance(value, dict):
        yield Spot(example, way, shape)
        for field in shape.fields:
            if field.name in value:
                yield from spots(value[field.name], field.shape, example, (*way, field.name))


SPOTS = [
    spot
    for kind in KINDS
    for example in kind.examples
    for spot in spots(plain(load_yaml(example, "e", [])[0])["spec"], kind.spec, example, ("spec",))  # type: ignore[index]
]
SAMPLES = {key: value for spot in SPOTS for key, value in spot.there.items()}
BY_SPOT = pytest.mark.parametrize("spot", SPOTS, ids=lambda spot: f"{spot.shape.name}-{'.'.join(map(str, spot.way))}")


def objects(shape: Shape) -> set[str]:
    if isinstance(shape, Either):
        return set().union(*map(objects, shape.shapes))
    if isinstance(shape, Many):
        return objects(shape.item)
    if isinstance(shape, Named):
        return objects(shape.value)
    if isinstance(shape, Object):
        return {shape.name}.union(*(objects(field.shape) for field in shape.fields))
    return set()


def test_the_table_has_every_kind_that_is_read() -> None:
    assert [kind.name for kind in KINDS] == list(READERS)


def test_examples_show_every_part_of_the_table() -> None:
    assert {spot.shape.name for spot in SPOTS} == set().union(*(objects(kind.spec) for kind in KINDS))
    shown = {(spot.shape.name, key) for spot in SPOTS for key in spot.there}
    silent = {(spot.shape.name, field.name) for spot in SPOTS for field in spot.shape.fields} - shown
    assert {name for _, name in silent} <= set(SAMPLES)  # each field is shown somewhere


@BY_SPOT
def test_the_fields_of_the_table_are_those_that_the_reader_knows(spot: Spot) -> None:
    (problem,) = told(spot.changed(lambda found: found.update({UNKNOWN: "x"})))
    known = problem.partition("(use one of ")[2].rstrip(")").split(", ")
    assert sorted(known) == sorted(field.name for field in spot.shape.fields)


@BY_SPOT
def test_reader_and_schema_agree_on_what_may_be_absent(spot: Spot) -> None:
    for key in spot.there:
        text = spot.changed(lambda found, key=key: found.pop(key))
        assert bool(told(text)) == bool(schema_refuses(text)), text
        required = next(field.required for field in spot.shape.fields if field.name == key)
        assert any(f" lacks {key} (" in problem for problem in told(text)) == required


@BY_SPOT
def test_reader_and_schema_agree_on_what_may_stand_beside(spot: Spot) -> None:
    for field in spot.shape.fields:
        if field.name in spot.there:
            continue
        sample = copy.deepcopy(SAMPLES[field.name])
        text = spot.changed(lambda found, name=field.name, sample=sample: found.update({name: sample}))
        assert bool(told(text)) == bool(schema_refuses(text)), (text, told(text), schema_refuses(text))


@BY_SPOT
def test_a_list_that_is_too_long_is_refused_by_both(spot: Spot) -> None:
    for field in spot.shape.fields:
        if field.name not in spot.there or not isinstance(field.shape, Many):
            continue
        most = field.shape.most
        change = spot.changed(lambda found, name=field.name, most=most: found.update({name: ["x"] * (most + 1)}))
        assert any(f"{field.name} has {most + 1} items (at most {most}: split the list)" in one for one in told(change))
        assert schema_refuses(change)


@BY_SPOT
@pytest.mark.parametrize("wrong", ["", None, [], {}, 0, -1, True, False, "*", "\u0430", "a\n", " ", "^a$", ["a", "a"]])
def test_what_the_reader_takes_the_schema_takes(spot: Spot, wrong: object) -> None:
    for key in spot.there:
        text = spot.changed(lambda found, key=key: found.update({key: copy.deepcopy(wrong)}))
        if not told(text):
            assert schema_refuses(text) == [], text


@pytest.mark.parametrize(
    ("to", "texts"),
    [
        (
            "paths: ['{}']",
            "/ /** /a /a/ /a/** /a/*** /*** /a/**/b // /a//b /{x}/*/ /{x}a /.. /a/./b /... /.a /*a a /a?b /a#b /a%20b "
            "^/a /a$",
        ),
        ("hosts: ['{}']", "a a.b *.a.b * *.*.a a.*.b A.b a.b. a..b -a a_b a:80 .a a|b"),
        ("grpc: ['{}']", "a.B/C a.B/* B/C /a.B/C a.B a.B/ a.*/C */* a.B/C* a..B/C 1.B/C a.B/C/D"),
        ("headers: [{name: '{}', present: true}]", "x-a X-A host Host x:a :path x_a é"),
        ("headers: [{name: x, values: ['{}']}]", "a */* * a,b ^a a$ .* é a.+"),
    ],
)
def test_reader_and_schema_agree_on_the_words_of_calls(to: str, texts: str) -> None:
    verdicts = set()
    for text in texts.split():
        written = allowlist(f"from: [web], to: {{{to.replace('{}', text, 1)}}}")
        assert bool(told(written)) == bool(schema_refuses(written)), (text, told(written))
        verdicts.add(bool(told(written)))
    assert verdicts == {True, False}


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        ("{}", "web shop/web a/b/c /a a/ Web w*b * spiffe://a/b anyonee"),
        ("{service: '{}'}", "web shop/web a.b a/b/c *"),
        ("{callerSet: '{}'}", "web shop/web a.b s.x/a.b a/b/c *"),
        ("{namespace: '{}'}", "shop a.b * Shop -a"),
        ("{trustDomain: '{}'}", "a.b a_b A.b a.b:80 * spiffe://a spiffe://a/b"),
        (
            "{spiffeId: '{}'}",
            "spiffe://a/b spiffe://a/*/b spiffe://a spiffe://a/ spiffe://a/b* spiffe://*/a SPIFFE://a/b spiffe://a//b",
        ),
        ("{namespace: a, cidrs: ['{}']}", "10.0.0.0/8 fd00::/8 10.0.0.0 a a/8 10.0.0/8"),
        ("{serviceLabels: {a: '{}'}}", "b B.c_d-e -b b- * a/b"),
        ("{serviceLabels: {'{}': b}}", "a a/b a.b/c A/b a/ /a a/b/c *"),
    ],
)
def test_reader_and_schema_agree_on_the_words_of_callers(item: str, texts: str) -> None:
    verdicts = set()
    for text in texts.split():
        written = allowlist(f"from: [{item.replace('{}', repr(text) if item == '{}' else text, 1)}]")
        assert bool(told(written)) == bool(schema_refuses(written)), (text, told(written))
        verdicts.add(bool(told(written)))
    assert verdicts == {True, False}


@pytest.mark.parametrize(("kind", "number"), EXAMPLES)
def test_each_example_is_read_and_the_schema_takes_it(kind: str, number: int) -> None:
    (example,) = [one.examples[number] for one in KINDS if one.name == kind]
    documents, problems = read_documents(example, "e.yaml")
    assert [str(problem) for problem in problems] == []
    assert len(documents) == 1
    assert schema_refuses(example) == []


def texts_of_the_repository() -> list[Path]:
    found = [*REPOSITORY.glob("examples/**/policies/*.yaml"), *REPOSITORY.glob("tests/fuzz/corpus/policy/*")]
    return [path for path in found if "kind: Route" not in path.read_text()]


def test_the_examples_can_be_bound_together() -> None:
    found = [one for kind in KINDS for example in kind.examples for one in read_documents(example, kind.name)[0]]
    ports = {8080: "http", 9000: "grpc"}
    labels = {"shop/orders": (("data", "pii"),), "shop/web": (("tier", "edge"),)}
    services = {
        name: MeshService(
            ports=ports,
            permissive=frozenset({8080}),
            spiffe_id=SpiffeId(TrustDomain("shop.example"), f"/ns/{name.replace('/', '/sa/')}"),
            labels=labels.get(name, ()),
        )
        for name in ("shop/orders", "shop/web", "shop/audit", "billing/export", "billing/audit")
    }
    binding = bind(found, Surroundings(services=services, trust_domain=TrustDomain("shop.example"), now=1_800_000_000))
    assert [str(problem) for problem in binding.errors] == []
    assert set(binding.policies) == set(services)
    orders = binding.policies["shop/orders"]
    assert [one.full_name for one in orders.policy.allowlists] == ["shop/orders-callers", "shop/readers"]
    assert [one.full_name for one in orders.policy.denylists] == ["ringfence-system/never"]
    assert orders.shadow is not None
    assert orders.policy.observe_until == 1_801_418_400


def test_a_route_beside_policy_is_left_to_its_own_reader() -> None:
    route = (REPOSITORY / "tests/fuzz/corpus/policy/route").read_text()
    assert schema_refuses(route) == []
    assert schema_refuses(route.replace("kind: Route", "kind: Routes"))


def test_the_schema_takes_every_document_of_the_repository() -> None:
    paths = texts_of_the_repository()
    assert len(paths) >= 5
    for path in paths:
        if not told(path.read_text()):
            assert schema_refuses(path.read_text()) == [], path


def test_metadata_is_as_the_reader_has_it() -> None:
    text = KINDS[0].examples[0]
    for good in ("{name: a.b, labels: {team: x}, annotations: {'a/b c': ü}}", "{name: one}"):
        changed = text.replace("{name: orders-callers, namespace: shop}", good)
        assert (told(changed), schema_refuses(changed)) == ([], [])
    for bad in ("{}", "{name: A}", "{name: a, namespace: a.b}", "{name: a, label: {}}", "{name: a, labels: {a: 1}}"):
        changed = text.replace("{name: orders-callers, namespace: shop}", bad)
        assert told(changed)
        assert schema_refuses(changed)


@pytest.mark.parametrize(
    "text", ["[]", "kind: Allowlist", "apiVersion: v1\nkind: Allowlist\nmetadata: {name: a}\nspec: {}", "a"]
)
def test_what_is_no_document_the_schema_refuses(text: str) -> None:
    assert told(text)
    assert schema_refuses(text)


def test_what_is_published_is_up_to_date_and_staleness_is_found(tmp_path: Path) -> None:
    assert stale(REPOSITORY / "docs") == []
    assert stale(tmp_path) == sorted(published(), reverse=True)
    for name, text in published().items():
        (tmp_path / name).write_text(text)
    assert stale(tmp_path) == []
    (tmp_path / "policy-reference.md").write_text("other")
    assert stale(tmp_path) == ["policy-reference.md"]


def test_the_page_names_every_field_and_every_link_leads_somewhere() -> None:
    page = published()["policy-reference.md"]
    headings = {line[3:].strip().lower() for line in page.splitlines() if line.startswith("## ")}
    for spot in SPOTS:
        assert spot.shape.name.endswith("Spec") or spot.shape.name.lower() in headings
        for field in spot.shape.fields:
            assert f"| `{field.name}` | " in page
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= headings


def test_the_command_prints_the_schema() -> None:
    run = CliRunner().invoke(policy, ["schema"])
    assert run.exit_code == 0
    assert json.loads(run.output) == json_schema()
    assert CliRunner().invoke(policy, ["schema", "--json"]).output == run.output
