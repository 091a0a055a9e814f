"""What the service itself refuses, before a handler is asked.

OvnkError
├─ Unauthenticated     the connection says nothing, or too much, about who calls
├─ NotReady            starting, stopping or failed; try again
├─ ReadOnly            this server takes no changes
├─ TooManyCalls        one identity begins more calls than it may
├─ TooLarge            a message above the method's limit
├─ Malformed           bytes that are not the message they should be
├─ StreamEnded         another stream began for the same source
└─ PolicyChanged       a stream outlived its caller's permission
"""

from __future__ import annotations

from ovnk_core.errors import OvnkError
from ovnk_server.access import PermissionDenied


class Unauthenticated(OvnkError):
    """Who calls cannot be told."""


class NotReady(OvnkError):
    """The server cannot answer now; ``retry_after_s`` says when to ask again."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ReadOnly(OvnkError):
    """This server takes no changes."""


class TooManyCalls(OvnkError):
    """One identity begins more calls than it may."""

    def __init__(self, identity: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{identity} begins more calls than it may (limits.calls_per_second)")


class TooLarge(OvnkError):
    """A message above the method's limit."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the message has {size_bytes:,} bytes; this method takes at most {limit_bytes:,}")


class Malformed(OvnkError):
    """Bytes that are not the message they should be."""


class StreamEnded(OvnkError):
    """Another stream began for the same source. To try again at once would only end that one."""


class PolicyChanged(PermissionDenied):
    """A stream outlived its caller's permission."""
