"""Files, folders, standard input, JSON, sizes, encodings and progress: everything before an object is an object."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.ingest.load import Loaded, load
from tests.kit.manifest import namespace, pod, policy

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n"


def names(loaded: Loaded) -> list[str]:
    return [item.ref.name for item in loaded.items]


def reasons(loaded: Loaded) -> list[str]:
    return [error.reason for entry in loaded.refused for error in entry.errors]


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def stdin(text: str, **settings: Any) -> Loaded:
    return load(["-"], stdin=io.BytesIO(text.encode()), **settings)


def test_folder_is_recursive_and_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.json", "sub/deep/d.YAML", "notes.txt", ".hidden.yaml", ".git/x.yaml"):
        text = NAMESPACE.format(Path(name).stem)
        write(tmp_path / name, json.dumps(namespace(Path(name).stem)) if name.endswith("json") else text)
    loaded = load([str(tmp_path)])
    assert names(loaded) == ["a", "b", "c", "d"]
    assert [str(item.source) for item in loaded.items] == [
        f"{tmp_path}/a.yml:1",
        f"{tmp_path}/b.yaml:1",
        f"{tmp_path}/sub/c.json#",
        f"{tmp_path}/sub/deep/d.YAML:1",
    ]


def test_several_paths_each_file_once(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.yaml", NAMESPACE.format("one")), write(tmp_path / "2.yaml", NAMESPACE.format("two"))
    assert names(load([two, str(tmp_path), one])) == ["two", "one"]


def test_any_name_may_be_given_directly(tmp_path: Path) -> None:
    assert names(load([write(tmp_path / "manifest", NAMESPACE.format("x"))])) == ["x"]
    assert names(load([write(tmp_path / "manifest.txt", json.dumps(namespace("y")))])) == ["y"]


def test_links_to_files_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.yaml", NAMESPACE.format("a"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.yaml").symlink_to(tmp_path / "data" / "a.yaml")
    (folder / "loop").symlink_to(folder)
    assert names(load([str(folder)])) == ["a"]


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, NAMESPACE.format("piped").encode())
    os.close(write_end)
    try:
        assert names(load([f"/dev/fd/{read_end}"])) == ["piped"]
    finally:
        os.close(read_end)


def test_what_cannot_be_read_is_refused_and_stops_nothing(tmp_path: Path) -> None:
    good = write(tmp_path / "good.yaml", NAMESPACE.format("good"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nothing")
    loaded = load([str(tmp_path / "missing.yaml"), good, str(tmp_path), str(tmp_path / "empty"), "\0"])
    assert names(loaded) == ["good"]
    assert sorted(reasons(loaded)) == [
        "cannot be read: No such file or directory",
        "no such file or folder",
        "no such file or folder",
    ]
    assert {entry.ref.kind for entry in loaded.refused} == {"File"}
    assert [warning.text for warning in loaded.warnings] == ["the folder holds no manifests"]


def test_standard_input_yaml_and_json() -> None:
    assert str(stdin(NAMESPACE.format("a")).items[0].source) == "<stdin>:1"
    assert str(stdin(json.dumps(namespace("b"))).items[0].source) == "<stdin>#"
    flow = stdin("{apiVersion: v1, kind: Namespace, metadata: {name: c}}")
    assert (names(flow), str(flow.items[0].source)) == (["c"], "<stdin>:1")
    for nothing in (load(["-"]), load([])):
        assert (nothing.items, nothing.refused, nothing.bytes) == ((), (), 0)


def test_json_source_is_a_pointer(tmp_path: Path) -> None:
    raw = policy({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})
    path = write(tmp_path / "p.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace(), raw]}))
    source = load([path]).items[1].source
    assert str(source) == f"{path}#/items/1"
    assert source.at("spec", "ingress", 0, "from", 0) == f"{path}#/items/1/spec/ingress/0/from/0"
    assert source.at("metadata", "annotations", "a/b~c") == f"{path}#/items/1/metadata/annotations/a~1b~0c"


def test_yaml_source_of_a_policys_parts(tmp_path: Path) -> None:
    text = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector: {}
    - namespaceSelector:
        matchLabels: {a: b}
    ports:
    - port: 80
"""
    path = write(tmp_path / "p.yaml", f"# {'x' * 5}\n---\n{text}")
    source = load([path]).items[0].source
    places = [(), ("spec", "ingress", 0), ("spec", "ingress", 0, "from", 1), ("spec", "ingress", 0, "ports", 0, "port")]
    assert [source.at(*place) for place in places] == [f"{path}:{line}" for line in (3, 10, 12, 15)]
    assert source.at("spec", "egress", 0) == f"{path}:7"
    assert source.at("nothing") == str(source)


