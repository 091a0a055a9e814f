"""The question, the answer, and how ends of a packet are named."""

from __future__ import annotations

from typing import Literal

from ovnk_core.errors import Mention, OvnkError
from ovnk_core.features.multicast.verdict import is_judged
from ovnk_core.model.cluster import special_kind
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Protocol
from ovnk_core.terms.struct import Key, Value

Verdict = Literal["allow", "drop", "reject", "mixed"]
PathKind = Literal["same-node", "overlay", "vxlan", "external", "host", "multicast"]
SERVICE = "svc:"
"""What a Service by name begins with."""
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "sctp", "icmp")
ConnectionState = Literal["new", "established", "reply"]


class QuestionError(OvnkError):
    """The question cannot be answered; ``field`` is one of from, to, protocol, port. ``value``: empty where nothing was
    given."""

    is_usage = True

    def __init__(self, field: str, value: str, reason: str) -> None:
        self.field, self.value, self.reason = field, value, reason
        super().__init__(f"{field} {value}: {reason}" if value else f"{field}: {reason}")


class ServiceTarget(Key, frozen=True, cache_hash=True):
    """A Service by name, and which of its ports: a number, a name, or empty for its only one."""

    service: NamespacedName
    port: str = ""

    def __str__(self) -> str:
        return f"svc:{self.service}" + (f":{self.port}" if self.port else "")


class Question(Value, frozen=True, kw_only=True):
    """``source`` and ``target``: a pod by name or an address; a target may be a Service by name. ``port`` is None for
    icmp, where a Service says it, and where a multicast group is the same at every port."""

    source: NamespacedName | Address
    target: NamespacedName | Address | ServiceTarget
    protocol: Protocol = "tcp"
    port: int | None = None
    state: ConnectionState = "new"


class Leg(Value, frozen=True, kw_only=True):
    """One hop between places; ``transport``: local, geneve, vxlan or underlay. ``protection``: why it is encrypted, or
    why not; empty in a cluster without IPsec."""

    source: str
    target: str
    transport: str
    is_encrypted: bool = False
    protection: str = ""


class Step(Value, frozen=True, kw_only=True):
    """One decision on the way. ``rule`` is the 0-based index of a rule, ``source`` where it is written. ``mentions``:
    what ``text`` names beside ``object``."""

    stage: str
    verdict: Verdict
    text: str
    object: ObjectRef | None = None
    rule: int | None = None
    source: str = ""
    mentions: tuple[Mention, ...] = ()


class BackendAnswer(Value, frozen=True, kw_only=True):
    """What happens to connections that a Service sends to one of its endpoints. ``target`` is ADDRESS:PORT, ``node``
    and ``pod`` whose it is where that is known; ``entry``: the node whose gateway chooses it, empty inside the cluster.
    ``target`` empty: that gateway chooses nobody, because no endpoint is for it to choose.
    """

    target: str
    verdict: Verdict
    reason: str
    path: PathKind
    pod: NamespacedName | None = None
    node: str = ""
    entry: str = ""


class LoadBalancing(Value, frozen=True, kw_only=True):
    """A connection to a Service. ``vip`` is ADDRESS:PORT; ``chosen``: the one endpoint, where there is no choice and
    no other outcome. ``backends`` are all outcomes; empty: it is rejected wherever it is asked."""

    vip: str
    service: NamespacedName
    backends: tuple[BackendAnswer, ...] = ()
    chosen: str = ""


class Receiver(Value, frozen=True, kw_only=True):
    """A pod that hears what is sent to a group, if it joined it."""

    namespace: str
    name: str
    node: str


class RouterAnswer(Value, frozen=True, kw_only=True):
    """An egress router that sends a connection on: from ``source_ip``, which ``destination`` (ADDRESS:PORT, or ADDRESS
    without ports) sees, out of ``interface`` of ``pod`` on ``node``. ``network``: the
    definition that says so."""

    pod: NamespacedName
    network: NamespacedName
    node: str
    interface: str
    source_ip: str
    destination: str


