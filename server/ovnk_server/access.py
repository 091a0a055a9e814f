"""Who is calling, and what they may do.

The interceptor finds out who calls and leaves a ``Caller`` for the handler; services ask it before they answer. What is
not allowed by a rule is denied, and whether an object exists is not told to those who may not read it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal, Protocol, get_args

from ovnk_wire import KINDS

from ovnk_core.errors import OvnkError
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

Verb = Literal[
    "get", "list", "watch", "apply", "delete", "sync", "trace", "northbound", "dns", "sign", "rotate", "egress", "admin"
]
"""``northbound`` reads rows, flows and what is pending; ``dns`` pushes answers; ``sign`` asks for certificates of
nodes, ``rotate`` for the next authority; ``egress`` reports and drains nodes, and rebalances egress IPs; ``admin`` sees
all of the service."""
VERBS: tuple[Verb, ...] = get_args(Verb)
_NOUNS = frozenset(("northbound", "dns", "egress", "admin"))
"""Verbs that are no words for doing."""


class PermissionDenied(OvnkError):
    """Not allowed, whether or not the object exists."""


class Policy(Protocol):
    """What identities may do. ``namespace`` is empty for kinds without one; ``kind`` empty: something of no kind;
    ``source`` is that of a ``sync``."""

    def allows(self, identity: str, verb: Verb, kind: str, namespace: str, source: str = "") -> bool: ...

    def names(self, identity: str, source: str = "") -> bool:
        """Whether any rule is about the identity; with a ``source``, one that lets it state something as that."""
        ...


class Caller(Value, frozen=True, kw_only=True):
    """One identity and the policy in force when the call began."""

    identity: str
    policy: Policy

    def may(self, verb: Verb, kind: str = "", namespace: str = "", source: str = "") -> bool:
        return self.policy.allows(self.identity, verb, kind, namespace, source)

    def require(self, verb: Verb, kind: str = "", namespace: str = "", source: str = "") -> None:
        """Raises PermissionDenied with the same words for what exists and what does not."""
        if not self.may(verb, kind, namespace, source):
            what = f"{kind} in {namespace}" if namespace else kind or "this"
            act = f"use the verb {verb} on" if verb in _NOUNS else verb
            raise PermissionDenied(f"{self.identity or 'nobody'} may not {act} {what}")

    def require_delete(self, ref: ObjectRef) -> None:
        """A namespace takes along what is in it: by kind and not by what is there, so that nobody learns what is
        there. Raises PermissionDenied."""
        self.require("delete", ref.kind, ref.namespace)
        if ref.kind == "Namespace":
            for kind in KINDS:
                if kind.is_namespaced:
                    self.require("delete", kind.name, ref.name)

    def require_rule(self) -> None:
        """Whoever no rule names has nothing to do here. Raises PermissionDenied."""
        if not self.policy.names(self.identity):
            raise PermissionDenied(f"{self.identity or 'nobody'} is named by no rule")

    def visible(self, verb: Verb) -> Callable[[ObjectRef], bool]:
        """Which objects the caller may know of."""
        allowed: dict[tuple[str, str], bool] = {}

        def sees(ref: ObjectRef) -> bool:
            key = (ref.kind, ref.namespace)
            if key not in allowed:
                allowed[key] = self.may(verb, ref.kind, ref.namespace)
            return allowed[key]

        return sees


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
