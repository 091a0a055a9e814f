"""What one caller may hear: every list, text and plan passes here before it becomes part of an answer.

Lists and plans leave out objects that the caller may not read, and say that they did. Texts are written by the core for
whoever may know everything, so a name in them that is not the caller's to know is put out afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ovnk_wire import find_kind

from ovnk_core.errors import ObjectError
from ovnk_core.keeper.document import object_key
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Result
from ovnk_core.terms.name import ObjectRef
from ovnk_server.access import Caller

_NAMED = re.compile(
    r"\b(?P<kind>pod|node|namespace|NetworkPolicy|EgressFirewall|Service|EndpointSlice|Endpoints) "
    r"(?:(?P<namespace>[a-z0-9][-a-z0-9]*)/)?(?P<name>[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)(?![-/\w])"
)
"""An object as sentences of the core name it: ``pod team-a/web``, ``node n1``."""


class Hearing:
    """One caller's, for one answer."""

    def __init__(self, keeper: Keeper, who: Caller) -> None:
        self._keeper, self._may_get, self._may_list = keeper, who.visible("get"), who.visible("list")

    def sees(self, ref: ObjectRef) -> bool:
        """Whether the caller may know of an object."""
        return self._may_get(ref) or self._may_list(ref)

    def text(self, text: str) -> str:
        """A sentence of the core, without names that the caller may not know."""
        return _NAMED.sub(self._told, text)

    def _told(self, found: re.Match[str]) -> str:
        kind = find_kind(found["kind"])
        assert kind is not None
        ref = ObjectRef(kind.name, found["namespace"] or "", found["name"])
        # Without a slash it may be any word; that it is a name shows in that there is such an object.
        is_name = bool(ref.namespace) or self._keeper.history.get(object_key(ref)) is not None
        if not is_name or kind.is_namespaced is not bool(ref.namespace) or self.sees(ref):
            return found[0]
        return f"{found['kind']} (one you may not read)"

    def reasons(self, errors: Iterable[ObjectError]) -> str:
        """What is wrong with an object, in one text; where in a request it stood is of no use any more."""
        return "; ".join(self.text(str(error.at(""))) for error in errors)

    def results(self, found: Iterable[Result], named: Iterable[ObjectRef]) -> tuple[tuple[Result, ...], bool]:
        """What becomes of objects that the caller ``named`` or may know of, and whether there are others."""
        everything, asked = tuple(found), frozenset(named)
        told = tuple(each for each in everything if each.ref in asked or self.sees(each.ref))
        return told, len(told) < len(everything)