class Candidate(Value, frozen=True, kw_only=True):
    """A node that a connection may leave the cluster by, and the source address it has outside."""

    node: str
    source_ip: str


class Egress(Value, frozen=True, kw_only=True):
    """How a connection to outside leaves. ``egressip``: the EgressIP that decides, None where none applies.
    ``candidates``: sorted by address, one of which OVN draws for each connection; empty where nothing leaves."""

    egressip: str | None = None
    candidates: tuple[Candidate, ...] = ()

    @property
    def only(self) -> Candidate | None:
        """The one way out, where there is no choice."""
        return self.candidates[0] if len(self.candidates) == 1 else None


class Answer(Value, frozen=True, kw_only=True):
    """``incomplete`` names objects that could change the verdict but are not built yet. ``receivers``: of a packet to a
    multicast group, by node and name. ``load_balancer``: of a connection to a Service, whose verdict is that of all its
    endpoints, ``mixed`` where they differ. ``egress_router``: who sends it on, where that is one. ``egress``: how what
    a pod or a node sends to an address outside leaves."""

    verdict: Verdict
    reason: str
    path: PathKind
    legs: tuple[Leg, ...] = ()
    steps: tuple[Step, ...] = ()
    incomplete: tuple[str, ...] = ()
    receivers: tuple[Receiver, ...] = ()
    load_balancer: LoadBalancing | None = None
    egress: Egress | None = None
    egress_router: RouterAnswer | None = None


def parse_question(source: str, target: str, protocol: str = "tcp", port: int | None = None) -> Question:
    """``NS/POD`` or ``IP`` to ``NS/POD[:PORT]``, ``IP[:PORT]`` (IPv6 with a port in brackets) or ``svc:NS/NAME[:PORT]``
    (a number or a name).

    Raises QuestionError naming the field at fault.
    """
    for field, given in (("from", source), ("to", target)):
        if not given:
            raise QuestionError(field, "", "is missing: write a pod as NAMESPACE/NAME, or an address")
    if protocol not in PROTOCOLS:
        raise QuestionError("protocol", protocol, f"must be one of {', '.join(PROTOCOLS)}")
    if target.startswith(SERVICE):
        return Question(
            source=_party("from", source),
            target=_service(target, protocol),
            protocol=_protocol(protocol),
            port=port,
        )
    text, written = _split_port(target)
    if written is not None and port is not None and written != port:
        raise QuestionError("port", str(port), f"contradicts the port in {target}")
    port = written if port is None else port
    if protocol == "icmp" and port is not None:
        raise QuestionError("port", str(port), "icmp has no ports")
    party = _party("to", text)
    if protocol != "icmp":
        if port is None and not _is_any_port(party):
            raise QuestionError("port", "", f"{protocol} needs a port")
        if port is not None and not PORT_MIN <= port <= PORT_MAX:
            raise QuestionError("port", str(port), f"must be {PORT_MIN} to {PORT_MAX}")
    return Question(source=_party("from", source), target=party, protocol=_protocol(protocol), port=port)


def _is_any_port(target: NamespacedName | Address) -> bool:
    """Whether the answer is the same for every port: a multicast group that only namespaces have a say in."""
    return isinstance(target, Address) and special_kind(target) == "multicast" and is_judged(target)


def _service(text: str, protocol: str) -> ServiceTarget:
    namespace, _, rest = text.removeprefix(SERVICE).partition("/")
    name, colon, port = rest.partition(":")
    if not namespace or not name or "/" in rest or (colon and not port):
        raise QuestionError("to", text, "write a Service as svc:NAMESPACE/NAME:PORT")
    if protocol == "icmp":
        raise QuestionError("protocol", protocol, "a Service is reached by tcp, udp or sctp")
    return ServiceTarget(NamespacedName(namespace, name), port)


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
