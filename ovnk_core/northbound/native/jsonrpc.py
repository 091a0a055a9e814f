"""JSON-RPC 1.0 messages on a byte stream that has no separators.

A message ends where its braces balance. ``Framer`` finds that place chunk by chunk with a handful of C-speed passes
(about 1 ms per MiB), so a message of 100 MiB is never scanned twice and never parsed half. Decoding is in two steps:
the envelope leaves ``params`` and ``result`` as raw bytes, and their reader decodes row by row, giving the loop a turn
every few milliseconds. A worker thread would not help here: the decoder holds the interpreter lock throughout.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_MESSAGE_BYTES = 1 << 30
_STRUCTURE = re.compile(rb'["{}]')
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'"{}')
_NULL = msgspec.Raw(b"null")


class ProtocolError(Exception):
    """The peer does not speak JSON-RPC; the connection cannot be used any more."""


class Envelope(msgspec.Struct):
    """A request (method and id), a notification (method, id null) or a reply (no method)."""

    id: Any = None
    method: str | None = None
    params: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL
    error: Any = None


_ENVELOPE = msgspec.json.Decoder(Envelope)


def decode_envelope(message: bytes) -> Envelope:
    """Raises ProtocolError."""
    try:
        return _ENVELOPE.decode(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"malformed message: {error}") from error


def encode_message(message: dict[str, Any]) -> bytes:
    """Raises UnicodeEncodeError on a lone surrogate."""
    return msgspec.json.encode(message)


class Framer:
    """Bytes in, whole messages out. Keeps the tail of an unfinished message."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that ``chunk`` completes, in order. Raises ProtocolError."""
        messages: list[bytes] = []
        while chunk:
            if not self._depth:
                chunk = chunk.lstrip()
                if not chunk:
                    break
                if chunk[:1] != b"{":
                    raise ProtocolError(f"a message does not start with a brace: {chunk[:40]!r}")
            end = self._scan(chunk)
            if end < 0:
                self._keep(chunk)
                break
            self._keep(chunk[:end])
            messages.append(b"".join(self._parts))
            self._parts, self._size = [], 0
            chunk = chunk[end:]
        return messages

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message exceeds {MAX_MESSAGE_BYTES} bytes")

    def _scan(self, chunk: bytes) -> int:
        """Advance over ``chunk``; the offset after the brace that ends the message, or -1 when it goes on."""
        plain = chunk
        was_escaped = self._is_escaped
        if was_escaped:
            plain = b"_" + plain[1:]
        is_escaped = False
        if b"\\" in plain:
            plain = _ESCAPED.sub(b"__", plain)
            is_escaped = plain.endswith(b"\\")
        # Dropping two adjacent quotes never changes which side of a quote any brace stands on.
        marks = plain.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
        depth, is_in_text = self._depth, self._is_in_text
        for mark in marks:
            if mark == 0x22:
                is_in_text = not is_in_text
            elif is_in_text:
                continue
            elif mark == 0x7B:
                depth += 1
            else:
                depth -= 1
                if not depth:
                    return self._locate(plain)
        self._depth, self._is_in_text, self._is_escaped = depth, is_in_text, is_escaped
        return -1

    def _locate(self, plain: bytes) -> int:
        depth, is_in_text = self._depth, self._is_in_text
        for found in _STRUCTURE.finditer(plain):
            mark = found[0]
            if mark == b'"':
                is_in_text = not is_in_text
            elif is_in_text:
                continue
            elif mark == b"{":
                depth += 1
            else:
                depth -= 1
                if not depth:
                    self._depth, self._is_in_text, self._is_escaped = 0, False, False
                    return found.end()
        raise AssertionError("both scans see the same braces")
