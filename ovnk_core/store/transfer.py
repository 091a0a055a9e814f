"""A store as one JSON document, and what is wrong with a store.

The document::

    {"format": "ovnk-store", "version": 1, "revision": 812,
     "items": [{"space": "object", "kind": "Pod", "namespace": "shop", "name": "web",
                "created": 14, "modified": 810, "value": {...}}, ...]}

holds the state at its revision: accepted objects, refused ones, decisions, request ids; not how it came about, and not
whose turn it was: to a northbound an imported state is another store, which must be told to take it over.
Items are in key order. ``value`` is the JSON that is kept; where writing it out would not give the same bytes back,
``base64`` holds the bytes instead. So an export is the same for the same state, and an import is exact.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from ovnk_core.errors import GuardError, StoreCorrupt
from ovnk_core.store.entry import SPACES, Base, Change, Entry, Space, Stored, StoreKey
from ovnk_core.store.port import Contents, Log
from ovnk_core.store.replay import replay

Revision = Annotated[int, msgspec.Meta(ge=1)]


class _Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    space: Space
    kind: str
    namespace: str
    name: str
    created: Revision
    modified: Revision
    value: Any = msgspec.UNSET
    base64: str | msgspec.UnsetType = msgspec.UNSET


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["ovnk-store"]
    version: Literal[1]
    revision: Annotated[int, msgspec.Meta(ge=0)]
    items: list[_Item]


def export_state(contents: Contents) -> dict[str, Any]:
    """What is in force at the end of the log -> the document, as plain dicts and lists. Raises StoreCorrupt."""
    state = replay(contents.base, contents.entries)
    items = [_item(key, state.items[key]) for key in sorted(state.items) if key.space != "meta"]
    document = _Document(format="ovnk-store", version=1, revision=state.revision, items=items)
    exported: dict[str, Any] = msgspec.to_builtins(document)
    return exported


def _item(key: StoreKey, stored: Stored) -> _Item:
    value, raw = _json(stored.value), base64.b64encode(stored.value).decode()
    return _Item(
        space=key.space,
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        created=stored.created,
        modified=stored.modified,
        value=value,
        base64=raw if value is msgspec.UNSET else msgspec.UNSET,
    )


def _json(value: bytes) -> Any:
    """The JSON that ``value`` is, if writing it gives ``value`` back; else unset."""
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.UNSET
    return decoded if msgspec.json.encode(decoded) == value else msgspec.UNSET


def import_state(document: object) -> Base:
    """The document -> every item at its revision. Raises StoreCorrupt, which says what is wrong and where."""
    try:
        read = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise StoreCorrupt(f"not an export of a store: {error}") from error
    items: dict[StoreKey, Stored] = {}
    for index, item in enumerate(read.items):
        key = StoreKey(item.space, item.kind, item.namespace, item.name)
        if not item.created <= item.modified <= read.revision or key in items:
            why = "comes twice" if key in items else "created, modified and the document's revision are out of order"
            raise StoreCorrupt(f"not an export of a store: $.items[{index}]: {key}: {why}")
        items[key] = Stored(value=_bytes(item, f"$.items[{index}]"), created=item.created, modified=item.modified)
    return Base(revision=read.revision, items=items)


def _bytes(item: _Item, where: str) -> bytes:
    if (item.value is msgspec.UNSET) == (item.base64 is msgspec.UNSET):
        raise StoreCorrupt(f"not an export of a store: {where}: exactly one of value and base64")
    if isinstance(item.base64, str):
        try:
            return base64.b64decode(item.base64, validate=True)
        except binascii.Error as error:
            raise StoreCorrupt(f"not an export of a store: {where}.base64: {error}") from error
    return msgspec.json.encode(item.value)


async def restore(log: Log, contents: Contents, base: Base, *, may_replace: bool = False, entry_id: str = "") -> int:
    """Make ``base`` the state of ``log``, which is open and holds ``contents`` -> the revision it has then.

    An empty log goes on from the revision of ``base``: what clients remember of revisions stays true. One that holds
    something is changed by one entry, and only with ``may_replace``; without it GuardError. Raises as ``Log.append``.
    """
    state = replay(contents.base, contents.entries)
    if not state.revision:
        await log.compact(base.revision, dict(base.items))
        return base.revision
    if not may_replace:
        raise GuardError(f"{log.address}: holds {len(state.items)} items at revision {state.revision}; not replaced")
    changes = tuple(_difference(state, base))
    if changes:
        await log.append([Entry(revision=state.revision + 1, changes=changes, author="import", id=entry_id)])
    return state.revision + bool(changes)


def _difference(state: Base, wanted: Base) -> Iterator[Change]:
    for key in sorted(state.items.keys() | wanted.items.keys()):
        before, after = state.items.get(key), wanted.items.get(key)
        if after is None or before is None or before.value != after.value:
            yield Change(key=key, value=after.value if after else None)


def verify(contents: Contents) -> list[str]:
    """What is wrong with a store that could be opened, one line each; empty: nothing. O(everything)."""
    return [*_base_problems(contents.base), *_entry_problems(contents)]


def _base_problems(base: Base) -> Iterator[str]:
    for key, stored in base.items.items():
        if not 0 < stored.created <= stored.modified <= base.revision:
            yield (
                f"{key}: created at {stored.created}, changed at {stored.modified}: out of order in a base of revision"
                f" {base.revision}"
            )
        yield from _value_problems(key, stored.value, f"base, {key}")


def _entry_problems(contents: Contents) -> Iterator[str]:
    known = set(contents.base.items)
    revision, ids = contents.base.revision, dict[str, int]()
    for entry in contents.entries:
        where = f"revision {entry.revision}"
        if entry.revision != revision + 1:
            yield f"{where}: follows {revision}"
        revision = entry.revision
        if entry.id and (other := ids.setdefault(entry.id, revision)) != revision:
            yield f"{where}: has the id of revision {other} ({entry.id})"
        changed: set[StoreKey] = set()
        for change in entry.changes:
            if change.key in changed:
                yield f"{where}: {change.key} changes twice"
            changed.add(change.key)
            if change.value is None:
                if change.key not in known:
                    yield f"{where}: {change.key} goes, but was not there"
                known.discard(change.key)
            else:
                known.add(change.key)
                yield from _value_problems(change.key, change.value, f"{where}, {change.key}")


def _value_problems(key: StoreKey, value: bytes, where: str) -> Iterator[str]:
    if key.space not in SPACES:
        yield f"{where}: unknown space"
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield f"{where}: the value is not JSON: {error}"
