"""The typed YAML reader: right values, and for each a refused neighbour with its place and mend."""

from __future__ import annotations

import pytest

from ringfence.policy.yamlnodes import HostPort, MappingReader, Problem, load_yaml


def read(text: str) -> tuple[MappingReader, list[Problem]]:
    problems: list[Problem] = []
    documents = load_yaml(text, "f.yaml", problems)
    assert problems == []
    return MappingReader(documents[0], "f.yaml", problems), problems


def lines(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in sorted(problems)]


def test_every_kind_of_field_is_read() -> None:
    reader, problems = read(
        """
        name: orders
        quoted: "8080"
        port: 8080
        on: true
        log: denied
        listen: "127.0.0.1:7401"
        app: 9002
        lifetime: 1h30m
        ports: [1, 2]
        words: [GET, "POST"]
        env: {A: x, B: "1"}
        inner: {deep: yes-indeed}
        list: [{a: x}, {a: y}]
        number: 6x7
        """
    )
    assert reader.text("name") == "orders"
    assert reader.text("quoted") == "8080"
    assert reader.integer("port", 1, 65535) == 8080
    assert reader.boolean("on") is True
    assert reader.choice("log", ["denied", "all"]) == "denied"
    assert reader.address("listen") == HostPort("127.0.0.1", 7401)
    assert reader.address("app", default_host="127.0.0.1") == HostPort("127.0.0.1", 9002)
    assert reader.duration("lifetime") == 5400.0
    assert [item.integer(1, 9) for item in reader.sequence("ports")] == [1, 2]
    assert reader.texts("words") == ("GET", "POST")
    assert reader.text_mapping("env") == {"A": "x", "B": "1"}
    assert reader.mapping("inner").text("deep") == "yes-indeed"
    assert [item.text("a") for item in reader.mappings("list")] == ["x", "y"]
    assert reader.parsed("number", lambda text: text.split("x")) == ["6", "7"]
    reader.finish()
    assert problems == []


def test_absent_fields_answer_their_default() -> None:
    reader, problems = read("a: b")
    reader.known("a")
    assert reader.text("x", default=None) is None
    assert reader.text("x", default="d") == "d"
    assert reader.integer("x", 1, 2, default=7) == 7
    assert reader.boolean("x", default=True) is True
    assert reader.choice("x", ["a"], default=None) is None
    assert reader.address("x", default=None) is None
    assert reader.duration("x", default=3600.0) == 3600.0
    assert reader.texts("x", default=()) == ()
    assert reader.parsed("x", int, default=None) is None
    inner = reader.mapping("x", default=None)
    assert not inner.present
    assert inner.text("y") == ""  # an absent optional mapping does not complain about its own required fields
    inner.finish()
    reader.finish()
    assert problems == []


def test_all_errors_are_told_at_once_with_place_and_mend() -> None:
    reader, problems = read("name: 12\nport: 70000\nlog: denid\nprots: []\nlisten: nowhere\nlifetime: soon\n")
    reader.text("name")
    reader.integer("port", 1, 65535)
    reader.choice("log", ["denied", "all"])
    reader.sequence("ports")
    reader.address("listen")
    reader.duration("lifetime")
    reader.finish()
    assert lines(problems) == [
        "f.yaml:1:1: document lacks ports (add ports)",
        "f.yaml:1:7: name must be text, not 12 (put it in quotes)",
        "f.yaml:2:7: port 70000 is out of range (from 1 to 65535)",
        "f.yaml:3:6: log 'denid' is not known (did you mean denied?)",
        "f.yaml:4:1: unknown field 'prots' in document (did you mean ports?)",
        "f.yaml:5:9: listen 'nowhere' is not an address (write it as host:port)",
        "f.yaml:6:11: lifetime 'soon' is not a duration (write it like 500ms, 10s, 5m or 1h30m)",
    ]


@pytest.mark.parametrize("value", ["yes", "No", "true", "null", "~", "12", "1_000", "0x1f", "1.5", ".inf", "1e3"])
def test_what_yaml_gives_another_type_is_no_text_without_quotes(value: str) -> None:
    reader, problems = read(f"bare: {value}\nquoted: '{value}'")
    assert reader.text("quoted") == value
    assert problems == []
    reader.text("bare")
    assert [problem.mend for problem in problems] == ["put it in quotes"]


