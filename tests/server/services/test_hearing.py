"""What a caller who may not read everything can find out: nothing that is not theirs, by whichever way they ask."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from grpc import StatusCode
from ovnk_api.v1 import event_service_pb2 as events_pb
from ovnk_api.v1 import northbound_service_pb2 as nb
from ovnk_api.v1 import object_service_pb2 as pb
from ovnk_api.v1 import sync_service_pb2 as sync_pb
from ovnk_api.v1 import trace_service_pb2 as trace_pb
from ovnk_api.v1 import verdict_pb2

from tests.kit import manifest as m
from tests.kit.served import Api, Rules, Stand, apply, delete_request, failure, message, named, names

pytestmark = pytest.mark.asyncio
READ = "get list watch"
SHOP = Rules((f"{READ} apply trace northbound", "*", "shop"))
SECRET = "secret"


def placed(name: str, namespace: str, address: str, day: int = 1) -> Any:
    annotation = {"k8s.ovn.org/pod-networks": f'{{"default": {{"ip_addresses": ["{address}/23"]}}}}'}
    meta = {"annotations": annotation, "creationTimestamp": f"2026-01-{day:02}T00:00:00Z"}
    return m.pod(name, namespace, metadata=meta, spec={"nodeName": "node-1"})


async def both_tenants(api: Api) -> None:
    await apply(api, m.node(), m.namespace(), m.namespace("team-a"))
    pods = [
        m.pod(f"{name}-{number}", where)
        for where, name in (("shop", "web"), ("team-a", SECRET))
        for number in (1, 2, 3)
    ]
    await apply(api, *pods)


def plain(token: str) -> str:
    return urlsafe_b64decode(token).decode(errors="replace")


# ------------------------------------------------------------------------------------------- pages


async def test_tokens_of_objects_name_what_their_reader_has(stand: Stand, api: Api) -> None:
    await both_tenants(api)
    await apply(api, m.pod("zzz", "zoo"), m.namespace("zoo"))
    ann = await stand.caller("ann", Rules((READ, "*", "shop zoo")))
    found, tokens = [], [""]
    while True:
        page = await ann.objects.List(pb.ListRequest(kind="Pod", page_size=1, page_token=tokens[-1]))
        found += [each.pod.metadata.name for each in page.objects]
        if not page.next_page_token:
            break
        assert page.objects, "an empty page tells of others"
        tokens.append(page.next_page_token)
    assert found == ["web-1", "web-2", "web-3", "zzz"]
    assert len(tokens) == 4
    assert not any("team-a" in plain(each) or SECRET in plain(each) for each in tokens)
    asked = nb.GetConditionsRequest(page_size=1)
    while True:
        conditions = await ann.northbound.GetConditions(asked)
        assert "team-a" not in plain(conditions.next_page_token)
        assert len(conditions.objects) == 1
        asked.page_token = conditions.next_page_token
        if not asked.page_token:
            break


async def test_tokens_of_rows_count_what_their_reader_has(stand: Stand, api: Api) -> None:
    ann = await stand.caller("ann", SHOP)
    await apply(api, m.node(), m.namespace(), m.namespace("aaa"))
    await apply(api, *(m.pod(f"web-{number}", "shop", spec={"nodeName": "node-1"}) for number in range(5)))

    async def tokens() -> list[dict[str, Any]]:
        found, token = list[dict[str, Any]](), ""
        while True:
            page = await ann.northbound.ListRows(nb.ListRowsRequest(page_size=2, page_token=token))
            token = page.next_page_token
            if not token:
                return found
            found.append({**json.loads(plain(token)), "revision": 0})

    before = await tokens()
    assert [each["given"] for each in before] == [*range(2, 2 * len(before) + 1, 2)]
    assert len(before) >= 2
    await apply(api, *(m.pod(f"{SECRET}-{number}", "aaa", spec={"nodeName": "node-1"}) for number in range(7)))
    assert await tokens() == before


async def test_event_numbers_count_nothing(stand: Stand, api: Api) -> None:
    await both_tenants(api)
    ann = await stand.caller("ann", SHOP)
    first = await ann.events.ListEvents(events_pb.ListEventsRequest())
    assert first.events
    assert first.last_sequence == first.events[-1].sequence
    asked = events_pb.ListEventsRequest(after_sequence=first.last_sequence)
    await apply(api, *(m.pod(f"{SECRET}-{number}", "team-a") for number in range(9)))
    second = await ann.events.ListEvents(asked)
    assert (len(second.events), second.last_sequence) == (0, first.last_sequence)
    await apply(api, m.pod("new"))
    third = await ann.events.ListEvents(asked)
    assert [each.object.name for each in third.events] == ["new"]
    assert third.last_sequence > first.last_sequence


# ------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("is_newer", [True, False])
async def test_texts_do_not_name_what_their_reader_may_not_know(stand: Stand, api: Api, is_newer: bool) -> None:
    await apply(api, m.node(), m.namespace(), m.namespace("team-a"))
    ann = await stand.caller("ann", SHOP)
    mine, other = placed("web", "shop", "10.128.0.9"), placed(SECRET, "team-a", "10.128.0.9", 2)
    if is_newer:
        await apply(ann, mine)
        await apply(api, other)
    else:
        await apply(api, other)
        done = await apply(ann, mine)
        (told,) = done.results[0].warnings
        assert told.startswith("status.podIPs or metadata.annotations")
        assert ": its address is held by a pod that you may not read (got 10.128.0.9" in told
    asked = nb.GetConditionsRequest(kind="Pod", namespace="shop", name="web")
    (found,) = (await ann.northbound.GetConditions(asked)).objects
    texts = [each.message for each in found.conditions if each.message]
    assert texts
    for text in texts:
        assert "team-a" not in text
        assert SECRET not in text
        assert "object#" not in text
        assert text.startswith("Pod shop/web status.podIPs or metadata.annotations")
    (all_of_it,) = (await api.northbound.GetConditions(asked)).objects
    assert any(f"pod team-a/{SECRET} (got" in each.message for each in all_of_it.conditions)


async def test_who_waits_is_told_when_accepted(api: Api) -> None:
    await apply(api, m.node(), m.namespace())
    done = await apply(api, placed("web", "shop", "10.128.0.1"))
    (told,) = done.results[0].warnings
    assert ": its address is held by the router (got 10.128.0.1" in told


@pytest.mark.parametrize("engine", [verdict_pb2.ENGINE_INTENT, verdict_pb2.ENGINE_FLOWS])
async def test_a_verdicts_reason_tells_no_more_than_its_legs(stand: Stand, api: Api, engine: int) -> None:
    nodes = [m.node("hidden-1"), m.node("hidden-2", address="192.0.2.2")]
    await apply(api, *nodes, m.namespace())
    await apply(api, *(m.pod(name, spec={"nodeName": f"hidden-{number}"}) for number, name in ((1, "web"), (2, "db"))))
    ann = await stand.caller("ann", SHOP)
    question = verdict_pb2.Question(source="shop/web", target="shop/db:80", engine=engine)
    answer = (await ann.trace.Trace(trace_pb.TraceRequest(question=question))).answer
    assert answer.is_redacted
    assert answer.reason
    assert "hidden" not in str(answer)


# ------------------------------------------------------------------------------------------- plans


async def test_what_a_deleted_namespace_takes_along_is_not_told(stand: Stand, api: Api) -> None:
    await both_tenants(api)
    ann = await stand.caller("ann", Rules(("delete", "Namespace", "-")))
    asked = trace_pb.DiffRequest(deletes=[named("Namespace", "team-a")])
    assert (await failure(ann.trace.Diff(asked))).code is StatusCode.PERMISSION_DENIED
    bob = await stand.caller("bob", Rules(("delete", "*", "*")))
    found = await bob.trace.Diff(asked)
    assert names(each.reference for each in found.objects) == ["Namespace /team-a"]
    assert found.is_redacted
    request = delete_request(named("Namespace", "team-a"))
    tried = await bob.objects.Delete(delete_request(named("Namespace", "team-a"), validate_only=True))
    assert names(each.reference for each in tried.plan.objects) == ["Namespace /team-a"]
    assert tried.plan.is_redacted
    done = await bob.objects.Delete(request)
    assert names(each.reference for each in done.results) == ["Namespace /team-a"]
    assert not [each for each in stand.keeper.history.everything() if each[0].namespace == "team-a"]


# ------------------------------------------------------------------------------------------- sources


async def begin(api: Api, source: str) -> Any:
    stream = api.sync.Sync()
    await stream.write(sync_pb.SyncRequest(sequence=1, begin=sync_pb.SyncBegin(source=source)))
    return stream


async def test_a_source_is_not_told_of_by_refusing_it(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace("team-a"))
    kube = await begin(api, "kube")
    await kube.read()
    await kube.write(sync_pb.SyncRequest(sequence=2, put=sync_pb.SyncPut(object=message(m.pod(SECRET, "team-a")))))
    await kube.read()
    kube.cancel()
    ann = await stand.caller("ann", Rules(("sync", "Pod", "shop")))
    bob = await stand.caller("bob", Rules((READ, "*", "*")))
    told = {(await failure(await begin(ann, "kube"))).text, (await failure(await begin(bob, "kube"))).text}
    assert told == {"ann may not state the source 'kube'", "bob may not state the source 'kube'"}
    assert (await failure(await begin(bob, "free"))).code is StatusCode.PERMISSION_DENIED


async def test_how_far_changes_have_come_is_told_to_whom_a_rule_names(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    nobody, ann = await stand.caller("nobody", Rules()), await stand.caller("ann", SHOP)
    assert (await ann.northbound.GetStatus(nb.GetStatusRequest())).accepted_revision
    for call in (
        nobody.northbound.GetStatus(nb.GetStatusRequest()),
        nobody.northbound.WaitRevision(nb.WaitRevisionRequest(revision=1)),
    ):
        assert (await failure(call)).code is StatusCode.PERMISSION_DENIED


async def test_a_refused_firewalls_status_tells_no_place_of_ours(stand: Stand, api: Api) -> None:
    await apply(api, m.namespace())
    bad = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": [{"type": "Deny", "to": {"cidrSelector": "nonsense"}}]},
    }
    stream = await begin(api, "kube")
    await stream.read()
    await stream.write(sync_pb.SyncRequest(sequence=2, put=sync_pb.SyncPut(object=message(bad))))
    await stream.read()
    asked = nb.GetConditionsRequest(kind="EgressFirewall", namespace="shop")
    (found,) = (await api.northbound.GetConditions(asked)).objects
    assert found.conditions[0].message.startswith("EgressFirewall shop/default spec.egress[0].to.cidrSelector: ")


# ------------------------------------------------------------------------------------------- others' pods and nodes


def listening(name: str, namespace: str, number: int) -> Any:
    ports = [{"name": "http", "containerPort": number, "protocol": "TCP"}]
    return m.pod(name, namespace, spec={"nodeName": "node-1", "containers": [{"name": "c", "ports": ports}]})


def to_namespace(name: str) -> Any:
    """Egress from shop to whatever listens on a named port in another namespace."""
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    egress = [{"to": [peer], "ports": [{"port": "http", "protocol": "TCP"}]}]
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}
    meta = {"name": "out", "namespace": "shop"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


async def test_what_others_ports_are_called_is_not_told_by_rows(stand: Stand, api: Api) -> None:
    """A port name means what the pods it is looked up at say; rows that show it are not the author's to read."""
    await apply(api, m.node(), m.namespace(), m.namespace("team-a"), m.pod("web"), listening(SECRET, "team-a", 8081))
    ann = await stand.caller("ann", Rules((f"{READ} apply delete trace northbound", "*", "shop")))
    seen = []
    for place in ("team-a", "nowhere"):
        asked = pb.ApplyRequest(items=[pb.ApplyItem(object=message(to_namespace(place)))], validate_only=True)
        tried = await ann.objects.Apply(asked)
        done = await apply(ann, to_namespace(place))
        await api.northbound.WaitRevision(nb.WaitRevisionRequest(revision=done.revision))
        rows = (await ann.northbound.ListRows(nb.ListRowsRequest())).rows
        flows = (await ann.northbound.ListFlows(nb.ListFlowsRequest())).flows
        diffed = await ann.trace.Diff(trace_pb.DiffRequest(deletes=[named("NetworkPolicy", "out", "shop")]))
        texts = (str(tried.plan.counts), str(diffed.rows), str([each.owner for each in rows]), str(len(flows)))
        assert "8081" not in str((tried, rows, flows, diffed))
        seen.append((*texts, [len(column.value.set.atoms) for each in rows for column in each.columns]))
        await ann.objects.Delete(delete_request(named("NetworkPolicy", "out", "shop")))
    assert seen[0] == seen[1]
    await apply(api, to_namespace("team-a"))
    everything = await api.northbound.ListRows(nb.ListRowsRequest(table="Address_Set"))
    assert any("8081/everywhere" in each.owner.role for each in everything.rows)


