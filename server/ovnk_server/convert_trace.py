"""Questions and answers as messages, without what the caller may not read.

A step names the object that decides. Whoever may not read that object learns that something decides, not what; a step
that names none is about the policies of one end's namespace, or about nodes. A verdict itself is never hidden from
those who may ask.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ovnk_api.v1 import verdict_pb2 as pb

from ovnk_core.errors import SchemaError
from ovnk_core.terms.address import Address
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.port import Protocol
from ovnk_core.trace.question import (
    Answer,
    BackendAnswer,
    Egress,
    Leg,
    LoadBalancing,
    Question,
    RouterAnswer,
    ServiceTarget,
    Step,
    parse_question,
)
from ovnk_core.trace.router import STAGE as ROUTER_STAGE
from ovnk_core.trace.router import definition_ref
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine
from ovnk_server.access import Caller, PermissionDenied
from ovnk_server.convert import reference
from ovnk_server.hearing import put_out

REDACTED = "decided by an object you may not read"
PROTOCOLS: Mapping[int, Protocol] = {
    pb.PROTOCOL_UNSPECIFIED: "tcp",
    pb.PROTOCOL_TCP: "tcp",
    pb.PROTOCOL_UDP: "udp",
    pb.PROTOCOL_SCTP: "sctp",
    pb.PROTOCOL_ICMP: "icmp",
}
PROTOCOL_NUMBERS: Mapping[str, pb.Protocol.ValueType] = {
    "tcp": pb.PROTOCOL_TCP,
    "udp": pb.PROTOCOL_UDP,
    "sctp": pb.PROTOCOL_SCTP,
    "icmp": pb.PROTOCOL_ICMP,
}
_ENGINES: Mapping[int, Engine] = {
    pb.ENGINE_INTENT: "intent",
    pb.ENGINE_FAST: "fast",
    pb.ENGINE_FLOWS: "flows",
    pb.ENGINE_BOTH: "both",
    pb.ENGINE_ALL: "all",
}
_VERDICTS: Mapping[str, pb.Verdict.ValueType] = {
    "allow": pb.VERDICT_ALLOW,
    "drop": pb.VERDICT_DROP,
    "reject": pb.VERDICT_REJECT,
    "mixed": pb.VERDICT_MIXED,
}
_PATHS: Mapping[str, pb.PathKind.ValueType] = {
    "same-node": pb.PATH_KIND_SAME_NODE,
    "overlay": pb.PATH_KIND_OVERLAY,
    "vxlan": pb.PATH_KIND_VXLAN,
    "external": pb.PATH_KIND_EXTERNAL,
    "host": pb.PATH_KIND_HOST,
    "multicast": pb.PATH_KIND_MULTICAST,
}
_TRANSPORTS: Mapping[str, pb.Transport.ValueType] = {
    "local": pb.TRANSPORT_LOCAL,
    "geneve": pb.TRANSPORT_GENEVE,
    "vxlan": pb.TRANSPORT_VXLAN,
    "underlay": pb.TRANSPORT_UNDERLAY,
}
_WRITTEN_AT = re.compile(r"#/[0-9]+/spec/(ingress|egress)/([0-9]+)")
_ANNOTATION_AT = re.compile(r"#/[0-9]+/metadata/annotations/([^/]+)")

SHOWN_STEPS = 5
"""Steps that a reason is made of where it is not the answer's own."""
_OF_SOURCE = ("egress", "egress-firewall")
"""Stages that say nothing of who answers."""

# ------------------------------------------------------------------------------------------- questions


def read_question(message: pb.Question) -> Question:
    """Raises QuestionError, or SchemaError for a protocol there is not."""
    port = message.port if message.HasField("port") else None
    return parse_question(message.source, message.target, read_protocol(message.protocol, "question.protocol"), port)


def read_protocol(number: int, field: str = "protocol") -> Protocol:
    """Raises SchemaError."""
    if number not in PROTOCOLS:
        raise SchemaError("no such protocol", path=field, value=str(number))
    return PROTOCOLS[number]


def read_engine(number: int, default: Engine) -> Engine:
    """Raises SchemaError."""
    if number == pb.ENGINE_UNSPECIFIED:
        return default
    if number not in _ENGINES:
        raise SchemaError("no such engine", path="question.engine", value=str(number))
    return _ENGINES[number]


def check_question(question: Question, scene: Scene, who: Caller) -> None:
    """Whether ``who`` may ask. Raises PermissionDenied with the same words whether or not an end exists.

    A pod or a Service must be in a namespace where the caller may trace its kind, named or by its address. Of the
    addresses in the cluster's own networks that are none of these, only who may trace everywhere is told anything:
    whether somebody has one, too, is a thing to know. One end at least must be what the caller may trace.
    """
    is_own = [_is_own(end, scene, who) for end in (question.source, question.target)]
    if not any(is_own):
        who.require("trace", "Pod", "")