def test_errors_carry_file_line_path_value_reason_and_fix(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.yaml",
        NAMESPACE.format("shop") + "---\n" + "apiVersion: v1\nkind: Pod\nmetadata:\n"
        "  name: web\n  namespace: shop\n  labels:\n    app: web\n    version: 10\n",
    )
    error = load([path]).refused[0].errors[0]
    assert (error.kind, error.name, error.path) == ("Pod", "shop/web", "metadata.labels.version")
    assert (error.value, error.reason, error.fix) == ("10", "must be text", 'write "10"')
    assert error.source == f"{path}:13"
    assert str(error) == f'{path}:13: Pod shop/web metadata.labels.version: must be text (got 10); write "10"'


def test_long_paths_are_not_cut(tmp_path: Path) -> None:
    path = write(tmp_path / ("d" * 120) / "ü" / "a.yaml", NAMESPACE.format("A"))
    assert load([path]).refused[0].source == f"{path}:1"


UTF8 = [
    ("lone continuation", b"\x80", 3),
    ("cut short", b"\xc3", 3),
    ("overlong slash", b"\xc0\xaf", 3),
    ("surrogate", b"\xed\xa0\x80", 3),
    ("beyond Unicode", b"\xf5\x80\x80\x80", 3),
    ("latin-1", "für".encode("latin-1"), 3),
]


@pytest.mark.parametrize(("raw", "line"), [case[1:] for case in UTF8], ids=[case[0] for case in UTF8])
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_invalid_utf8(tmp_path: Path, suffix: str, raw: bytes, line: int) -> None:
    path = write(tmp_path / f"a{suffix}", b"a: 1\n\n# " + raw + b"\n")
    loaded = load([path])
    assert "not UTF-8" in reasons(loaded)[0]
    assert loaded.refused[0].source == f"{path}:{line}"


def test_utf16_is_not_utf8(tmp_path: Path) -> None:
    assert "not UTF-8" in reasons(load([write(tmp_path / "a.yaml", NAMESPACE.format("a").encode("utf-16"))]))[0]


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    yaml, text = mark + NAMESPACE.format("a").encode(), mark + json.dumps(namespace("b")).encode()
    assert names(load([write(tmp_path / "a.yaml", yaml), write(tmp_path / "b.json", text)])) == ["a", "b"]


BAD_JSON = [
    ("cut", '{"apiVersion": "v1"', "not JSON"),
    ("empty", "", "not JSON"),
    ("two values", "{} {}", "not JSON: Extra data"),
    ("NaN", '{"a": NaN}', "NaN is not JSON"),
    ("infinity", '{"a": -Infinity}', "Infinity is not JSON"),
    ("comment", '{"a": 1} // x', "not JSON"),
    ("lone surrogate", '{"a": "\\ud800"}', "surrogate"),
    ("lone surrogate key", '{"\\uDC00": 1}', "surrogate"),
    ("too deep", "[" * 200_000, "nested too deeply"),
    ("number too long", '{"a": ' + "9" * 5000 + "}", "not JSON"),
]


@pytest.mark.parametrize(("text", "reason"), [case[1:] for case in BAD_JSON], ids=[case[0] for case in BAD_JSON])
def test_bad_json_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    loaded = load([write(tmp_path / "a.json", text)])
    assert len(loaded.refused) == 1
    assert reason in reasons(loaded)[0]


def test_surrogate_pairs_are_text(tmp_path: Path) -> None:
    raw = pod(metadata={"annotations": {"a": "\U0001f600"}})
    assert names(load([write(tmp_path / "a.json", json.dumps(raw))])) == ["web"]