@pytest.mark.parametrize("ends", [("shop/web", "{}:80"), ("{}", "shop/web:80")])
async def test_an_address_of_the_cluster_is_answered_to_whom_it_belongs(
    stand: Stand, api: Api, ends: tuple[str, str]
) -> None:
    """The same words whether another's pod has it or nobody."""
    await apply(api, m.node(), m.namespace(), m.namespace("team-a"))
    taken, mine = "10.128.0.9", "10.128.0.10"
    await apply(api, placed(SECRET, "team-a", taken), placed("web", "shop", "10.128.0.8"), placed("db", "shop", mine))
    ann = await stand.caller("ann", SHOP)

    async def ask(address: str) -> Any:
        source, target = (end.format(address) for end in ends)
        question = verdict_pb2.Question(source=source, target=target)
        return await ann.trace.Trace(trace_pb.TraceRequest(question=question))

    texts = {(await failure(ask(address))).text.replace(address, "IT") for address in (taken, "10.128.0.99")}
    assert texts == {"ann may not trace from or to IT"}
    assert (await ask(mine)).answer.verdict == verdict_pb2.VERDICT_ALLOW
    assert (await ask("203.0.113.9")).answer.revision


async def test_which_address_a_node_has_is_not_told_by_a_comparison(stand: Stand, api: Api) -> None:
    await apply(api, m.node(address="192.0.2.77"), m.namespace(), placed("web", "shop", "10.128.0.8"))
    ann = await stand.caller("ann", SHOP)
    firewall = {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": [{"type": "Deny", "to": {"nodeSelector": {}}}]},
    }
    asked = trace_pb.DiffRequest(objects=[message(firewall)])
    assert "192.0.2.77" in str(await api.trace.Diff(asked))
    found = await ann.trace.Diff(asked)
    assert "192.0.2.77" not in str(found)
    assert found.is_redacted