def _is_own(end: NamespacedName | Address | ServiceTarget, scene: Scene, who: Caller) -> bool:
    """Whether an end is what the caller may trace. Raises PermissionDenied for what may not be asked about."""
    if isinstance(end, ServiceTarget):
        who.require("trace", "Service", end.service.namespace)
        return True
    if isinstance(end, NamespacedName):
        who.require("trace", "Pod", end.namespace)
        return True
    kind = "Service" if any(block.contains(end) for block in scene.network.service) else "Pod"
    found = _owner(end, scene)
    if found is not None and who.may("trace", kind, found.namespace):
        return True
    network = scene.network
    is_inside = found is not None or kind == "Service" or network.holds(end) or network.holds_hybrid(end)
    if is_inside and not who.may("trace", kind, ""):
        raise PermissionDenied(f"{who.identity or 'nobody'} may not trace from or to {end}")
    return False


def _owner(address: Address, scene: Scene) -> NamespacedName | None:
    """The pod, or the Service whose cluster IP it is."""
    pod = scene.by_address.get(address)
    return pod.key if pod is not None else scene.doors.owner(address)


# ------------------------------------------------------------------------------------------- answers


class Reader:
    """Writes answers for one caller."""

    def __init__(self, who: Caller) -> None:
        self._sees = who.visible("get")

    def answer(self, found: Answer, scene: Scene, question: Question, revision: int) -> pb.Answer:
        namespaces = _namespaces(scene, question, found.load_balancer)
        hides_backends = found.load_balancer is not None and not self._sees_all(found.load_balancer)
        router = None if hides_backends else self._router(found.egress_router, scene)
        hides_router = found.egress_router is not None and router is None
        egress = None if hides_backends else self._egress(found.egress, scene)
        hides_egress = not hides_backends and self._hides(found.egress)
        steps = [
            _redacted(step)
            if (hides_backends and step.stage not in _OF_SOURCE)
            or (hides_router and step.stage == ROUTER_STAGE)
            or (hides_egress and step.stage == "route")
            else self.step(step, namespaces)
            for step in found.steps
            if not self._is_about_nothing(step)
        ]
        heard = [each for each in found.receivers if self._sees(ObjectRef("Pod", each.namespace, each.name))]
        receivers = [
            pb.Receiver(namespace=each.namespace, name=each.name, node=self._place(each.node, scene)) for each in heard
        ]
        legs = (
            []
            if hides_backends or hides_router or hides_egress
            else self._legs(found, scene, {each.node for each in heard})
        )
        is_redacted = (
            hides_backends
            or hides_router
            or hides_egress
            or (egress is not None and any(not each.node for each in egress.candidates))
            or any(step.is_redacted for step in steps)
            or any(not leg.source or not leg.target for leg in legs)
            or len(heard) < len(found.receivers)
            or any(not each.node for each in receivers)
        )
        texts = list(dict.fromkeys(step.text for step in steps if step.text))
        if len(texts) > SHOWN_STEPS:
            texts[SHOWN_STEPS:] = [f"{len(texts) - SHOWN_STEPS} more steps"]
        return pb.Answer(
            verdict=_VERDICTS[found.verdict],
            # A reason names what steps and legs name.
            reason=("; ".join(texts) or REDACTED) if is_redacted else found.reason,
            path=_PATHS[found.path],
            legs=legs,
            steps=steps,
            incomplete=found.incomplete,
            revision=revision,
            is_redacted=is_redacted,
            receivers=receivers,
            load_balancer=self._balancing(found.load_balancer, scene, hides_reasons=is_redacted),
            egress_router=router,
            egress=egress,
        )

    def _is_about_nothing(self, found: Step) -> bool:
        """That there is no such definition is for who could read it: others are told the same whether there is one."""
        mentions = [ObjectRef(each.kind, each.namespace, each.name) for each in found.mentions]
        return found.stage == ROUTER_STAGE and not all(map(self._sees, mentions))

    def step(self, found: Step, namespaces: Mapping[str, Iterable[str]]) -> pb.Step:
        """``namespaces``: of the ends, by direction."""
        subjects = [found.object] if found.object is not None else _subjects(found.stage, namespaces)
        if not all(map(self._sees, subjects)):
            return _redacted(found)
        text = put_out(found.text, found.mentions, self._sees)
        told = pb.Step(
            stage=found.stage,
            verdict=_VERDICTS[found.verdict],
            text=text,
            field_path=_field_path(found.source),
            rule=found.rule,
            is_redacted=text != found.text,
        )
        if found.object is not None:
            told.object.CopyFrom(reference(found.object))
        return told

    def _legs(self, found: Answer, scene: Scene, heard: Collection[str]) -> list[pb.Leg]:
        """``heard``: nodes of receivers that the caller is told of."""
        is_told = found.path != "multicast"
        return [self._leg(leg, scene) for leg in found.legs if is_told or leg.target in heard]

    def _leg(self, leg: Leg, scene: Scene) -> pb.Leg:
        return pb.Leg(
            source=self._place(leg.source, scene),
            target=self._place(leg.target, scene),
            transport=_TRANSPORTS[leg.transport],
            is_encrypted=leg.is_encrypted,
            protection=leg.protection,
        )

    def _place(self, name: str, scene: Scene) -> str:
        return "" if name in scene.places and not self._sees(ObjectRef("Node", "", name)) else name

    def _router(self, found: RouterAnswer | None, scene: Scene) -> pb.RouterHop | None:
        """What an egress router makes of it, for who may read its pod and its definition."""
        if found is None:
            return None
        pod, network = ObjectRef("Pod", found.pod.namespace, found.pod.name), definition_ref(found.network)
        if not self._sees(pod) or not self._sees(network):
            return None
        return pb.RouterHop(
            pod=reference(pod),
            network=reference(network),
            node=self._place(found.node, scene),
            interface=found.interface,
            source_ip=found.source_ip,
            destination=found.destination,
        )

    def _egress(self, found: Egress | None, scene: Scene) -> pb.Egress | None:
        """How a packet leaves. Who may not read the EgressIP that decides is told that it does, and neither whose
        address it has then nor how many there are; an address of a node goes with the node."""
        if found is None:
            return None
        if self._hides(found):
            return pb.Egress(candidates=[pb.EgressCandidate()])
        told = pb.Egress(egressip=found.egressip)
        for each in found.candidates:
            node = self._place(each.node, scene)
            told.candidates.add(node=node, source_ip=each.source_ip if node or found.egressip else "")
        return told

    def _hides(self, found: Egress | None) -> bool:
        """Whether an EgressIP decides that the caller may not read."""
        name = found.egressip if found is not None else None
        return name is not None and not self._sees(ObjectRef("EgressIP", "", name))

    # ------------------------------------------------------------------ Services

    def _sees_all(self, found: LoadBalancing) -> bool:
        """Whether the caller may read a Service and every pod behind it."""
        return self._sees_service(found) and all(map(self._sees_pod, found.backends))

    def _sees_service(self, found: LoadBalancing) -> bool:
        return self._sees(ObjectRef("Service", found.service.namespace, found.service.name))

    def _sees_pod(self, backend: BackendAnswer) -> bool:
        pod = backend.pod
        return pod is None or self._sees(ObjectRef("Pod", pod.namespace, pod.name))

    def _balancing(self, found: LoadBalancing | None, scene: Scene, *, hides_reasons: bool) -> pb.LoadBalancing | None:
        if found is None or not self._sees_service(found):
            return None
        chosen = [each.target for each in found.backends if each.target == found.chosen and self._sees_pod(each)]
        return pb.LoadBalancing(
            vip=found.vip,
            service=reference(ObjectRef("Service", found.service.namespace, found.service.name)),
            backends=[self._backend(each, scene, hides_reason=hides_reasons) for each in found.backends],
            chosen=chosen[0] if chosen else "",
        )

    def _backend(self, found: BackendAnswer, scene: Scene, *, hides_reason: bool) -> pb.Backend:
        """A reason is told where nothing of the answer is left out: it holds what steps hold."""
        told = pb.Backend(
            verdict=_VERDICTS[found.verdict],
            path=_PATHS[found.path],
            entry=self._place(found.entry, scene),
            reason="" if hides_reason else found.reason,
        )
        is_told = self._sees_pod(found)
        if is_told:
            told.target, told.node = found.target, self._place(found.node, scene)
        if is_told and found.pod is not None:
            told.pod.CopyFrom(reference(ObjectRef("Pod", found.pod.namespace, found.pod.name)))
        told.is_redacted = hides_reason or not is_told or (told.node, told.entry) != (found.node, found.entry)
        return told


