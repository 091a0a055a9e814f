"""NorthboundService and EventService through a real channel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from ovnk_api.v1 import event_service_pb2 as events_pb
from ovnk_api.v1 import northbound_pb2
from ovnk_api.v1 import northbound_service_pb2 as pb
from ovnk_api.v1 import sync_service_pb2 as sync_pb
from ovnk_server import paging

from ovnk_core.errors import GuardError
from ovnk_core.flows.listing import list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.operation import Insert, Update
from ovnk_core.nb.schema import Column, DatabaseSchema, TableSchema
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.reconcile.columns import GLOBAL_TABLE
from ovnk_core.reconcile.listing import list_rows
from tests.kit import manifest as m
from tests.kit.served import (
    Api,
    Rules,
    Stand,
    apply,
    assert_from_scratch,
    delete_request,
    failure,
    message,
    named,
    names,
    served,
    until,
)

pytestmark = pytest.mark.asyncio
RULES = [{"type": "Deny", "to": {"cidrSelector": cidr}} for cidr in ("198.51.100.0/24", "203.0.113.0/24")]
FIREWALL = {
    "apiVersion": "k8s.ovn.org/v1",
    "kind": "EgressFirewall",
    "metadata": {"name": "default", "namespace": "shop"},
    "spec": {"egress": RULES},
}
CLUSTER = (
    m.node(),
    m.namespace(),
    m.namespace("lab"),
    m.pod(spec={"nodeName": "node-1"}),
    m.pod("db", "lab", spec={"nodeName": "node-1"}),
    m.policy(),
    FIREWALL,
)


async def settled(stand: Stand, api: Api, *manifests: Any) -> int:
    """The revision from which on nothing is on its way."""
    done = await apply(api, *manifests)
    await stand.keeper.wait(done.revision, "programmed", 10)
    await until(lambda: stand.keeper.stages.progress["programmed"].reached == stand.keeper.revision)
    return stand.keeper.revision


async def rows(api: Api, **asked: Any) -> list[northbound_pb2.Row]:
    found, token = [], ""
    while True:
        page = await api.northbound.ListRows(pb.ListRowsRequest(page_token=token, **asked))
        found += page.rows
        token = page.next_page_token
        if not token:
            return found


# ------------------------------------------------------------------------------------------- rows and flows


async def test_rows_are_those_of_the_core_page_by_page(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    expected = list_rows(stand.keeper.plane.cluster.engine, stand.keeper.schema)
    found = await rows(api, page_size=7)
    assert [(each.table, each.uuid) for each in found] == [(each.table, each.uuid) for each in expected]
    by_uuid = {each.uuid: each for each in found}
    for each in expected:
        assert {column.name for column in by_uuid[each.uuid].columns} == set(each.columns)
        assert by_uuid[each.uuid].owner.role == each.owner.role


async def test_rows_by_table_and_owner(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    (port,) = await rows(api, table="Logical_Switch_Port", owner=named("Pod", "web", "shop"))
    columns = {each.name: each.value for each in port.columns}
    assert columns["name"].atom.text == "shop_web"
    assert [each.text for each in columns["addresses"].set.atoms] == ["0a:58:0a:80:00:04 10.128.0.4"]
    assert {each.key.text for each in columns["external_ids"].map.pairs} >= {"ovnk-owner"}
    acls = await rows(api, table="ACL", owner=named("EgressFirewall", "default", "shop"))
    assert sorted(rule.field_path for each in acls for rule in each.rules) == ["spec.egress[0]", "spec.egress[1]"]


async def test_pages_of_rows_show_one_revision(stand: Stand, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await settled(stand, api, *CLUSTER)
    page = await api.northbound.ListRows(pb.ListRowsRequest(page_size=3))
    expected = [each.uuid for each in await rows(api)][3:]
    await settled(stand, api, m.pod("aaa", spec={"nodeName": "node-1"}))
    found = await rows(api, page_size=1_000)
    rest = await api.northbound.ListRows(pb.ListRowsRequest(page_token=page.next_page_token))
    assert [each.uuid for each in rest.rows] == expected
    assert rest.revision == page.revision
    assert len(found) > len(expected) + 3
    other = pb.ListRowsRequest(page_token=page.next_page_token, table="ACL")
    assert (await failure(api.northbound.ListRows(other))).violations[0][0] == "page_token"
    for number in range(paging.MAX_LISTS):
        await settled(stand, api, m.pod(f"p{number}", spec={"nodeName": "node-1"}))
        await rows(api)
    gone = await failure(api.northbound.ListRows(pb.ListRowsRequest(page_token=page.next_page_token)))
    assert gone.reason == "REVISION_COMPACTED"


async def test_flows_are_those_of_the_core(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    engine = stand.keeper.plane.cluster.engine
    expected = list_flows(engine, FlowTable(engine))
    found = (await api.northbound.ListFlows(pb.ListFlowsRequest(page_size=5_000))).flows
    assert [(each.stage, each.priority, each.match, each.actions) for each in found] == [
        (each.stage, each.priority, each.match, each.actions) for each in expected
    ]
    assert {each.pipeline for each in found} == {northbound_pb2.PIPELINE_INGRESS, northbound_pb2.PIPELINE_EGRESS}
    stages = {each.stage for each in found}
    stage = next(each for each in stages if each.startswith("ls_out_acl"))
    some = (await api.northbound.ListFlows(pb.ListFlowsRequest(datapath="node-1", stage=stage))).flows
    assert some
    assert all("node-1" in each.datapaths and each.stage == stage for each in some)


async def test_rows_and_flows_of_other_namespaces_are_not_shown(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    ann = await stand.caller("ann", Rules(("northbound", "*", "shop")))
    assert {each.owner.namespace for each in await rows(ann)} == {"shop"}
    flows = (await ann.northbound.ListFlows(pb.ListFlowsRequest())).flows
    assert {each.source_row.owner.namespace for each in flows} == {"shop"}
    lab = pb.ListRowsRequest(owner=named("Pod", "db", "lab"))
    assert (await failure(ann.northbound.ListRows(lab))).code is StatusCode.PERMISSION_DENIED


# ------------------------------------------------------------------------------------------- pending


async def test_pending_is_what_the_database_lacks() -> None:
    async with served() as stand:
        api = await stand.caller()
        await settled(stand, api, *CLUSTER)
        nothing = await api.northbound.GetPending(pb.GetPendingRequest())
        assert (nothing.total_size, list(nothing.operations)) == (0, [])
        stand.keeper.stages.block(GuardError("stopped for a test"))
        await apply(api, m.pod("new", spec={"nodeName": "node-1"}))
        await until(lambda: bool(stand.keeper.stages.standing().failure))
        found = await api.northbound.GetPending(pb.GetPendingRequest(limit=1))
        assert found.reason == "stopped for a test"
        assert found.total_size >= 2
        assert len(found.operations) == 1
        inserted = (await api.northbound.GetPending(pb.GetPendingRequest())).operations
        port = next(each for each in inserted if each.table == "Logical_Switch_Port")
        assert (port.verb, port.owner.name) == (northbound_pb2.ROW_VERB_INSERT, "new")
        ann = await stand.caller("ann", Rules(("northbound", "Pod", "shop")))
        hers = await ann.northbound.GetPending(pb.GetPendingRequest())
        assert {each.owner.name for each in hers.operations} == {"new"}
        assert hers.total_size == len(hers.operations)
        assert hers.reason == ""


# ------------------------------------------------------------------------------------------- how far


async def acknowledge(database: MemoryDatabase, *, chassis: bool) -> None:
    """What northd and a chassis do."""
    ((uuid, row),) = database.tables[GLOBAL_TABLE].items()
    columns: dict[str, Any] = {"sb_cfg": row["nb_cfg"]}
    if chassis:
        columns |= {"hv_cfg": row["nb_cfg"], "hv_cfg_timestamp": 1_700_000_000_000}
    database.commit([Update(table=GLOBAL_TABLE, uuid=uuid, columns=columns)])


async def test_a_revision_goes_through_the_stages() -> None:
    database = MemoryDatabase()
    async with served(northbound=database) as stand:
        api = await stand.caller()
        done = await apply(api, *CLUSTER)

        async def wait(stage: int, timeout_s: float = 10) -> pb.WaitRevisionResponse:
            timeout = Duration(nanos=int(timeout_s * 1e9) % 10**9, seconds=int(timeout_s))
            request = pb.WaitRevisionRequest(revision=done.revision, stage=stage, timeout=timeout)
            return await api.northbound.WaitRevision(request)

        assert (await wait(pb.STAGE_ACCEPTED)).is_reached
        assert (await wait(pb.STAGE_UNSPECIFIED)).is_reached
        late = await wait(pb.STAGE_REALIZED, 0.05)
        assert not late.is_reached
        assert late.message
        waiting = asyncio.create_task(wait(pb.STAGE_REALIZED))
        await until(lambda: next(iter(database.tables[GLOBAL_TABLE].values()))["nb_cfg"] > 0)
        await acknowledge(database, chassis=False)
        assert (await waiting).is_reached
        nobody = await wait(pb.STAGE_ENFORCED, 0.05)
        assert "no chassis" in nobody.message
        status = await api.northbound.GetStatus(pb.GetStatusRequest(revision=done.revision))
        assert [each.is_reached for each in status.stages] == [True, True, True, False]
        assert status.stages[3].reason == "NoChassis"
        assert all(each.HasField("reached_time") for each in status.stages[:3])
        await acknowledge(database, chassis=True)
        assert (await wait(pb.STAGE_ENFORCED)).is_reached
        assert (await failure(api.northbound.WaitRevision(pb.WaitRevisionRequest(revision=1, stage=9)))).violations[0][
            0
        ] == "stage"


async def test_chassis_that_lag_are_named() -> None:
    table = TableSchema(
        name="Chassis_Private",
        columns={
            "name": Column(name="name", shape="one", key="string"),
            "nb_cfg": Column(name="nb_cfg", shape="one", key="integer"),
        },
        is_root=True,
    )
    south = MemoryDatabase(DatabaseSchema(name="OVN_Southbound", version="20", tables={"Chassis_Private": table}))
    chassis = {"n1": "11111111-1111-4111-8111-111111111111", "n2": "22222222-2222-4222-8222-222222222222"}
    for name, uuid in chassis.items():
        south.commit([Insert(table="Chassis_Private", uuid=uuid, columns={"name": name, "nb_cfg": 0})])
    async with served(southbound=MemoryNorthbound(database=south)) as stand:
        api = await stand.caller()
        await apply(api, *CLUSTER)
        await until(lambda: bool(stand.keeper.stages.standing().lagging))
        south.commit([Update(table="Chassis_Private", uuid=chassis["n1"], columns={"nb_cfg": 1_000})])
        status = await api.northbound.GetStatus(pb.GetStatusRequest())
        assert status.chassis == 2
        assert list(status.lagging_chassis) == ["n2"]
        request = pb.WaitRevisionRequest(
            revision=status.accepted_revision, stage=pb.STAGE_ENFORCED, timeout=Duration(nanos=10_000_000)
        )
        assert list((await api.northbound.WaitRevision(request)).lagging_chassis) == ["n2"]
        ann = await stand.caller("ann", Rules(("list", "*", "shop")))
        hers = await ann.northbound.GetStatus(pb.GetStatusRequest())
        assert hers.is_redacted and not status.is_redacted
        assert not hers.lagging_chassis
        assert not hers.HasField("northbound")
        assert hers.writer.holder == ""


async def test_a_revision_without_rows_is_programmed_at_once(stand: Stand, api: Api) -> None:
    """A request that changes nothing but is remembered has a revision, and nobody would ever write for it."""
    await settled(stand, api, m.namespace())
    done = await apply(api, m.namespace(), request_id="again")
    request = pb.WaitRevisionRequest(revision=done.revision, timeout=Duration(seconds=5))
    assert (await api.northbound.WaitRevision(request)).is_reached


async def test_status_of_a_server(stand: Stand, api: Api) -> None:
    revision = await settled(stand, api, *CLUSTER)
    status = await api.northbound.GetStatus(pb.GetStatusRequest())
    assert status.accepted_revision == status.revision == status.programmed_revision == revision
    assert (status.writer.holder, status.writer.is_self) == ("ovnk", True)
    assert status.writer.epoch > 0
    assert (status.northbound.address, status.northbound.is_connected) == ("memory", True)
    assert not status.HasField("chassis")
    assert status.objects == len(CLUSTER)
    ann = await stand.caller("ann", Rules(("list", "Pod", "*")))
    assert (await ann.northbound.GetStatus(pb.GetStatusRequest())).objects == 2
    await api.objects.Delete(delete_request(named("Namespace", "shop")))
    assert (await api.northbound.GetStatus(pb.GetStatusRequest())).objects == 3


async def test_a_northbound_that_does_not_answer(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    stand.keeper._northbound._is_connected = False  # type: ignore[attr-defined]
    link = (await api.northbound.GetStatus(pb.GetStatusRequest())).northbound
    assert not link.is_connected
    assert link.failure
    assert link.stale_since.seconds > 1_700_000_000
    stand.keeper._northbound._is_connected = True  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------- conditions


async def conditions(api: Api, **asked: Any) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    token = ""
    while True:
        page = await api.northbound.GetConditions(pb.GetConditionsRequest(page_token=token, page_size=2, **asked))
        for each in page.objects:
            name = names([each.reference])[0]
            assert name not in found
            found[name] = {condition.type: condition.status for condition in each.conditions}
        token = page.next_page_token
        if not token:
            return found


async def test_conditions_of_accepted_refused_and_waiting_objects(stand: Stand, api: Api) -> None:
    await settled(stand, api, *CLUSTER)
    stream = api.sync.Sync()
    await stream.write(sync_pb.SyncRequest(sequence=1, begin=sync_pb.SyncBegin(source="kube")))
    bad = {"podSelector": {}, "policyTypes": ["Sideways"]}
    for number, each in enumerate((m.policy(bad), m.policy(bad, name="never"), m.pod("lost", spec={"nodeName": "no"}))):
        await stream.write(sync_pb.SyncRequest(sequence=2 + number, put=sync_pb.SyncPut(object=message(each))))
    while (await stream.read()).sequence < 4:
        pass
    await until(lambda: stand.keeper.stages.progress["programmed"].reached == stand.keeper.revision)
    found = await conditions(api)
    assert len(found) == len(CLUSTER) + 2
    assert found["Pod shop/web"] == {
        "Accepted": "True",
        "Refused": "False",
        "Programmed": "True",
        "Realized": "False",
        "Enforced": "False",
    }
    assert found["NetworkPolicy shop/p"]["Accepted"] == "False"
    assert found["NetworkPolicy shop/p"]["Programmed"] == "True"
    assert found["NetworkPolicy shop/never"] == {"Accepted": "False", "Refused": "True"}
    assert set(await conditions(api, kind="Pod", namespace="lab")) == {"Pod lab/db"}
    assert set(await conditions(api, kind="NetworkPolicy", name="never")) == {"NetworkPolicy shop/never"}
    ann = await stand.caller("ann", Rules(("list", "Pod", "lab")))
    assert set(await conditions(ann)) == {"Pod lab/db"}
    assert_from_scratch(stand.keeper)


# ------------------------------------------------------------------------------------------- events


async def test_events_tell_who_did_what_to_those_who_may_know(stand: Stand) -> None:
    bob, ann = await stand.caller("bob"), await stand.caller("ann", Rules(("list", "Pod", "lab")))
    await settled(stand, bob, *CLUSTER)
    everything = await bob.events.ListEvents(events_pb.ListEventsRequest())
    assert [each.sequence for each in everything.events] == sorted(each.sequence for each in everything.events)
    created = [each for each in everything.events if each.object.name == "web"]
    assert [(each.reason, each.message, each.type) for each in created] == [
        ("Created", "created by bob", events_pb.EVENT_TYPE_NORMAL)
    ]
    assert any(each.reason == "TurnBegan" and not each.HasField("object") for each in everything.events)
    hers = await ann.events.ListEvents(events_pb.ListEventsRequest())
    assert names(each.object for each in hers.events) == ["Pod lab/db"]
    await bob.objects.Delete(delete_request(named("Pod", "web", "shop")))
    asked = events_pb.ListEventsRequest(kind="Pod", namespace="shop", after_sequence=everything.last_sequence)
    (event,) = (await bob.events.ListEvents(asked)).events
    assert (event.reason, event.count) == ("Deleted", 1)
    assert (await bob.events.ListEvents(events_pb.ListEventsRequest(limit=2))).events[-1] == event
    denied = events_pb.ListEventsRequest(kind="Pod", namespace="shop")
    assert (await failure(ann.events.ListEvents(denied))).code is StatusCode.PERMISSION_DENIED
    assert (await failure(bob.events.ListEvents(events_pb.ListEventsRequest(kind="Pods")))).violations[0][0] == "kind"


async def test_a_repeated_event_is_one_that_is_new_again(stand: Stand, api: Api) -> None:
    for _ in range(3):
        stand.keeper.events.add("Same", "the same", severity="Warning")
    before = (await api.events.ListEvents(events_pb.ListEventsRequest())).last_sequence
    stand.keeper.events.add("Same", "the same", severity="Warning")
    asked = events_pb.ListEventsRequest(after_sequence=before, type=events_pb.EVENT_TYPE_WARNING)
    (event,) = (await api.events.ListEvents(asked)).events
    assert event.count == 4
