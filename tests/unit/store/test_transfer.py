"""Export, import and verify: exact, stable, and precise about what is wrong."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ovnk_core.errors import StoreCorrupt
from ovnk_core.store.entry import SPACES, Base, Change, Entry, Stored, StoreKey
from ovnk_core.store.port import Contents
from ovnk_core.store.replay import replay
from ovnk_core.store.transfer import export_state, import_state, verify
from tests.kit.store import drop, entry, key, put, random_entry

VALUES = [
    b'{"kind":"Pod","n":[1,2.5,null,true,"\xc3\xa4"]}',
    b"null",
    b'""',
    b'{"b":1,"a":2}',
    b'{ "spaced": 1 }',
    b"123456789012345678901234567890",
    b"1.0e400",
    b"\xff\x00",
    b"",
    b'{"a":1,"a":2}',
]


def contents(*entries: Entry, base: Base | None = None) -> Contents:
    return Contents(base=base or Base(), entries=entries)


def test_the_document_is_as_documented() -> None:
    made = contents(entry(1, put("web", '{"x":1}'), put("raw", b"\xff")), entry(2, drop("gone"), put("web", '{"x":2}')))
    where = {"space": "object", "kind": "Pod", "namespace": "shop"}
    assert export_state(made) == {
        "format": "ovnk-store",
        "version": 1,
        "revision": 2,
        "items": [
            {**where, "name": "raw", "created": 1, "modified": 1, "base64": "/w=="},
            {**where, "name": "web", "created": 1, "modified": 2, "value": {"x": 2}},
        ],
    }


@pytest.mark.parametrize("value", VALUES)
def test_every_value_survives_byte_by_byte(value: bytes) -> None:
    document = json.loads(json.dumps(export_state(contents(entry(1, put("p", value))))))
    assert import_state(document).items[key("p")].value == value


def test_a_random_history_survives_and_exports_alike() -> None:
    chance = random.Random(11)
    made = [random_entry(chance, revision) for revision in range(1, 80)]
    whole = replay(Base(), made)
    # Whose turn it was is not part of the state.
    kept = {key: stored for key, stored in whole.items.items() if key.space != "meta"}
    state = Base(revision=whole.revision, items=kept)
    assert len(kept) < len(whole.items)
    document = export_state(contents(*made))
    assert import_state(json.loads(json.dumps(document))) == state
    moved = replay(Base(), made[:40])
    assert json.dumps(export_state(contents(*made[40:], base=moved))) == json.dumps(document)


def item(**changed: Any) -> dict[str, Any]:
    made = {"space": "object", "kind": "Pod", "namespace": "s", "name": "n", "created": 1, "modified": 2, "value": {}}
    return {name: value for name, value in (made | changed).items() if value != "absent"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "object"),
        ({"format": "other", "version": 1, "revision": 1, "items": []}, "format"),
        ({"format": "ovnk-store", "version": 2, "revision": 1, "items": []}, "version"),
        ({"format": "ovnk-store", "version": 1, "revision": -1, "items": []}, "revision"),
        ({"format": "ovnk-store", "version": 1, "revision": 1}, "items"),
        (item(space="nowhere"), r"\$.items\[0\].space"),
        (item(created=0), r"\$.items\[0\].created"),
        (item(created=3), "out of order"),
        (item(modified=4), "out of order"),
        (item(name="absent"), "name"),
        (item(extra=1), "extra"),
        (item(base64="AA=="), "exactly one"),
        (item(value="absent"), "exactly one"),
        (item(value="absent", base64="?"), "base64"),
    ],
)
def test_what_is_no_export_is_refused_with_a_place(document: Any, says: str) -> None:
    if "space" in document:
        document = {"format": "ovnk-store", "version": 1, "revision": 3, "items": [document]}
    with pytest.raises(StoreCorrupt, match=says):
        import_state(document)


def test_an_item_that_comes_twice_is_refused() -> None:
    with pytest.raises(StoreCorrupt, match=r"\$.items\[1\]: object/Pod/s/n: comes twice"):
        import_state({"format": "ovnk-store", "version": 1, "revision": 3, "items": [item(), item()]})


def test_verify_is_silent_about_a_sound_store() -> None:
    base = Base(revision=2, items={key("a"): Stored(value=b"{}", created=1, modified=2)})
    assert verify(contents(entry(3, drop("a")), entry(4, put("a", "1")), base=base)) == []


def test_verify_names_everything_that_is_wrong() -> None:
    nowhere = StoreKey("nowhere", "k", "", "n")  # type: ignore[arg-type]
    base = Base(revision=2, items={key("late"): Stored(value=b"{}", created=1, modified=3)})
    problems = verify(
        contents(
            entry(3, put("a", "{"), id="same"),
            entry(5, drop("b"), id="same"),
            entry(6, put("c", "1"), put("c", "2")),
            entry(7, Change(key=nowhere, value=b"1")),
            base=base,
        )
    )
    wanted = [
        "object/Pod/shop/late: created at 1, changed at 3",
        "revision 3, object/Pod/shop/a: the value is not JSON",
        "revision 5: follows 3",
        "revision 5: has the id of revision 3 (same)",
        "revision 5: object/Pod/shop/b goes, but was not there",
        "revision 6: object/Pod/shop/c changes twice",
        "revision 7, nowhere/k//n: unknown space",
    ]
    assert len(problems) == len(wanted)
    for problem, start in zip(problems, wanted, strict=True):
        assert problem.startswith(start)


def test_spaces_are_what_the_type_says() -> None:
    assert len(set(SPACES)) == 5
