"""Cutting messages out of a byte stream: wherever the chunks fall, the same messages come out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.northbound.native.jsonrpc import Framer, ProtocolError, decode_envelope

# Letters that decide where a message ends, and one of two bytes.
TEXTS = st.text(alphabet='{}"\\[]:, aü\n', max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), min_size=1, max_size=4)


@given(MESSAGES, st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=8), st.booleans())
def test_any_chunking_gives_the_same_messages(
    messages: list[dict[str, object]], sizes: list[int], is_ascii: bool
) -> None:
    stream = b"".join(json.dumps(message, ensure_ascii=is_ascii).encode() for message in messages)
    framer, found, at, turn = Framer(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += framer.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [json.loads(message) for message in found] == messages


@given(MESSAGES)
def test_one_chunk_with_white_space_between_messages(messages: list[dict[str, object]]) -> None:
    stream = " \n".join(json.dumps(message) for message in messages).encode() + b"\n"
    assert [json.loads(message) for message in Framer().feed(stream)] == messages


def test_unfinished_message_is_kept() -> None:
    framer = Framer()
    assert framer.feed(b'{"a": "}"') == []
    assert framer.feed(b"}{") == [b'{"a": "}"}']
    assert framer.feed(b"}") == [b"{}"]


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400", b"[1]", b"null", b"}", b'"{"'])
def test_garbage_is_a_protocol_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        Framer().feed(garbage)


@pytest.mark.parametrize(
    "garbage", [b"{1}", b'{"id": }', b'{"method": 5}', b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"]
)
def test_malformed_message_is_a_protocol_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_envelope(garbage)


@given(st.binary(max_size=60))
def test_bytes_never_do_anything_else(data: bytes) -> None:
    try:
        for message in Framer().feed(data):
            decode_envelope(message)
    except ProtocolError:
        pass
