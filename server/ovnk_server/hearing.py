"""What one caller may hear: lists, plans and texts that name objects pass here before they become part of an answer.

Lists and plans leave out objects that the caller may not read, and say that they did. The core says what is wrong with
an object to whoever may know everything; an error lists the others it mentions, and those the caller may not know are
put out of its text.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.errors import ObjectError
from ovnk_core.keeper.proposal import Result
from ovnk_core.terms.name import ObjectRef
from ovnk_server.access import Caller


class Hearing:
    """One caller's, for one answer."""

    def __init__(self, who: Caller) -> None:
        self._may_get, self._may_list = who.visible("get"), who.visible("list")

    def sees(self, ref: ObjectRef) -> bool:
        """Whether the caller may know of an object."""
        return self._may_get(ref) or self._may_list(ref)

    def text(self, error: ObjectError) -> str:
        """What is wrong with an object that the reader has the name of."""
        return self._put_out(error.text, error)

    def reasons(self, errors: Iterable[ObjectError]) -> str:
        """What is wrong with an object, in one text; where in a request it stood is of no use any more."""
        return "; ".join(self._put_out(str(error.at("")), error) for error in errors)

    def _put_out(self, text: str, error: ObjectError) -> str:
        for each in error.mentions:
            if not self.sees(ObjectRef(each.kind, each.namespace, each.name)):
                text = text.replace(each.text, f"a {each.word} that you may not read")
        return text

    def results(self, found: Iterable[Result], named: Iterable[ObjectRef]) -> tuple[tuple[Result, ...], bool]:
        """What becomes of objects that the caller ``named`` or may know of, and whether there are others."""
        everything, asked = tuple(found), frozenset(named)
        told = tuple(each for each in everything if each.ref in asked or self.sees(each.ref))
        return told, len(told) < len(everything)
