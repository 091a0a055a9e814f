"""kill -9 at every named place between accept and northbound commit: nothing accepted is lost, nothing refused leaves a
trace, the northbound equals what the store leads to from scratch, and a repeated request has one effect."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ovnk_client import Client, ClientError, Refused, reference
from ovnk_wire import to_manifest

from ovnk_core.cluster import Cluster
from ovnk_core.failpoint import FAILPOINTS
from ovnk_core.keeper.document import object_key
from ovnk_core.keeper.meaning import Meaning
from ovnk_core.model.decision import Decisions
from ovnk_core.model.tables import DNS_DECISION, NODE_DECISION, POD_DECISION
from ovnk_core.nb.tables import TABLES
from ovnk_core.northbound.native import NativeNorthbound
from ovnk_core.reconcile import diff
from ovnk_core.reconcile.columns import GLOBAL_TABLE, mirrored
from ovnk_core.store.history import History
from ovnk_core.store.open import open_log
from ovnk_core.terms.name import ObjectRef
from tests.kit.etcd import EtcdServer
from tests.kit.ovn import DaemonFailed, OvsdbServer, short_directory
from tests.kit.serving import ServerProcess

Manifest = dict[str, Any]
VISITS = (1, 3)
"""The first visit, mostly on the first request, and a later one; what comes quickly is one visit."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@contextlib.asynccontextmanager
async def _store(folder: Path, name: str) -> AsyncIterator[str]:
    if not name.startswith("store.etcd"):
        yield f"sqlite:{folder}/objects.db"
        return
    with EtcdServer(folder) as etcd:
        yield f"etcd:{etcd.endpoint}"


def _node(name: str) -> Manifest:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{name[1:]}"}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}


def _pod(name: str, node: str, **labels: str) -> Manifest:
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}}


def _firewall(*cidrs: str) -> Manifest:
    rules = [{"type": "Deny", "to": {"cidrSelector": cidr}} for cidr in cidrs]
    metadata = {"name": "default", "namespace": "shop"}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": metadata, "spec": {"egress": rules}}


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
STEPS: tuple[tuple[Manifest, ...], ...] = (
    (_node("n1"), NAMESPACE),
    (_pod("a", "n1", app="web"), _pod("b", "n1", app="db")),
    (_firewall("198.51.100.0/24"),),
    (_pod("c", "n1", app="web"),),
    (_pod("a", "n1", app="other"),),
    (_firewall("198.51.100.0/24", "203.0.113.7/32"),),
    (_node("n2"), _pod("d", "n2", app="db")),
    (_pod("e", "n2", app="db"),),
)
BAD = _firewall("198.51.100.300/24")


class Record:
    """What was asked, and what was said about it."""

    def __init__(self) -> None:
        self.present: dict[ObjectRef, Manifest] = {}
        self.answered = 0
        self.unknown: tuple[Manifest, ...] = ()

    def accept(self, objects: tuple[Manifest, ...]) -> None:
        for each in objects:
            metadata = each["metadata"]
            self.present[ObjectRef(each["kind"], metadata.get("namespace", ""), metadata["name"])] = each


async def _run(client: Client, record: Record, first: int = 0) -> None:
    """All steps from ``first`` on, each once, with a refused request and a deletion in between."""
    for number, objects in list(enumerate(STEPS))[first:]:
        record.unknown = objects
        await client.apply(objects, request_id=f"step-{number}")
        record.accept(objects)
        record.unknown, record.answered = (), number + 1
        with pytest.raises(Refused):
            await client.apply([BAD, _pod(f"refused-{number}", "n1")])
    await client.delete(reference("Pod", "b", "shop"), request_id="gone", allow_missing=True)
    record.present.pop(ObjectRef("Pod", "shop", "b"), None)