@pytest.mark.parametrize("value", ['"8080"', "08", "0x50", "8_0", "+8", "8.0", "eight", "[8]", "{a: 8}", "", "~"])
def test_only_decimal_numbers_are_integers(value: str) -> None:
    reader, problems = read(f"port: {value}")
    assert reader.integer("port", 1, 65535) == 1
    assert len(problems) == 1


@pytest.mark.parametrize("value", ["yes", "True", "on", "1", '"true"', ""])
def test_only_true_and_false_are_booleans(value: str) -> None:
    reader, problems = read(f"on: {value}")
    assert reader.boolean("on") is False
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("500ms", 0.5), ("10s", 10.0), ("5m", 300.0), ("1h", 3600.0), ("2d1h", 176400.0)]
)
def test_durations_are_seconds(value: str, seconds: float) -> None:
    reader, problems = read(f"d: {value}")
    assert reader.duration("d") == seconds
    assert problems == []


@pytest.mark.parametrize("value", ["10", "s", "1s1m", "-1s", "1.5h", "10 s", "10S", '""', "[1s]"])
def test_anything_else_is_no_duration(value: str) -> None:
    reader, problems = read(f"d: {value}")
    assert reader.duration("d", low=3.0) == 3.0
    assert len(problems) == 1


def test_a_duration_out_of_bounds_is_refused() -> None:
    reader, problems = read("d: 10s")
    reader.duration("d", low=60, high=86400)
    assert lines(problems) == ["f.yaml:1:4: d '10s' is out of range (from 60s to 86400s)"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:80", HostPort("127.0.0.1", 80)),
        ("'[::1]:80'", HostPort("::1", 80)),
        ("Orders.Shop:8080", HostPort("orders.shop", 8080)),
    ],
)
def test_addresses(value: str, expected: HostPort) -> None:
    reader, problems = read(f"a: {value}")
    assert reader.address("a") == expected
    assert problems == []


NO_ADDRESSES = [
    "80",
    ":80",
    "'a:'",
    "a:0",
    "a:65536",
    "a:80:80",
    "'::1:80'",
    "'[::1]'",
    "'[1.2.3.4]:80'",
    "1.2.3:80",
    "127.0.0.01:8",
    "-a:80",
    "a_b:80",
    "a..b:80",
    "0x7f000001.1:8",
    "[]",
    "http://a:80",
    "''",
    '"a:80\\n"',
    '"\\u0430:80"',
]


@pytest.mark.parametrize("value", NO_ADDRESSES)
def test_anything_else_is_no_address(value: str) -> None:
    reader, problems = read(f"a: {value}")
    reader.address("a")
    assert len(problems) == 1


def test_host_and_port_format_to_what_was_parsed() -> None:
    assert str(HostPort("::1", 80)) == "[::1]:80"
    assert str(HostPort("a.b", 80)) == "a.b:80"


def test_wrong_shapes_are_named() -> None:
    reader, problems = read("a: x\nb: [1]\nc: {}\nd:\n")
    reader.mapping("a")
    reader.mapping("b")
    reader.sequence("c")
    reader.text("b")
    reader.mapping("d")
    assert [problem.message for problem in problems] == [
        "a must be a mapping, not a value",
        "b must be a mapping, not a list",
        "c must be a list, not a mapping",
        "b must be text, not a list",
        "d must be a mapping, not nothing",
    ]


def test_exactly_one_of_several_keys() -> None:
    reader, problems = read("list:\n- {a: x}\n- {a: x, b: y}\n- {}\n")
    items = reader.mappings("list")
    assert [item.one_of("a", "b") for item in items] == ["a", None, None]
    assert lines(problems) == [
        "f.yaml:3:13: item of list has a and b (keep one of them)",
        "f.yaml:4:3: item of list lacks a or b (add one of them)",
    ]


def test_a_parse_error_carries_the_parsers_words() -> None:
    def parse(text: str) -> str:
        raise ValueError("no letters allowed")

    reader, problems = read("id: x")
    assert reader.parsed("id", parse, mend="use digits") is None
    assert lines(problems) == ["f.yaml:1:5: id 'x' is not valid: no letters allowed (use digits)"]


def test_a_crowd_of_unknown_fields_is_counted_not_listed() -> None:
    reader, problems = read("{" + ", ".join(f"k{number}: 1" for number in range(500)) + "}")
    reader.finish()
    assert len(problems) == 21
    assert problems[-1].message == "480 more unknown fields in document"
