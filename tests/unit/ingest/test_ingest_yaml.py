"""The YAML reader: scalars, keys, merges, aliases and bombs, tags, lines, and what one bad document costs the next."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ovnk_core.ingest.yaml_reader import MAX_DEPTH, Document, Unreadable, YamlReader


def read(text: str | bytes) -> list[Document | Unreadable]:
    return list(YamlReader(text.encode() if isinstance(text, str) else text, "f.yaml"))


def document(text: str) -> Document:
    (found,) = read(text)
    assert isinstance(found, Document), found
    return found


def unreadable(text: str | bytes) -> Unreadable:
    (found,) = read(text)
    assert isinstance(found, Unreadable), found
    return found


RESOLVED = [
    ("null", None),
    ("", None),
    ("true", True),
    ("false", False),
    ("0", 0),
    ("-0", 0),
    ("80", 80),
    ("-7", -7),
    ("1.5", 1.5),
    ("-1.5e3", -1500.0),
    ("1e2", 100.0),
    ("1E+2", 100.0),
]
TEXT = [
    *("on", "off", "yes", "no", "y", "True", "TRUE", "Null", "NULL", "~"),
    *("010", "007", "+1", "0x1f", "0o17", "0b1", "1_000", "22:22", "1.", ".5", "01.5", "1e", "-a", "--1"),
    *(".inf", "-.inf", ".nan", "NaN", "Infinity"),
    *("2024-01-01", "2024-01-01T00:00:00Z", "1.2.3.4", "0a:58:0a:80:00:05", "12e", "=", "<"),
    "9" * 401,
]


@pytest.mark.parametrize(("text", "value"), RESOLVED)
def test_json_scalars_resolve(text: str, value: Any) -> None:
    found = document(f"a: {text}").value["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", TEXT)
def test_everything_else_stays_text(text: str) -> None:
    assert document(f"a: {text}").value == {"a": text}


@pytest.mark.parametrize("text", ['"80"', "'80'", "|-\n  80", ">-\n  80", "!!str 80", "! 80"])
def test_quoted_is_text(text: str) -> None:
    assert document(f"a: {text}").value == {"a": "80"}


def test_keys_are_their_text() -> None:
    assert document("80: a\ntrue: b\n010: c\n? d\n: e\n").value == {"80": "a", "true": "b", "010": "c", "d": "e"}


@pytest.mark.parametrize("text", ["? [a]\n: 1", "? {a: 1}\n: 1", "{[a]: 1}", "x: &x [1]\n? *x\n: 1"])
def test_keys_that_are_not_text_end_the_document(text: str) -> None:
    assert "a mapping key must be text" in unreadable(text).reason


def test_repeated_key_names_both_lines_and_keeps_the_first() -> None:
    found = document("a:\n  b: 1\n  c: [1, 2]\n  b: {x: [1, 2, 3]}\nd: 4\n")
    assert found.value == {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    (problem,) = found.problems
    assert (problem.path, problem.line) == (("a", "b"), 4)
    assert "lines 2 and 4" in problem.reason
    assert found.positions.at("d") == "f.yaml:5"


def test_repeated_key_by_other_spelling() -> None:
    assert document('1: a\n"1": b').problems[0].path == ("1",)


def test_merge_keys_as_kubectl_reads_them() -> None:
    text = """
one: &one {a: 1, b: 1}
two: &two {b: 2, c: 2}
plain:
  <<: *one
  a: own
list:
  a: own
  <<: [*one, *two]
  d: last
inline:
  <<: {z: 1}
quoted:
  "<<": text