@pytest.mark.asyncio
@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("name", FAILPOINTS)
async def test_a_kill_loses_nothing_accepted(folder: Path, name: str, visit: int) -> None:
    visit = 1 if name.startswith(("store.compact", "writer.before_bump")) else visit
    with OvsdbServer(folder, "nb") as northbound:
        async with _store(folder, name) as store:
            options = {"history-changes": "1", "history-period-s": "0.1"} if "compact" in name else {}
            options |= {"etcd-term-s": "2"} if store.startswith("etcd") else {}
            parts: dict[str, Any] = {"northbound": northbound.address, "store": store, "options": options}
            failing = {"OVNK_FAILPOINTS": f"{name}=kill@{visit}"}
            record = Record()
            first = ServerProcess(folder, "first", **parts, environment=failing)
            first.start()
            try:
                # It may die at its start, too.
                with contextlib.suppress(ClientError, DaemonFailed):
                    await first.ready()
                    async with Client(first.socket, deadline_s=10, patience_s=3) as client:
                        await _run(client, record)
                await first.died()
                assert first.daemon.status == -9, f"{name} was never reached {visit} times"
            finally:
                first.daemon.stop()
            await _judge(ServerProcess(folder, "second", **parts), record, northbound, store)


async def _judge(server: ServerProcess, record: Record, northbound: OvsdbServer, store: str) -> None:
    server.start()
    try:
        await server.ready()
        async with server.client() as client:
            found = {ref: each async for ref, each in _objects(client)}
            lost = {ref for ref in record.present if ref not in found}
            assert not lost - {ObjectRef("Pod", "shop", "b")}, "accepted and gone"
            unknown = Record()
            unknown.accept(record.unknown)
            assert found.keys() <= record.present.keys() | unknown.present.keys(), "refused and there"
            assert unknown.present.keys() <= found.keys() | record.present.keys() or not (
                unknown.present.keys() & (found.keys() - record.present.keys())
            ), "half of a request"
            await _run(client, record, first=record.answered)
            status = await client.status()
            waited = await client.wait(status.accepted_revision, "programmed", timeout_s=20)
            assert waited.is_reached, waited.message
            assert (await client.pending()).total_size == 0
            found = {ref: each async for ref, each in _objects(client)}
            assert found.keys() == record.present.keys()
            for ref, manifest in record.present.items():
                assert found[ref].get("spec", {}) == manifest.get("spec", {}), ref
    finally:
        server.daemon.stop()
    await _equals_from_scratch(northbound, store, set(record.present))


async def _objects(client: Client) -> AsyncIterator[tuple[ObjectRef, Manifest]]:
    for kind in ("Node", "Namespace", "Pod", "EgressFirewall"):
        async for each in client.objects(kind):
            manifest = to_manifest(each)
            metadata = manifest["metadata"]
            yield ObjectRef(kind, metadata.get("namespace", ""), metadata["name"]), manifest


async def _equals_from_scratch(server: OvsdbServer, store: str, refs: set[ObjectRef]) -> None:
    """What the store alone leads to is what the northbound holds."""
    log = open_log(store)
    contents = await log.open()
    await log.close()
    history = History(contents.base)
    for entry in contents.entries:
        history.advance(entry)
    meaning = Meaning()
    for key, stored in history.everything():
        meaning.add(key, stored.value)
    assert meaning.put.keys() == refs and not meaning.refused
    assert all(history.get(object_key(ref)) for ref in refs)
    decisions = Decisions(
        nodes={key.name: each for key, each in meaning.decisions.get(NODE_DECISION, {}).items()},
        pods={str(key): each for key, each in meaning.decisions.get(POD_DECISION, {}).items()},
        dns=dict(meaning.decisions.get(DNS_DECISION, {})),
    )
    cluster = Cluster(decisions=decisions)
    cluster.apply(meaning.put.values())
    assert cluster.decisions.pods == decisions.pods and cluster.decisions.nodes == decisions.nodes
    northbound = NativeNorthbound(server.address)
    await northbound.connect(mirrored())
    try:
        actual = {table: northbound.rows(table) for table in (*TABLES, GLOBAL_TABLE)}
        desired = diff.Desired(cluster.engine, northbound.schema)
        assert diff.full(desired, actual, adopt=False).operations == ()
    finally:
        await northbound.close()
