"""A blocking JSON-RPC connection to an OVSDB or unixctl socket, for tests only.

It shares no code with the drivers under test: a bug there must not hide itself here.
"""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self


class WireError(RuntimeError):
    """The server answered with an error, or closed the connection."""


class Wire:
    """One connection. ``database`` is the default of ``transact`` and ``select``."""

    def __init__(self, path: str, database: str = "", *, timeout_s: float = 30.0) -> None:
        self.database, self._sent, self._buffer, self._pending = database, 0, "", b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._socket.connect(path)

    @staticmethod
    def answers(path: str) -> bool:
        """Whether something listens on the unix socket ``path``."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(path)
        except OSError:
            return False
        return True

    def call(self, method: str, *params: Any) -> Any:
        """One request -> its result. Raises WireError (an error reply, or the connection closed)."""
        self._sent += 1
        self._socket.sendall(json.dumps({"id": self._sent, "method": method, "params": params}).encode())
        while True:
            message = self._message()
            if message.get("method") == "echo":
                reply = {"id": message["id"], "result": message["params"], "error": None}
                self._socket.sendall(json.dumps(reply).encode())
            elif message.get("id") == self._sent:
                if message.get("error"):
                    raise WireError(str(message["error"]))
                return message.get("result")

    def transact(self, *operations: dict[str, Any], timeout_s: float | None = None) -> list[Any]:
        """Raises WireError when any operation, or the commit, was refused."""
        if timeout_s is not None:
            self._socket.settimeout(timeout_s)
        results = self.call("transact", self.database, *operations)
        for result in results:
            if result is not None and result.get("error"):
                raise WireError(f"{result['error']}: {result.get('details', '')}")
        return list(results)

    def select(self, table: str, where: list[Any] | None = None, columns: list[str] | None = None) -> list[Any]:
        """Rows in raw RFC 7047 JSON."""
        query: dict[str, Any] = {"op": "select", "table": table, "where": where or []}
        if columns:
            query["columns"] = columns
        return list(self.transact(query)[0]["rows"])

    def _message(self) -> dict[str, Any]:
        decoder = json.JSONDecoder()
        while True:
            if self._buffer:
                try:
                    message, end = decoder.raw_decode(self._buffer)
                    self._buffer = self._buffer[end:].lstrip()
                    return dict(message)
                except ValueError:
                    pass
            chunk = self._socket.recv(1 << 20)
            if not chunk:
                raise WireError("the server closed the connection")
            self._pending += chunk
            text = self._pending.decode(errors="ignore")
            self._pending = self._pending[len(text.encode()) :]
            self._buffer = (self._buffer + text).lstrip()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
