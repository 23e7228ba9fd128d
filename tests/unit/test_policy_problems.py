"""Problems: one line each, nearest names, nothing that hides."""

from __future__ import annotations

from ringfence.policy.problems import Place, Problem, choose_from, nearest, shown


def test_a_problem_is_one_line_with_place_and_mend() -> None:
    place = Place("f.yaml", 3, 7)
    assert str(place.problem("bad thing", "mend it")) == "f.yaml:3:7: bad thing (mend it)"
    assert str(place.problem("bad thing")) == "f.yaml:3:7: bad thing"


def test_a_problem_stays_one_line_whatever_its_file_is_named() -> None:
    told = str(Problem("poli\ncies/\x1b[2J\udcff.yaml", 1, 2, "folder a\u2028b is gone", "make\rit"))
    assert told == r"poli\ncies/\x1b[2J\udcff.yaml:1:2: folder a\u2028b is gone (make\rit)"
    assert str(Problem("políticas.yaml", 1, 1, "café")) == "políticas.yaml:1:1: café"


def test_problems_sort_by_file_line_and_column() -> None:
    problems = [Problem("b", 1, 1, "x"), Problem("a", 10, 1, "x"), Problem("a", 9, 2, "x"), Problem("a", 9, 1, "x")]
    assert [(p.file, p.line, p.column) for p in sorted(problems)] == [
        ("a", 9, 1),
        ("a", 9, 2),
        ("a", 10, 1),
        ("b", 1, 1),
    ]


def test_what_hides_is_shown() -> None:
    assert shown("w\u0435b\n") == "'w\\u0435b\\n'"
    assert len(shown("x" * 100_000)) < 100


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("spiffeID", ["namespace", "spiffeId"]) == "spiffeId"
    assert nearest("get", ["GET", "PUT"]) == "GET"
    assert nearest("zzz", ["GET", "PUT"]) is None
    assert nearest("x" * 1_000_000, ["x"]) is None


def test_the_mend_names_the_nearest_or_all() -> None:
    assert choose_from("form", ["from", "to"]) == "did you mean from?"
    assert choose_from("zzz", ["from", "to"]) == "use one of from, to"
    assert choose_from("zzz", []) == ""
