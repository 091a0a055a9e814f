"""Connections to Services through TraceService: what is answered, to whom, and what of it is hidden."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import trace_service_pb2 as pb
from ovnk_api.v1 import verdict_pb2 as verdicts
from ovnk_server.services import trace as trace_service

from ovnk_core.analysis.matrix import matrix
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.scene import Scene
from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply, failure, until
from tests.kit.table import base

pytestmark = pytest.mark.asyncio
VIP, EMPTY = "172.30.7.7", "172.30.7.8"
CLOSED = m.policy({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}, name="closed")
REDACTED = "decided by an object you may not read"
EXTERNAL = "198.51.100.20"


async def load(stand: Stand, api: Api, *pods: str) -> dict[str, str]:
    """A cluster whose Service shop/front has the pods as endpoints, and shop/empty has none; addresses of pods."""
    done = await apply(api, *base(), CLOSED)
    await stand.keeper.wait(done.revision, "programmed", 10)
    scene = stand.keeper.plane.tracer().scene
    found = {str(key): (str(endpoint.addresses[0]), endpoint.node) for key, endpoint in scene.endpoints.items()}
    endpoints = [{"addresses": [found[pod][0]], "nodeName": found[pod][1]} for pod in pods]
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    front = {"clusterIP": VIP, "type": "NodePort", "externalIPs": [EXTERNAL], "ports": ports}
    done = await apply(
        api,
        m.service(front, name="front"),
        m.service({"clusterIP": EMPTY, "ports": [{"port": 80}]}, name="empty"),
        m.endpoint_slice(endpoints, [{"name": "http", "port": 8080}], service="front"),
    )
    await until(lambda: stand.keeper.stages.progress["programmed"].reached == stand.keeper.revision)
    return {pod: address for pod, (address, _) in found.items()}


async def ask(api: Api, source: str, target: str, **more: Any) -> verdicts.Answer:
    question = verdicts.Question(source=source, target=target, **more)
    return (await api.trace.Trace(pb.TraceRequest(question=question))).answer


# ------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("engine", [*verdicts.Engine.values()])
@pytest.mark.parametrize("target", ["svc:shop/front:80", "svc:shop/front:http", "svc:shop/front", f"{VIP}:80"])
async def test_every_endpoint_is_listed(stand: Stand, api: Api, engine: Any, target: str) -> None:
    at = await load(stand, api, "shop/web", "shop/db")
    answer = await ask(api, "lab/client", target, engine=engine)
    assert answer.verdict == verdicts.VERDICT_MIXED
    found = answer.load_balancer
    assert (found.vip, found.chosen) == (f"{VIP}:80", "")
    assert (found.service.kind, found.service.namespace, found.service.name) == ("Service", "shop", "front")
    listed = {each.pod.name: (each.target, each.node, each.entry, each.verdict) for each in found.backends}
    assert listed == {
        "web": (f"{at['shop/web']}:8080", "n1", "", verdicts.VERDICT_ALLOW),
        "db": (f"{at['shop/db']}:8080", "n2", "", verdicts.VERDICT_DROP),
    }
    db = next(each for each in found.backends if each.pod.name == "db")
    assert "closed" in db.reason and db.path == verdicts.PATH_KIND_OVERLAY
    assert not answer.is_redacted and not any(each.is_redacted for each in found.backends)


async def test_one_endpoint_is_the_chosen_one(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    answer = await ask(api, "lab/client", "svc:shop/front")
    assert answer.load_balancer.chosen == f"{at['shop/web']}:8080"
    assert answer.verdict == verdicts.VERDICT_ALLOW
    plain = await ask(api, "lab/client", "shop/web:8080")
    assert not plain.HasField("load_balancer")


async def test_nobody_there_is_a_reject(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    answer = await ask(api, "lab/client", "svc:shop/empty:80")
    assert answer.verdict == verdicts.VERDICT_REJECT
    assert (answer.load_balancer.vip, list(answer.load_balancer.backends)) == (f"{EMPTY}:80", [])
    assert "no endpoint" in answer.reason


async def test_from_outside_each_gateway_is_named(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    answer = await ask(api, "203.0.113.9", f"{EXTERNAL}:80")
    gateways = {each.name for each in stand.keeper.plane.tracer().scene.places.values() if each.has_gateway}
    assert {each.entry for each in answer.load_balancer.backends} == gateways > {"n1"}
    assert answer.verdict == verdicts.VERDICT_ALLOW
    by_port = await ask(api, "203.0.113.9", "192.0.2.12:30080")
    assert [each.entry for each in by_port.load_balancer.backends] == ["n2"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("svc:shop/nobody:80", "no such Service"),
        ("svc:shop/front:81", "the Service has no port 81/tcp; it has 80/tcp (http)"),
        ("svc:front", "write a Service as svc:NAMESPACE/NAME:PORT"),
    ],
)
async def test_a_service_that_cannot_be_asked(stand: Stand, api: Api, target: str, reason: str) -> None:
    await load(stand, api, "shop/web")
    failed = await failure(ask(api, "lab/client", target))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert failed.violations == (("question.target", f"{reason} (got {target})"),)


async def test_why_a_service_is_not_served_does_not_name_another(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    wants = {"clusterIP": VIP, "ports": [{"port": 80}]}
    await apply(api, m.service(wants, name="late", namespace="watch"))
    ann = await stand.caller("ann", Rules(("trace", "Pod Service", "watch"), ("get", "*", "watch")))
    failed = await failure(ask(ann, "watch/probe", "svc:watch/late:80"))
    assert "is not served because of its spec.clusterIP" in failed.text
    assert "shop" not in failed.text and "front" not in failed.text


# ------------------------------------------------------------------------------------------- who may ask


async def test_a_service_may_be_asked_about_where_services_may_be_traced(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(("trace", "Pod", "lab")))
    there, absent = [
        await failure(ask(ann, "lab/client", target)) for target in ("svc:shop/front:80", "svc:shop/nobody:80")
    ]
    assert there.code is absent.code is StatusCode.PERMISSION_DENIED
    assert there.text == absent.text
    bob = await stand.caller("bob", Rules(("trace", "Pod", "lab"), ("trace", "Service", "shop")))
    assert (await ask(bob, "lab/client", "svc:shop/front:80")).verdict == verdicts.VERDICT_ALLOW
    assert (await ask(bob, "203.0.113.9", "svc:shop/front:80")).verdict == verdicts.VERDICT_ALLOW


async def test_a_cluster_ip_tells_nobody_else_whether_it_is_taken(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(("trace", "Pod Service", "lab")))
    taken, free = [await failure(ask(ann, "lab/client", target)) for target in (f"{VIP}:80", "172.30.99.99:80")]
    assert taken.code is free.code is StatusCode.PERMISSION_DENIED
    assert taken.text.replace(VIP, "") == free.text.replace("172.30.99.99", "")
    bob = await stand.caller("bob", Rules(("trace", "Pod", "lab"), ("trace", "Service", "shop")))
    assert (await ask(bob, "lab/client", f"{VIP}:80")).verdict == verdicts.VERDICT_ALLOW
    assert (await failure(ask(bob, "lab/client", "172.30.99.99:80"))).code is StatusCode.PERMISSION_DENIED
    everywhere = await stand.caller("eve", Rules(("trace", "*", "*")))
    assert not (await ask(everywhere, "lab/client", "172.30.99.99:80")).HasField("load_balancer")


async def test_addresses_of_the_clusters_networks_are_not_told_about(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(("trace", "Pod", "lab")))
    taken, free = [await failure(ask(ann, "lab/client", f"{ip}:80")) for ip in (at["shop/web"], "10.129.255.9")]
    assert taken.code is free.code is StatusCode.PERMISSION_DENIED
    assert taken.text.replace(at["shop/web"], "") == free.text.replace("10.129.255.9", "")
    assert (await ask(ann, "lab/client", f"{at['lab/web']}:80")).verdict == verdicts.VERDICT_ALLOW


# ------------------------------------------------------------------------------------------- what is hidden

TRACES = ("trace", "Pod Service", "shop lab")


@pytest.mark.parametrize("engine", [verdicts.ENGINE_BOTH, verdicts.ENGINE_FAST, verdicts.ENGINE_FLOWS])
async def test_a_pod_that_may_not_be_read_is_not_named(stand: Stand, api: Api, engine: Any) -> None:
    at = await load(stand, api, "shop/web", "shop/db")
    ann = await stand.caller("ann", Rules(TRACES, ("get", "Service NetworkPolicy Node", "* -")))
    answer = await ask(ann, "lab/client", "svc:shop/front", engine=engine)
    assert (answer.verdict, answer.is_redacted) == (verdicts.VERDICT_MIXED, True)
    assert answer.load_balancer.service.name == "front"
    assert [each.verdict for each in answer.load_balancer.backends].count(verdicts.VERDICT_ALLOW) == 1
    for each in answer.load_balancer.backends:
        assert each.is_redacted
        assert (each.target, each.node, each.reason, each.HasField("pod")) == ("", "", "", False)
    for secret in (at["shop/web"], at["shop/db"], "shop/db", "shop/web", "n1", "n2", "closed"):
        assert secret not in str(answer), secret


async def test_a_hidden_pod_is_not_the_chosen_one(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(TRACES, ("get", "Service", "shop")))
    answer = await ask(ann, "lab/client", "svc:shop/front")
    assert (answer.load_balancer.chosen, len(answer.load_balancer.backends)) == ("", 1)
    assert at["shop/web"] not in str(answer)


async def test_pods_that_may_be_read_are_named_beside_those_that_may_not(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web", "lab/web")
    ann = await stand.caller("ann", Rules(TRACES, ("get", "*", "shop -")))
    answer = await ask(ann, "lab/client", "svc:shop/front")
    named = {each.pod.name: each.target for each in answer.load_balancer.backends}
    assert named == {"web": f"{at['shop/web']}:8080", "": ""}
    assert at["lab/web"] not in str(answer) and "lab/web" not in str(answer)


async def test_a_service_that_may_not_be_read_is_not_named(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(TRACES, ("get", "Pod NetworkPolicy Node", "* -")))
    for target in ("svc:shop/front", f"{EXTERNAL}:80", "192.0.2.12:30080"):
        answer = await ask(ann, "lab/client", target)
        assert (answer.verdict, answer.is_redacted) == (verdicts.VERDICT_ALLOW, True)
        assert not answer.HasField("load_balancer")
        for secret in (VIP, "front", at["shop/web"]):
            assert secret not in str(answer), secret


async def test_nodes_that_may_not_be_read_are_not_named(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(TRACES, ("get", "Pod NetworkPolicy Service", "*")))
    answer = await ask(ann, "lab/client", "svc:shop/front")
    (only,) = answer.load_balancer.backends
    assert (only.target, only.pod.name, only.node, only.is_redacted) == (f"{at['shop/web']}:8080", "web", "", True)
    assert "n1" not in str(answer)


async def test_gateways_that_reject_are_listed_and_named_only_to_who_may_read_them(stand: Stand, api: Api) -> None:
    at = await load(stand, api, "shop/web")
    ports = [{"name": "http", "port": 81, "targetPort": 8080}]
    spec = {"externalIPs": [EXTERNAL], "externalTrafficPolicy": "Local", "ports": ports}
    ends = [{"addresses": [at["shop/web"]], "nodeName": "n1"}]
    listening = m.endpoint_slice(ends, [{"name": "http", "port": 8080}], service="local", name="local-1")
    await apply(api, m.service(spec, name="local"), listening)
    answer = await ask(api, "203.0.113.9", f"{EXTERNAL}:81")
    found = answer.load_balancer
    rejects = [each for each in found.backends if each.verdict == verdicts.VERDICT_REJECT]
    assert (answer.verdict, found.chosen, {each.target for each in rejects}) == (verdicts.VERDICT_MIXED, "", {""})
    assert all("no endpoint on node" in each.reason and not each.is_redacted for each in rejects)
    assert len(rejects) == len(found.backends) - 1 and "n1" not in {each.entry for each in rejects}
    ann = await stand.caller("ann", Rules(("trace", "*", "*"), ("get", "Pod NetworkPolicy Service", "*")))
    hidden = await ask(ann, "203.0.113.9", f"{EXTERNAL}:81")
    assert {(each.entry, each.is_redacted) for each in hidden.load_balancer.backends} == {("", True)}


async def test_the_service_without_that_port_is_named_only_to_who_may_read_it(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    assert "Service shop/front serves only port 80/TCP" in (await ask(api, "lab/client", f"{VIP}:81")).reason
    ann = await stand.caller("ann", Rules(TRACES, ("get", "Pod NetworkPolicy Node", "* -")))
    answer = await ask(ann, "lab/client", f"{VIP}:81")
    assert answer.is_redacted and "front" not in str(answer)


# ------------------------------------------------------------------------------------------- matrix


async def read_matrix(api: Api, **asked: Any) -> tuple[pb.MatrixTargets, list[pb.MatrixRow]]:
    parts = [part async for part in api.trace.Matrix(pb.MatrixRequest(include_services=True, **asked))]
    return parts[0].targets, [part.row for part in parts[1:]]


async def test_services_are_columns(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web", "shop/db")
    targets, rows = await read_matrix(api, port=80)
    scene = Scene(stand.keeper.plane.cluster)
    expected = matrix(scene, protocol="tcp", port=80, has_services=True)
    assert list(targets.services) == ["svc:shop/empty:80", "svc:shop/front:80"]
    for row, verdict in zip(rows, expected.verdicts, strict=True):
        assert [trace_service._CELLS[each] for each in verdict] == list(row.cells)
        assert list(row.cells[-2:]) == [pb.MATRIX_CELL_REJECT, pb.MATRIX_CELL_MIXED] or row.pod.startswith("shop/")
    own = next(row for row in rows if row.pod == str(NamespacedName("shop", "db")))
    assert own.cells[-1] == pb.MATRIX_CELL_ALLOW, "to itself, or to web"


async def test_a_matrix_shows_services_that_the_caller_may_trace(stand: Stand, api: Api) -> None:
    await load(stand, api, "shop/web")
    ann = await stand.caller("ann", Rules(("trace", "Pod", "lab shop"), ("trace", "Service", "lab")))
    targets, rows = await read_matrix(ann, port=80)
    assert targets.pods and not targets.services
    assert {len(row.cells) for row in rows} == {len(targets.pods)}
    assert list((await read_matrix(api, port=80, namespace="lab"))[0].services) == []


async def test_a_matrix_of_too_many_services(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await load(stand, api, "shop/web")
    monkeypatch.setattr(trace_service, "MAX_PODS", 1)
    asked = pb.MatrixRequest(port=80, namespace="lab", include_services=True)
    assert (await failure(api.trace.Matrix(asked))).code is StatusCode.RESOURCE_EXHAUSTED
    ann = await stand.caller("ann", Rules(("trace", "Service", "shop")))
    failed = await failure(ann.trace.Matrix(pb.MatrixRequest(port=80, include_services=True)))
    assert failed.code is StatusCode.RESOURCE_EXHAUSTED and "2 ports of Services" in failed.text


async def test_no_service_is_reached_by_icmp(api: Api) -> None:
    asked = pb.MatrixRequest(protocol=verdicts.PROTOCOL_ICMP, include_services=True)
    failed = await failure(api.trace.Matrix(asked))
    assert failed.code is StatusCode.INVALID_ARGUMENT
    assert [each for each, _ in failed.violations] == ["include_services"]
