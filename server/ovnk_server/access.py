"""Who is calling, and what they may do.

The interceptor finds out who calls and leaves a ``Caller`` for the handler; services ask it before they answer. What is
not allowed by a rule is denied, and whether an object exists is not told to those who may not read it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal, Protocol, get_args

from ovnk_core.errors import OvnkError
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

Verb = Literal["get", "list", "watch", "apply", "delete", "sync", "trace", "northbound", "dns", "admin"]
"""``northbound`` reads rows, flows and what is pending; ``dns`` pushes answers; ``admin`` sees all of the service."""
VERBS: tuple[Verb, ...] = get_args(Verb)


class PermissionDenied(OvnkError):
    """Not allowed, whether or not the object exists."""


class Policy(Protocol):
    """What identities may do. ``namespace`` is empty for kinds without one; ``kind`` empty: something of no kind."""

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str) -> bool: ...


class Caller(Value, frozen=True, kw_only=True):
    """One identity and the policy in force when the call began."""

    identity: str
    policy: Policy

    def may(self, verb: Verb, kind: str = "", namespace: str = "") -> bool:
        return self.policy.allows(self.identity, verb, kind, namespace)

    def require(self, verb: Verb, kind: str = "", namespace: str = "") -> None:
        """Raises PermissionDenied with the same words for what exists and what does not."""
        if not self.may(verb, kind, namespace):
            what = f"{kind} in {namespace}" if namespace else kind or "this"
            raise PermissionDenied(f"{self.identity or 'nobody'} may not {verb} {what}")

    def visible(self, verb: Verb) -> Callable[[ObjectRef], bool]:
        """Which objects the caller may know of."""
        allowed: dict[tuple[str, str], bool] = {}

        def sees(ref: ObjectRef) -> bool:
            key = (ref.kind, ref.namespace)
            if key not in allowed:
                allowed[key] = self.may(verb, ref.kind, ref.namespace)
            return allowed[key]

        return sees


class AllowAll:
    """The policy of a socket whose users may do everything, and of tests."""

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str) -> bool:
        return True


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that is being served. Raises PermissionDenied outside of one."""
    found = _caller.get(None)
    if found is None:
        raise PermissionDenied("nobody is calling")
    return found


def enter(who: Caller) -> None:
    """For the interceptor: from here on, ``who`` is calling. Holds for the current task."""
    _caller.set(who)
