"""The question, the answer, and how ends of a packet are named."""

from __future__ import annotations

from typing import Literal

from ovnk_core.errors import OvnkError
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Protocol
from ovnk_core.terms.struct import Value

Verdict = Literal["allow", "drop", "reject", "mixed"]
PathKind = Literal["same-node", "overlay", "vxlan", "external", "host", "multicast"]
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp", "icmp")
ConnectionState = Literal["new", "established", "reply"]


class QuestionError(OvnkError):
    """The question cannot be answered; ``field`` is one of from, to, protocol, port. ``value``: empty where nothing was
    given."""

    is_usage = True

    def __init__(self, field: str, value: str, reason: str) -> None:
        self.field, self.value, self.reason = field, value, reason
        super().__init__(f"{field} {value}: {reason}" if value else f"{field}: {reason}")


class Question(Value, frozen=True, kw_only=True):
    """``source`` and ``target``: a pod by name or an address. ``port`` is None for icmp only."""

    source: NamespacedName | Address
    target: NamespacedName | Address
    protocol: Protocol = "tcp"
    port: int | None = None
    state: ConnectionState = "new"


class Leg(Value, frozen=True, kw_only=True):
    """One hop between places; ``transport``: local, geneve or underlay."""

    source: str
    target: str
    transport: str
    encrypted: bool = False


class Step(Value, frozen=True, kw_only=True):
    """One decision on the way. ``rule`` is the 0-based index of a rule, ``source`` where it is written."""

    stage: str
    verdict: Verdict
    text: str
    object: ObjectRef | None = None
    rule: int | None = None
    source: str = ""


class Answer(Value, frozen=True, kw_only=True):
    """``incomplete`` names objects that could change the verdict but are not built yet."""

    verdict: Verdict
    reason: str
    path: PathKind
    legs: tuple[Leg, ...] = ()
    steps: tuple[Step, ...] = ()
    incomplete: tuple[str, ...] = ()


def parse_question(source: str, target: str, protocol: str = "tcp", port: int | None = None) -> Question:
    """``NS/POD`` or ``IP`` to ``NS/POD[:PORT]`` or ``IP[:PORT]`` (IPv6 with a port in brackets).

    Raises QuestionError naming the field at fault.
    """
    for field, given in (("from", source), ("to", target)):
        if not given:
            raise QuestionError(field, "", "is missing: write a pod as NAMESPACE/NAME, or an address")
    if protocol not in PROTOCOLS:
        raise QuestionError("protocol", protocol, f"must be one of {', '.join(PROTOCOLS)}")
    text, written = _split_port(target)
    if written is not None and port is not None and written != port:
        raise QuestionError("port", str(port), f"contradicts the port in {target}")
    port = written if port is None else port
    if protocol == "icmp" and port is not None:
        raise QuestionError("port", str(port), "icmp has no ports")
    if protocol != "icmp":
        if port is None:
            raise QuestionError("port", "", f"{protocol} needs a port")
        if not PORT_MIN <= port <= PORT_MAX:
            raise QuestionError("port", str(port), f"must be {PORT_MIN} to {PORT_MAX}")
    return Question(source=_party("from", source), target=_party("to", text), protocol=_protocol(protocol), port=port)


def _protocol(text: str) -> Protocol:
    return next(protocol for protocol in PROTOCOLS if protocol == text)


def _split_port(target: str) -> tuple[str, int | None]:
    head, colon, tail = target.rpartition(":")
    if target.startswith("["):
        inner, bracket, rest = target[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise QuestionError("to", target, "write an IPv6 address with a port as [ADDRESS]:PORT")
        return inner, _number(target, rest[1:]) if rest else None
    if not colon or (":" in head and "/" not in target):
        return target, None
    return head, _number(target, tail)


def _number(target: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise QuestionError("to", target, f"{text!r} is not a port")
    return int(text)


def _party(field: str, text: str) -> NamespacedName | Address:
    if "/" in text:
        namespace, _, name = text.partition("/")
        if not namespace or not name or "/" in name:
            raise QuestionError(field, text, "write a pod as NAMESPACE/NAME")
        return NamespacedName(namespace, name)
    try:
        return parse_address(text)
    except ValueError as error:
        raise QuestionError(field, text, f"neither NAMESPACE/NAME nor an address: {error}") from None