def test_repeated_json_key_refuses_the_object_that_holds_it(tmp_path: Path) -> None:
    bad = json.dumps(policy(name="bad")).replace('"podSelector": {}', '"podSelector": {}, "podSelector": {}')
    text = f'{{"kind": "List", "apiVersion": "v1", "items": [{json.dumps(namespace())}, {bad}]}}'
    loaded = load([write(tmp_path / "a.json", text)])
    assert names(loaded) == ["shop"]
    (refused,) = loaded.refused
    assert [error.path for error in refused.errors] == ["spec.podSelector"]
    assert "appears twice" in refused.errors[0].reason
    assert refused.stand_in is not None


def test_size_limit_holds_for_files_and_standard_input(tmp_path: Path) -> None:
    text = NAMESPACE.format("a")
    path = write(tmp_path / "a.yaml", text)
    assert names(load([path], max_file_bytes=len(text))) == ["a"]
    for loaded in (load([path], max_file_bytes=len(text) - 1), stdin(text, max_file_bytes=len(text) - 1)):
        assert loaded.items == ()
        assert f"larger than the limit of {len(text) - 1} bytes" in reasons(loaded)[0]


def test_an_endless_file_is_cut_at_the_limit() -> None:
    assert "larger than the limit" in reasons(load(["/dev/zero"], max_file_bytes=1 << 16))[0]


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    big = "---\n".join(NAMESPACE.format(f"n{at}") + f"# {'x' * 1000}\n" for at in range(3000))
    paths = [write(tmp_path / "a.yaml", big), write(tmp_path / "b.json", json.dumps(namespace("z")))]
    loaded = load(
        [*paths, "-"], stdin=io.BytesIO(b"# nothing"), progress=lambda done, total: heard.append((done, total))
    )
    assert heard[-1] == (loaded.bytes, loaded.bytes)
    assert loaded.bytes == sum(Path(path).stat().st_size for path in paths) + len(b"# nothing")
    assert len(heard) >= 4
    assert heard == sorted(heard)
    assert all(done <= total for done, total in heard)


def test_a_50_mb_file_of_many_documents(tmp_path: Path) -> None:
    blob = "x" * 50_000
    part = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{}\n  annotations:\n    note: {}\n"
    path = write(tmp_path / "big.yaml", "---\n".join(part.format(at, blob) for at in range(1000)))
    assert Path(path).stat().st_size > 50_000_000
    heard: list[int] = []
    loaded = load([path], progress=lambda done, total: heard.append(done))
    assert len(loaded.items) == 1000
    assert str(loaded.items[-1].source) == f"{path}:{1 + 999 * 7}"
    assert len(heard) > 40


def test_a_50_mb_list_stays_within_memory(tmp_path: Path) -> None:
    blob = "x" * 50_000
    head = "apiVersion: v1\nkind: List\nitems:\n"
    part = "- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: pod-{}\n    annotations: {{note: {}}}\n"
    path = write(tmp_path / "big.yaml", head + "".join(part.format(at, blob) for at in range(1000)))
    tracemalloc.start()
    try:
        loaded = load([path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(loaded.items) == 1000
    assert str(loaded.items[-1].source) == f"{path}:{4 + 999 * 5}"
    assert peak < 5 * Path(path).stat().st_size


def test_a_50_mb_json_file(tmp_path: Path) -> None:
    pods = [pod(f"pod-{at}", metadata={"annotations": {"note": "x" * 50_000}}) for at in range(1000)]
    path = write(tmp_path / "big.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    loaded = load([path])
    assert len(loaded.items) == 1000
    assert str(loaded.items[-1].source) == f"{path}#/items/999"


def test_a_50_mb_line_is_one_value(tmp_path: Path) -> None:
    path = write(tmp_path / "big.yaml", NAMESPACE.format("a") + "  labels:\n    a: " + "x" * 50_000_000)
    loaded = load([path])
    assert "longer than 63" in reasons(loaded)[0]
    assert len(str(loaded.refused[0].errors[0])) < 600
