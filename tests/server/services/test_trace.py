"""TraceService through a real channel: answers, what of them is hidden, matrices and comparisons."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import diff_pb2, northbound_pb2
from ovnk_api.v1 import trace_service_pb2 as pb
from ovnk_api.v1 import verdict_pb2 as verdicts
from ovnk_server.services import trace as trace_service

from ovnk_core.analysis.matrix import matrix
from ovnk_core.trace.scene import Scene
from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply, failure, message, named, until
from tests.kit.table import base

pytestmark = pytest.mark.asyncio
CLOSED = m.policy({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}, name="closed")
FRONT = {"podSelector": {"matchLabels": {"tier": "front"}}}
OPEN = m.policy(
    {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [FRONT], "ports": [{"port": 5432}]}],
    },
    name="open",
)
FIREWALL = {
    "apiVersion": "k8s.ovn.org/v1",
    "kind": "EgressFirewall",
    "metadata": {"name": "default", "namespace": "shop"},
    "spec": {
        "egress": [
            {"type": "Allow", "to": {"cidrSelector": "203.0.113.0/25"}},
            {"type": "Deny", "to": {"cidrSelector": "203.0.113.0/24"}},
        ]
    },
}
REDACTED = "decided by an object you may not read"


async def load(stand: Stand, api: Api, *manifests: Any) -> int:
    done = await apply(api, *base(), *manifests)
    await stand.keeper.wait(done.revision, "programmed", 10)
    await until(lambda: stand.keeper.stages.progress["programmed"].reached == stand.keeper.revision)
    return stand.keeper.revision


async def ask(api: Api, source: str, target: str, **more: Any) -> verdicts.Answer:
    question = verdicts.Question(source=source, target=target, **more)
    return (await api.trace.Trace(pb.TraceRequest(question=question))).answer


# ------------------------------------------------------------------------------------------- one question


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
async def test_every_engine_says_what_decides(stand: Stand, api: Api, engine: Any) -> None:
    revision = await load(stand, api, OPEN)
    allowed = await ask(api, "shop/web", "shop/db:5432", engine=engine)
    dropped = await ask(api, "lab/client", "shop/db", port=5432, engine=engine)
    assert (allowed.verdict, dropped.verdict) == (verdicts.VERDICT_ALLOW, verdicts.VERDICT_DROP)
    (step,) = [each for each in allowed.steps if each.object.name == "open"]
    assert (step.object.kind, step.object.namespace) == ("NetworkPolicy", "shop")
    assert (step.rule, step.field_path) == (0, "spec.ingress[0]")
    assert dropped.steps[-1].object.name == "open"
    assert not dropped.steps[-1].HasField("rule")
    assert allowed.path == verdicts.PATH_KIND_OVERLAY
    assert [(leg.source, leg.target, leg.transport) for leg in allowed.legs] == [
        ("n1", "n2", verdicts.TRANSPORT_GENEVE)
    ]
    assert allowed.revision == revision
    assert not allowed.is_redacted


async def test_a_firewalls_rule_is_named_by_its_field(stand: Stand, api: Api) -> None:
    await load(stand, api, FIREWALL)
    answer = await ask(api, "shop/web", "203.0.113.200:443")
    step = answer.steps[-1]
    assert (answer.verdict, step.rule, step.field_path) == (verdicts.VERDICT_DROP, 1, "spec.egress[1]")
    assert answer.reason == step.text


async def test_an_answer_is_about_the_change_before_it(api: Api, stand: Stand) -> None:
    await load(stand, api)
    assert (await ask(api, "shop/web", "shop/db:5432")).verdict == verdicts.VERDICT_ALLOW
    await apply(api, CLOSED)
    assert (await ask(api, "shop/web", "shop/db:5432")).verdict == verdicts.VERDICT_DROP


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"source": "shop/nobody", "target": "shop/db:80"}, "question.source"),
        ({"source": "shop/web", "target": "shop/nobody:80"}, "question.target"),
        ({"source": "shop/web", "target": "shop/db"}, "question.port"),
        ({"source": "shop/web", "target": "shop/db:80", "port": 81}, "question.port"),
        ({"source": "web", "target": "shop/db:80"}, "question.source"),
        ({"source": "shop/web", "target": "shop/db:80", "engine": 77}, "question.engine"),
        ({"source": "shop/web", "target": "shop/db:80", "protocol": 77}, "question.protocol"),
    ],
)
async def test_a_question_without_an_answer(stand: Stand, api: Api, asked: dict[str, Any], field: str) -> None:
    await load(stand, api)
    failed = await failure(ask(api, **asked))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == [field]


# ------------------------------------------------------------------------------------------- many questions


async def test_many_questions_are_answered_in_order(stand: Stand, api: Api) -> None:
    await load(stand, api, CLOSED)
    stream = api.trace.TraceMany()
    pods = ("shop/web", "shop/api", "nowhere/nobody", "lab/client")
    for number in range(400):
        question = verdicts.Question(source=pods[number % 4], target="shop/db:80")
        await stream.write(pb.TraceManyRequest(id=str(number), question=question))
    await stream.done_writing()
    found = [await stream.read() for _ in range(400)]
    assert [each.id for each in found] == [str(number) for number in range(400)]
    for number, each in enumerate(found):
        if number % 4 == 2:
            assert (each.fault.field, each.fault.value, each.fault.reason) == ("source", pods[2], "no such pod")
        else:
            assert each.answer.verdict == verdicts.VERDICT_DROP
            assert each.answer.steps[-1].object.name == "closed"


# ------------------------------------------------------------------------------------------- multicast

ON = m.namespace("shop", metadata={"annotations": {"k8s.ovn.org/multicast-enabled": "true"}})


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
async def test_receivers_of_a_group(stand: Stand, api: Api, engine: Any) -> None:
    await load(stand, api)
    await apply(api, ON)
    answer = await ask(api, "shop/web", "224.1.0.1:30102", protocol=verdicts.PROTOCOL_UDP, engine=engine)
    assert (answer.verdict, answer.path) == (verdicts.VERDICT_ALLOW, verdicts.PATH_KIND_MULTICAST)
    heard = [(each.namespace, each.name, each.node) for each in answer.receivers]
    assert heard == [("shop", "api", "n1"), ("shop", "db", "n2"), ("shop", "web-b", "n2")]
    step = answer.steps[0]
    assert (step.object.kind, step.object.name) == ("Namespace", "shop")
    assert step.field_path == 'metadata.annotations["k8s.ovn.org/multicast-enabled"]'
    assert not answer.is_redacted


async def test_receivers_that_the_caller_may_not_read_are_left_out(stand: Stand, api: Api) -> None:
    await load(stand, api)
    await apply(api, ON)
    ann = await stand.caller("ann", Rules(("trace", "Pod", "shop"), ("get", "Namespace", "shop")))
    answer = await ask(ann, "shop/web", "224.1.0.1:30102", protocol=verdicts.PROTOCOL_UDP)
    assert answer.verdict == verdicts.VERDICT_ALLOW
    assert (list(answer.receivers), list(answer.legs), answer.is_redacted) == ([], [], True)
    bob = await stand.caller("bob", Rules(("trace", "Pod", "shop"), ("get", "Pod", "shop")))
    answer = await ask(bob, "shop/web", "224.1.0.1:30102", protocol=verdicts.PROTOCOL_UDP)
    assert [(each.name, each.node) for each in answer.receivers] == [("api", ""), ("db", ""), ("web-b", "")]
    assert answer.is_redacted and "n1" not in answer.reason


# ------------------------------------------------------------------------------------------- what is hidden


async def test_explanations_hide_what_the_caller_may_not_read(stand: Stand, api: Api) -> None:
    await load(stand, api, CLOSED, FIREWALL)
    ann = await stand.caller("ann", Rules(("trace", "Pod", "shop lab"), ("get", "*", "lab")))
    answer = await ask(ann, "lab/client", "shop/db:5432")
    assert answer.verdict == verdicts.VERDICT_DROP
    assert answer.is_redacted
    last = answer.steps[-1]
    assert (last.text, last.is_redacted, last.HasField("object"), last.field_path) == (REDACTED, True, False, "")
    told = str(answer)
    for secret in ("closed", "n1", "n2", "shop/db", "isolated"):
        assert secret not in told
    mine = next(each for each in answer.steps if each.stage == "egress")
    assert not mine.is_redacted
    hidden = await ask(ann, "shop/web", "203.0.113.200:443")
    assert REDACTED in hidden.reason
    assert "203.0.113.0" not in str(hidden.steps)


async def test_who_reads_everything_sees_everything(stand: Stand, api: Api) -> None:
    await load(stand, api, CLOSED)
    bob = await stand.caller("bob", Rules(("trace", "Pod", "*"), ("get", "*", "*")))
    assert await ask(bob, "lab/client", "shop/db:5432") == await ask(api, "lab/client", "shop/db:5432")


async def test_nothing_is_told_of_pods_that_the_caller_may_not_trace(stand: Stand, api: Api) -> None:
    await load(stand, api)
    ann = await stand.caller("ann", Rules(("trace", "Pod", "lab")))
    there = {each.name: str(each.addresses[0]) for each in _endpoints(stand)}
    pairs = [
        (("shop/web", "lab/web:80"), ("shop/absent", "lab/web:80")),
        (("lab/client", "shop/web:80"), ("lab/client", "shop/absent:80")),
    ]
    for one, other in pairs:
        first, second = await failure(ask(ann, *one)), await failure(ask(ann, *other))
        assert first.code is second.code is StatusCode.PERMISSION_DENIED
        assert first.text == second.text
    by_address = await failure(ask(ann, there["web"], "lab/web:80"))
    assert by_address.code is StatusCode.PERMISSION_DENIED
    assert "shop" not in by_address.text
    assert (await ask(ann, "203.0.113.9", "lab/web:80")).path == verdicts.PATH_KIND_EXTERNAL
    assert (await failure(ask(ann, "192.0.2.11", "192.0.2.12:80"))).code is StatusCode.PERMISSION_DENIED
    assert (await failure(ask(ann, "203.0.113.9", there["web"] + ":80"))).code is StatusCode.PERMISSION_DENIED


def _endpoints(stand: Stand) -> list[Any]:
    class Named:
        def __init__(self, key: Any, endpoint: Any) -> None:
            self.name, self.addresses = key.name, endpoint.addresses

    scene = stand.keeper.plane.tracer().scene
    return [Named(key, endpoint) for key, endpoint in scene.endpoints.items() if key.namespace == "shop"]


# ------------------------------------------------------------------------------------------- matrix


async def read_matrix(api: Api, **asked: Any) -> tuple[pb.MatrixTargets, list[pb.MatrixRow]]:
    parts = [part async for part in api.trace.Matrix(pb.MatrixRequest(**asked))]
    return parts[0].targets, [part.row for part in parts[1:]]


async def test_matrix_is_that_of_the_core(stand: Stand, api: Api) -> None:
    revision = await load(stand, api, CLOSED)
    targets, rows = await read_matrix(api, port=80)
    expected = matrix(Scene(stand.keeper.plane.cluster), protocol="tcp", port=80)
    assert list(targets.pods) == list(map(str, expected.targets))
    assert (targets.sources, targets.revision) == (len(rows), revision)
    for row, verdict in zip(rows, expected.verdicts, strict=True):
        assert [trace_service._CELLS[each] for each in verdict] == list(row.cells)


async def test_matrix_shows_pods_that_the_caller_may_trace(stand: Stand, api: Api) -> None:
    await load(stand, api)
    ann = await stand.caller("ann", Rules(("trace", "Pod", "lab")))
    targets, rows = await read_matrix(ann, port=80)
    assert list(targets.pods) == [row.pod for row in rows] == ["lab/client", "lab/web"]
    denied = ann.trace.Matrix(pb.MatrixRequest(port=80, namespace="shop"))
    assert (await failure(denied)).code is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "asked", [{}, {"port": 0}, {"port": 70_000}, {"protocol": verdicts.PROTOCOL_ICMP, "port": 80}, {"protocol": 9}]
)
async def test_a_matrix_that_cannot_be_asked(api: Api, asked: dict[str, Any]) -> None:
    assert (await failure(api.trace.Matrix(pb.MatrixRequest(**asked)))).code is StatusCode.INVALID_ARGUMENT


async def test_a_matrix_of_too_many_pods(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await load(stand, api)
    monkeypatch.setattr(trace_service, "MAX_PODS", 3)
    assert (await failure(api.trace.Matrix(pb.MatrixRequest(port=80)))).code is StatusCode.RESOURCE_EXHAUSTED


# ------------------------------------------------------------------------------------------- diff


def diff_request(*manifests: Any, deletes: tuple[Any, ...] = ()) -> pb.DiffRequest:
    return pb.DiffRequest(objects=map(message, manifests), deletes=deletes)


async def test_diff_tells_what_opens_closes_and_changes(stand: Stand, api: Api) -> None:
    revision = await load(stand, api, FIREWALL)
    edited = {**FIREWALL, "spec": {"egress": FIREWALL["spec"]["egress"][1:]}}  # type: ignore[index]
    found = await api.trace.Diff(diff_request(edited, CLOSED))
    assert {each.reference.kind: each.outcome for each in found.objects} == {
        "EgressFirewall": diff_pb2.OUTCOME_CHANGED,
        "NetworkPolicy": diff_pb2.OUTCOME_CREATED,
    }
    removed = [each for each in found.rules if each.change == diff_pb2.RULE_CHANGE_KIND_REMOVED]
    assert [(each.namespace, each.before, each.HasField("after")) for each in removed] == [("shop", 0, False)]
    closed = [each for each in found.connections if each.change == diff_pb2.CONNECTION_CHANGE_KIND_CLOSED]
    assert {each.direction for each in closed} == {diff_pb2.DIRECTION_EGRESS, diff_pb2.DIRECTION_INGRESS}
    outward = next(each for each in closed if each.direction == diff_pb2.DIRECTION_EGRESS)
    assert outward.before.object.name == outward.after.object.name == "default"
    assert ("ACL", northbound_pb2.ROW_VERB_INSERT) in {(each.table, each.verb) for each in found.rows}
    assert found.revision == revision
    assert found.is_complete
    assert not found.is_redacted
    assert stand.keeper.revision == revision
    back = await api.trace.Diff(diff_request(deletes=(named("EgressFirewall", "default", "shop"),)))
    assert {each.change for each in back.connections} == {diff_pb2.CONNECTION_CHANGE_KIND_OPENED}


async def test_diff_of_what_cannot_be_accepted(stand: Stand, api: Api) -> None:
    await load(stand, api)
    bad = m.policy({"podSelector": {}, "policyTypes": ["Sideways"]})
    failed = await failure(api.trace.Diff(diff_request(m.namespace(), bad)))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert failed.violations[0][0] == "objects[1].network_policy.spec.policy_types[0]"
    missing = diff_request(deletes=(named("Pod", "absent", "shop"),))
    assert (await failure(api.trace.Diff(missing))).code is StatusCode.NOT_FOUND
    assert (await failure(api.trace.Diff(diff_request()))).violations[0][0] == "objects"


async def test_diff_of_a_tenant_shows_only_what_it_may_read(stand: Stand, api: Api) -> None:
    await load(stand, api)
    ann = await stand.caller("ann", Rules(("apply", "NetworkPolicy", "shop"), ("get", "*", "shop")))
    found = await ann.trace.Diff(diff_request(CLOSED))
    everything = await api.trace.Diff(diff_request(CLOSED))
    assert found.is_redacted
    assert not everything.is_redacted
    assert 0 < len(found.connections) < len(everything.connections)
    assert "lab/" not in str(found)
    assert not found.rows
    denied = ann.trace.Diff(diff_request(m.pod("x", "lab")))
    assert (await failure(denied)).code is StatusCode.PERMISSION_DENIED


async def test_what_a_question_lacks_is_named_by_its_field(api: Api) -> None:
    await apply(api, m.namespace(), m.pod("web"))
    for question, field, reason in (
        (verdicts.Question(source="shop/web"), "target", "is missing"),
        (verdicts.Question(target="shop/web:80"), "source", "is missing"),
        (verdicts.Question(source="shop/web", target="1.2.3.4"), "port", "tcp needs a port"),
        (verdicts.Question(source="shop/web", target="1.2.3.4:1", port=2), "port", "contradicts the port in"),
        (verdicts.Question(source="shop/web", target="nobody:80"), "target", "neither NAMESPACE/NAME"),
    ):
        failed = await failure(api.trace.Trace(pb.TraceRequest(question=question)))
        path, text = failed.violations[0]
        assert (failed.code, path) == (StatusCode.INVALID_ARGUMENT, f"question.{field}")
        assert reason in text and "--" not in text, text


# ------------------------------------------------------------------------------------------- egress IPs

EGRESS_NODE = m.node("n2", address="192.0.2.12", metadata={"labels": {"k8s.ovn.org/egress-assignable": ""}})
EGRESS_IP = {
    "apiVersion": "k8s.ovn.org/v1",
    "kind": "EgressIP",
    "metadata": {"name": "out"},
    "spec": {"egressIPs": ["192.0.2.50"], "namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}},
}


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
async def test_how_a_packet_leaves(stand: Stand, api: Api, engine: Any) -> None:
    await load(stand, api)
    await apply(api, EGRESS_NODE, EGRESS_IP)
    answer = await ask(api, "shop/web", "203.0.113.9:443", engine=engine)
    assert (answer.verdict, answer.egress.egressip) == (verdicts.VERDICT_ALLOW, "out")
    assert [(each.node, each.source_ip) for each in answer.egress.candidates] == [("n2", "192.0.2.50")]
    assert [(leg.source, leg.target) for leg in answer.legs] == [("n1", "n2"), ("n2", "203.0.113.9")]
    usual = await ask(api, "shop/db", "203.0.113.9:443", engine=engine)
    assert not usual.egress.HasField("egressip")
    assert [(each.node, each.source_ip) for each in usual.egress.candidates] == [("n2", "192.0.2.12")]
    assert not (await ask(api, "shop/web", "shop/db:80", engine=engine)).HasField("egress")


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
async def test_an_egress_ip_that_the_caller_may_not_read_is_not_told(stand: Stand, api: Api, engine: Any) -> None:
    await load(stand, api)
    await apply(api, EGRESS_NODE, EGRESS_IP)
    ann = await stand.caller("ann", Rules(("trace", "Pod", "shop"), ("get", "Pod Node", "shop"), ("get", "Node", "")))
    answer = await ask(ann, "shop/web", "203.0.113.9:443", engine=engine)
    assert (answer.verdict, answer.is_redacted, answer.HasField("egress")) == (verdicts.VERDICT_ALLOW, True, True)
    assert answer.egress == verdicts.Egress(candidates=[verdicts.EgressCandidate()])
    inside = await ask(ann, "shop/web", "shop/db:80", engine=engine)
    for secret in ("192.0.2.50", "out ", "EgressIP"):
        assert secret not in str(answer) + str(inside)


async def test_a_diff_tells_as_whom_servers_see_pods_to_those_who_may_know(stand: Stand, api: Api) -> None:
    await load(stand, api)
    await apply(api, EGRESS_NODE)
    found = await api.trace.Diff(diff_request(EGRESS_IP))
    (change,) = [each for each in found.sources if each.example == "shop/web"]
    assert (change.example, change.family, change.pods, change.before.egressip) == ("shop/web", 4, 1, "")
    assert [each.node for each in change.before.candidates] == ["n1"]
    assert [(each.node, each.source_ip) for each in change.after.candidates] == [("n2", "192.0.2.50")]
    assert (change.after.egressip, found.is_redacted) == ("out", False)
    mine = (("apply", "EgressIP", "-"), ("get", "Pod", "shop"))
    for rules, sources in ((mine, []), ((*mine, ("get", "EgressIP", "-")), ["shop/web", "shop/web-b"])):
        ann = await stand.caller(f"ann{len(rules)}", Rules(*rules))
        told = await ann.trace.Diff(diff_request(EGRESS_IP))
        assert ([each.example for each in told.sources], told.is_redacted) == (sources, True)
        assert not any(name in str(told.sources) for name in ('"n1"', '"n2"', '192.0.2.1"'))
