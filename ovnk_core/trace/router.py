"""What becomes of a packet that OVN has brought to a pod with secondary networks: an egress router sends it on.

OVN ends at the pod, so the same is said after the answer of every engine. The last leg leaves the node by the pod's
second interface: no NetworkPolicy, egress firewall or egress IP sees it.
"""

from __future__ import annotations

from msgspec.structs import replace

from ovnk_core.errors import Mention
from ovnk_core.features.egress_router.plan import INNER, RouterPlan, redirect_of
from ovnk_core.features.ipsec.verdict import judge
from ovnk_core.features.services.endpoints import Target
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.egress_router import Redirect
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.trace.question import Answer, Leg, Question, RouterAnswer, Step, Verdict
from ovnk_core.trace.scene import Ends, Scene
from ovnk_core.trace.way import Way

STAGE = "egress-router"


def forwarded(scene: Scene, question: Question, ends: Ends, answer: Answer, *, way: Way) -> Answer:
    """An answer about a packet to a pod, and what the pod does with it if it is an egress router (15.12)."""
    pod = ends.target.endpoint
    if answer.verdict != "allow" or question.state != "new" or pod is None:
        return answer
    if missing := scene.missing_network(pod.key):
        text = f"pod {pod.key} names the network {missing}, which is not declared: until it is, Multus starts no "
        text += "container; answered as if it ran"
        ref = ObjectRef("Pod", pod.key.namespace, pod.key.name)
        named = Mention("NetworkAttachmentDefinition", missing.namespace, missing.name)
        return _noted(answer, Step(stage=STAGE, verdict="allow", text=text, object=ref, mentions=(named,)))
    plan = scene.routers.get(pod.key)
    if plan is None or ends.target.address != plan.inner.address or ends.source.endpoint is pod:
        return answer
    client = way.arrives_from or ends.source.address
    if not plan.keeps(client):
        text = f"the answer does not come back: the router pod's route to {client} is {plan.interface}, not {INNER}"
        return _ended(scene, plan, answer, text, "drop")
    redirect = redirect_of(plan, question.protocol, question.port)
    # What follows does not name the pod: who may read the definition may not have to know of that.
    if redirect is None:
        text = f"no destination of {plan.network} takes the connection: it ends at the router pod itself"
        return _ended(scene, plan, answer, text)
    if plan.keeps(redirect.address):
        text = f"redirected to {redirect.address}, which is inside the cluster: it goes back by {INNER} from its "
        return _ended(scene, plan, answer, f"{text}client's address, which is not the pod's, so OVN drops it", "drop")
    if redirect.address in scene.places[plan.node].hosts:
        text = f"redirected to {redirect.address}, an address of the router pod's own node, which {plan.interface} "
        return _ended(scene, plan, answer, f"{text}cannot reach", "drop")
    return _sent(scene, question, plan, redirect, answer)


def _ended(scene: Scene, plan: RouterPlan, answer: Answer, text: str, verdict: Verdict = "allow") -> Answer:
    """An answer about a packet that the router pod does not send out."""
    found = _noted(answer, _step(scene, plan, text, verdict))
    return replace(found, verdict=verdict, reason=f"{answer.reason}; {text}")


def _sent(scene: Scene, question: Question, plan: RouterPlan, redirect: Redirect, answer: Answer) -> Answer:
    source, port = plan.router.address.address, redirect.target_port or question.port
    destination = str(redirect.address) if port is None else str(Target(redirect.address, port))
    # Not the node: who may read the definition may not have to know of that.
    text = f"router pod {plan.pod} redirects it to {destination}, from {source}, out of {plan.interface}: past OVN"
    found = _noted(answer, _step(scene, plan, text))
    if scene.firewall(plan.pod.namespace) is not None:
        found = _noted(found, _unasked(plan.pod.namespace))
    leg = Leg(source=plan.node, target=str(redirect.address), transport="underlay")
    if scene.network.has_ipsec:
        leg = replace(leg, is_encrypted=False, protection=judge("pod", "outside", leg.transport).text)
    router = RouterAnswer(
        pod=plan.pod,
        network=plan.network,
        node=plan.node,
        interface=plan.interface,
        source_ip=str(source),
        destination=destination,
    )
    return replace(found, reason=f"{found.reason}; {text}", legs=(*found.legs, leg), egress_router=router)


def _unasked(namespace: str) -> Step:
    """That there is a firewall is for who may read it, so the answer's reason does not name it."""
    ref = ObjectRef("EgressFirewall", namespace, FIREWALL_NAME)
    named = Mention(ref.kind, ref.namespace, ref.name)
    text = f"that is past the egress firewall of {namespace}, too"
    return Step(stage=STAGE, verdict="allow", text=text, object=ref, mentions=(named,))


def _noted(answer: Answer, step: Step) -> Answer:
    return replace(answer, steps=(*answer.steps, step))


def _step(scene: Scene, plan: RouterPlan, text: str, verdict: Verdict = "allow") -> Step:
    ref = definition_ref(plan.network)
    where = scene.cluster.sources.get(ref)
    return Step(stage=STAGE, verdict=verdict, text=text, object=ref, source=str(where) if where is not None else "")


def definition_ref(name: NamespacedName) -> ObjectRef:
    return ObjectRef("NetworkAttachmentDefinition", name.namespace, name.name)
