"""What one caller may hear: lists, plans and texts that name objects pass here before they become part of an answer.

Lists and plans leave out objects that the caller may not read, and say that they did. The core says what is wrong with
an object to whoever may know everything; an error lists the others it mentions, and those the caller may not know are
put out of its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovnk_core.errors import Mention, ObjectError
from ovnk_core.keeper.proposal import Result
from ovnk_core.terms.name import ObjectRef
from ovnk_server.access import Caller


def put_out(text: str, mentions: Iterable[Mention], sees: Callable[[ObjectRef], bool]) -> str:
    """A text without the objects that it mentions and its reader does not see."""
    # The longest first: ``node n1`` is the beginning of ``node n10``.
    for each in sorted(mentions, key=lambda each: -len(each.text)):
        if not sees(ObjectRef(each.kind, each.namespace, each.name)):
            text = text.replace(each.text, f"a {each.word} that you may not read")
    return text


class Hearing:
    """One caller's, for one answer."""

    def __init__(self, who: Caller) -> None:
        self._may = who.visible("get"), who.visible("list"), who.visible("watch")

    def sees(self, ref: ObjectRef) -> bool:
        """Whether the caller may know of an object: a watch begins with what a list holds."""
        return any(may(ref) for may in self._may)

    @property
    def sees_nodes(self) -> bool:
        """Whether the caller may know of nodes."""
        return self.sees(ObjectRef("Node", "", ""))

    def text(self, error: ObjectError) -> str:
        """What is wrong with an object that the reader has the name of."""
        return self.told(error.text, error.mentions)

    def reasons(self, errors: Iterable[ObjectError]) -> str:
        """What is wrong with an object, in one text; where in a request it stood is of no use any more."""
        return "; ".join(self.told(str(error.at("")), error.mentions) for error in errors)

    def told(self, text: str, mentions: Iterable[Mention]) -> str:
        """A text without the objects that it mentions and the caller may not know of."""
        return put_out(text, mentions, self.sees)

    def results(self, found: Iterable[Result], named: Iterable[ObjectRef]) -> tuple[tuple[Result, ...], bool]:
        """What becomes of objects that the caller ``named`` or may know of, and whether there are others."""
        everything, asked = tuple(found), frozenset(named)
        told = tuple(each for each in everything if each.ref in asked or self.sees(each.ref))
        return told, len(told) < len(everything)