"""
    found = document(text)
    assert not found.problems
    value = found.value
    assert value["plain"] == {"a": "own", "b": 1}
    assert value["list"] == {"a": "own", "b": 1, "c": 2, "d": "last"}
    assert value["inline"] == {"z": 1}
    assert value["quoted"] == {"<<": "text"}
    assert value["one"] == {"a": 1, "b": 1}
    assert [found.positions.at(*path) for path in (("plain", "a"), ("plain", "b"), ("list", "d"), ("inline",))] == [
        "f.yaml:6",
        "f.yaml:5",
        "f.yaml:10",
        "f.yaml:11",
    ]
    assert found.positions.at("inline", "z") == "f.yaml:12"


@pytest.mark.parametrize("text", ["a:\n  <<: 1", "a:\n  <<: [1]", "a:\n  <<:"])
def test_merge_of_what_is_no_mapping(text: str) -> None:
    assert "merge key" in document(text).problems[0].reason


def test_aliases_share_values_and_take_the_line_of_their_use() -> None:
    found = document("a: &x {p: [1, 2]}\nb:\n- *x\n- y\nc: *x\nd: &k key\n*k : 5\n")
    assert found.value["b"] == [{"p": [1, 2]}, "y"]
    assert found.value["c"] is found.value["a"]
    assert found.value["key"] == 5
    places = [("b", 0, "p", 1), ("b", 1), ("c", "p"), ("d",), ("key",)]
    assert [found.positions.at(*path) for path in places] == [f"f.yaml:{line}" for line in (3, 4, 5, 6, 7)]


@pytest.mark.parametrize("text", ["a: *x", "a: &x [*x]", "a: &x {b: *x}", "a: &x {<<: *x}", "&x a: {b: &x [*x]}"])
def test_aliases_to_nothing_or_to_themselves(text: str) -> None:
    assert "names no anchor before it" in unreadable(text).reason


def bomb(levels: int, width: int) -> str:
    lines = ['a0: &a0 ["x"]']
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * width)}]" for at in range(1, levels)]
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {k: v, l: w}"]
    lines += [f"a{at}: &a{at} {{x: *a{at - 1}, y: *a{at - 1}, <<: *a{at - 1}}}" for at in range(1, levels)]
    return "\n".join(lines)


def wide_bomb() -> str:
    return "a: &a [" + "x, " * 2000 + "x]\nb: [" + "*a, " * 2000 + "*a]"


@pytest.mark.parametrize(
    "text", [bomb(10, 10), bomb(60, 2), merge_bomb(60), wide_bomb()], ids=["billion laughs", "deep", "merges", "wide"]
)
def test_yaml_bombs_are_refused_quickly(text: str) -> None:
    started = time.perf_counter()
    assert "aliases expand to more than 1000000 nodes" in unreadable(text).reason
    assert time.perf_counter() - started < 5


def test_alias_budget_is_one_per_file() -> None:
    part = "a: &a [" + "x, " * 99 + "x]\nb: [" + "*a, " * 4000 + "*a]\n"
    found = read("---\n".join([part] * 4))
    assert [type(entry) for entry in found] == [Document, Document, Unreadable, Unreadable]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_depth_is_bounded(opening: str, depth: int) -> None:
    reason = unreadable(opening * depth).reason
    assert "nested deeper" in reason or "not YAML" in reason


def test_depth_just_below_the_bound() -> None:
    assert isinstance(document("[" * MAX_DEPTH + "]" * MAX_DEPTH), Document)


TAGS = [
    ("!foo 1", "not supported", "1"),
    ("!!binary aGk=", "not supported", "aGk="),
    ("!!python/object/apply:os.system [ls]", "not supported", ["ls"]),
    ("!!set {a}", "not supported", {"a": None}),
    ("!!timestamp 2024-01-01", "not supported", "2024-01-01"),
    ("!!int 010", "not a int", "010"),
    ("!!int yes", "not a int", "yes"),
    ("!!bool on", "not a bool", "on"),
]


@pytest.mark.parametrize(("text", "reason", "value"), TAGS)
def test_tags_refused(text: str, reason: str, value: Any) -> None:
    found = document(f"a: {text}\n")
    assert found.value == {"a": value}
    assert found.problems[0].path == ("a",)
    assert reason in found.problems[0].reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!int '5'", 5),
        ("!!map {}", {}),
        ("!!seq []", []),
        ("!!null ''", None),
        ("!!float 1", 1),
        ("!!bool 'true'", True),
    ],
)
def test_core_tags(text: str, value: Any) -> None:
    found = document(f"a: {text}\n")
    assert (found.value, found.problems) == ({"a": value}, ())


def test_lines_in_block_and_flow() -> None:
    text = "# comment\n\na:\n  - b: 1\n    c:\n      d: 2\n  -\n    e: 3\nf: {g: 1,\n  h: [1,\n  2]}\n"
    positions = document(text).positions
    paths: list[tuple[str | int, ...]] = [
        (),
        ("a",),
        ("a", 0),
        ("a", 0, "c"),
        ("a", 0, "c", "d"),
        ("a", 1),
        ("a", 1, "e"),
        ("f", "g"),
        ("f", "h", 1),
        ("a", 9),
        ("a", 0, "c", "nothing"),
        ("a", "b"),
        ("nothing",),
    ]
    assert [positions.at(*path) for path in paths] == [
        f"f.yaml:{line}" for line in (3, 3, 4, 5, 6, 8, 8, 9, 11, 3, 5, 3, 3)
    ]


def test_lines_count_on_through_documents() -> None:
    text = "a: 1\n---\n# nothing\n---\n\nb: 2\n...\n---\r\nc: 3\r\nd:\r\n- x\r\n--- {e: 5}\n"
    found = [entry for entry in read(text) if isinstance(entry, Document)]
    assert [entry.value for entry in found] == [{"a": 1}, {"b": 2}, {"c": 3, "d": ["x"]}, {"e": 5}]
    assert [entry.positions.at() for entry in found] == ["f.yaml:1", "f.yaml:6", "f.yaml:9", "f.yaml:12"]
    assert found[2].positions.at("d", 0) == "f.yaml:11"


def test_a_marker_inside_text_is_no_marker() -> None:
    found = document("a: |\n  x\n  ---\n  y\nb: --- x\nc: '\n  ---\n  '\n")
    assert found.value["a"] == "x\n---\ny\n"
    assert found.value["b"] == "--- x"


def test_directives_stay_with_their_document() -> None:
    found = read("# head\n%YAML 1.1\n# more\n---\na: 1\n---\nb: 2\n")
    assert [entry.value for entry in found if isinstance(entry, Document)] == [{"a": 1}, {"b": 2}]
    assert len(found) == 2


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "---\n---\n", "null\n", "--- # x\n...\n"])
def test_nothing_is_no_document(text: str) -> None:
    assert read(text) == []


def test_one_bad_document_costs_only_itself() -> None:
    parts = ["a: 1", "b: [", "c: 3", "d: \x07", "e: *x", "f: 6", "\tg: 7", '"h', "i: 9"]
    found = read("\n---\n".join(parts) + "\n")
    kinds = ["D" if isinstance(entry, Document) else "U" for entry in found]
    assert "".join(kinds) == "DUDUUDUUD"
    sources = [entry.source for entry in found if isinstance(entry, Unreadable)]
    assert sources[1:3] == ["f.yaml:7", "f.yaml:9"]
    last = found[-1]
    assert isinstance(last, Document)
    assert last.positions.at("i") == "f.yaml:17"


def test_endless_rubbish_is_cut() -> None:
    found = read("---\n[\n" * 5000)
    assert len(found) == 1001
    assert isinstance(found[-1], Unreadable)
    assert "the rest was not read" in found[-1].reason


def test_non_ascii_text_and_lines() -> None:
    found = document('a: üñ😀\nb: "\\u00e9"\nc: 1\n')
    assert found.value == {"a": "üñ😀", "b": "é", "c": 1}
    assert found.positions.at("c") == "f.yaml:3"