def _namespaces(scene: Scene, question: Question, balancing: LoadBalancing | None) -> dict[str, tuple[str, ...]]:
    targets: Iterable[str] = (_namespace(scene, question.target),)
    if balancing is not None:
        targets = {each.pod.namespace if each.pod is not None else "" for each in balancing.backends if each.target}
    return {"egress": (_namespace(scene, question.source),), "ingress": tuple(targets)}


def _namespace(scene: Scene, end: NamespacedName | Address | ServiceTarget) -> str:
    if isinstance(end, ServiceTarget):
        return end.service.namespace
    if isinstance(end, NamespacedName):
        return end.namespace
    found = scene.by_address.get(end)
    return found.key.namespace if found is not None else ""


def _subjects(stage: str, namespaces: Mapping[str, Iterable[str]]) -> list[ObjectRef]:
    """What a step is about that names no object: absent policies of an end, else nodes and the way between them."""
    if stage in namespaces:
        return [ObjectRef("NetworkPolicy", each, "") for each in namespaces[stage]]
    return [ObjectRef("Node", "", "")]


def _redacted(found: Step) -> pb.Step:
    return pb.Step(stage=found.stage, verdict=_VERDICTS[found.verdict], text=REDACTED, is_redacted=True)


def _field_path(source: str) -> str:
    """Where a rule stands in its manifest, of the place it is written at."""
    found: Any = _WRITTEN_AT.search(source)
    if found:
        return f"spec.{found[1]}[{found[2]}]"
    noted: Any = _ANNOTATION_AT.search(source)
    return f'metadata.annotations["{noted[1].replace("~1", "/")}"]' if noted else ""
