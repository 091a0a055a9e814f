"""15.4, IPsec: a switch of the installation, what is encrypted (15.4.1), the MTU it costs, the cipher (15.4.2)."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.analysis.diff import row_operations
from ovnk_core.analysis.lint import lint
from ovnk_core.certificates.office import CIPHER, ICV_BYTES, KEY_BITS, MODE, Office
from ovnk_core.certificates.signing import Request
from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.features.ipsec.verdict import OURS, judge
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.cluster import InstallDecision
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.model.tables import CLUSTER
from ovnk_core.nb.operation import Update
from ovnk_core.northbound.memory import MemoryDatabase, MemoryNorthbound
from ovnk_core.northbound.memory_database import GLOBAL_UUID
from ovnk_core.topology.annotations import NODE_TOLD
from ovnk_core.topology.place import NODE_PLACE, POD_MTU
from ovnk_core.trace.intent import answer
from ovnk_core.trace.question import Leg, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine, Tracer
from tests.kit import manifest as m
from tests.kit.hybrid import RANGE, WINDOWS_POD, installed, landscape, operator, pod, put, reasons
from tests.kit.served import until

Raw = dict[str, Any]
IPSEC = operator({"ipsecConfig": {}})
PLAIN = operator({})
PATH = "spec.defaultNetwork.ovnKubernetesConfig.ipsecConfig"


def nodes(*mtus: int | None) -> list[Raw]:
    found = []
    for index, mtu in enumerate(mtus, 1):
        each = m.node(f"node-{index}", address=f"192.0.2.{index}")
        if mtu is not None:
            each["metadata"].setdefault("annotations", {})["ovnk.dev/node-mtu"] = str(mtu)
        found.append(each)
    return found


# ------------------------------------------------------------------------------- the switch


@pytest.mark.parametrize(
    ("config", "is_on"),
    [({}, False), ({"ipsecConfig": None}, False), ({"ipsecConfig": {}}, True)]
    + [({"ipsecConfig": {"mode": word}}, word == "Full") for word in ("Full", "Disabled")],
)
def test_15_4_ipsec_is_disabled_by_default(config: Raw, is_on: bool) -> None:
    cluster = installed(operator(config), *nodes(None))
    assert cluster.network.has_ipsec is is_on
    assert cluster.installed == InstallDecision(has_ipsec=is_on)


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"mode": "External"}, "hosts with the world outside"), ({"mode": "full"}, "unknown mode"), ([], "mapping")],
)
def test_other_modes_are_refused(config: Any, reason: str) -> None:
    (refused,) = parse_objects([operator({"ipsecConfig": config})]).refused
    assert any(PATH in error.path for error in refused.errors)
    assert reason in "".join(map(str, refused.errors)) or reason == "mapping"


def test_15_4_can_be_enabled_only_during_cluster_installation() -> None:
    cluster = installed(PLAIN, *nodes(None))
    put(cluster, IPSEC)
    assert f"{PATH}: IPsec encryption can be enabled only during cluster installation" in reasons(cluster)
    (ref,) = cluster.refused
    assert {(each.kind, each.name) for each in cluster.refused[ref].errors} == {(ref.kind, ref.name)}
    assert not cluster.network.has_ipsec


def test_15_4_cannot_be_disabled_after_it_is_enabled() -> None:
    cluster = installed(IPSEC, *nodes(None))
    put(cluster, PLAIN)
    assert f"{PATH}: IPsec encryption cannot be disabled after it is enabled" in reasons(cluster)
    assert cluster.network.has_ipsec
    put(cluster, operator({"ipsecConfig": {"mode": "Full"}}))
    assert not cluster.refused


def test_before_the_first_node_and_after_the_last_it_may_be_chosen() -> None:
    cluster = installed(PLAIN)
    put(cluster, IPSEC)
    put(cluster, PLAIN)
    put(cluster, IPSEC, *nodes(None))
    assert cluster.network.has_ipsec
    (node,) = nodes(None)
    cluster.apply((), [item.ref for item in parse_objects([node]).items])
    put(cluster, PLAIN)
    assert not cluster.refused
    assert not cluster.network.has_ipsec


def test_the_choice_is_recorded() -> None:
    cluster = installed(IPSEC, *nodes(None))
    text = json.dumps(decisions_manifest(cluster.decisions))
    again = Cluster(decisions=read_decisions(text.encode(), source="file"))
    assert again.installed == InstallDecision(has_ipsec=True)
    put(again, *nodes(None))
    assert again.network.has_ipsec, "also while nobody states the Network"


# ------------------------------------------------------------------------------- the row


@pytest.mark.asyncio
async def test_nb_global_is_ours_only_with_the_mark() -> None:
    database = MemoryDatabase()

    def row() -> tuple[bool, bool]:
        found = northbound.rows("NB_Global")[GLOBAL_UUID]
        return found["ipsec"], "ovnk-ipsec" in found["external_ids"]

    northbound = MemoryNorthbound(database=database)
    async with ControlPlane(northbound) as plane:
        await plane.apply([IPSEC, m.namespace(), *nodes(None)])
        await plane.wait()
        assert row() == (True, True)
        (result,) = (await plane.apply([PLAIN])).results
        assert "cannot be disabled" in str(result.errors)
    northbound = MemoryNorthbound(database=database)
    async with ControlPlane(northbound, allow_prune=True) as plane:
        assert plane.cluster.installed == InstallDecision(has_ipsec=True), "read back"
        await plane.apply([m.namespace(), *nodes(None)])
        await plane.wait()
        assert row() == (True, True), "a Network that nobody states takes nothing back"
        uuid = GLOBAL_UUID
        foreign = MemoryNorthbound(database=database)
        await foreign.connect({"NB_Global": ("ipsec",)}, timeout_s=5)
        await foreign.transact([Update(table="NB_Global", uuid=uuid, columns={"ipsec": False})])
        await until(lambda: row() == (True, True))
        await plane.delete([item.ref for item in parse_objects(nodes(None)).items])
        await plane.wait()
        assert row() == (False, False)
        await foreign.transact([Update(table="NB_Global", uuid=uuid, columns={"ipsec": True})])
        await plane.apply([m.namespace("other")])
        await plane.wait()
        assert row() == (True, False), "what somebody else turned on stays on"
        await foreign.close()


# ------------------------------------------------------------------------------- MTU


@pytest.mark.parametrize(
    ("config", "mtus", "mtu"),
    [
        ({}, (), 1400),
        ({}, (None,), 1400),
        ({"ipsecConfig": {}}, (None,), 1354),
        ({}, (9000, 9000), 8900),
        ({}, (9000, None), 1400),
        ({"ipsecConfig": {}}, (9000, 1600, 9000), 1454),
        ({"mtu": 1300}, (9000,), 1300),
        ({"mtu": 1400}, (None,), 1400),
        ({"mtu": 1354, "ipsecConfig": {}}, (None,), 1354),
    ],
)
def test_15_2_2_the_mtu_follows_the_smallest_node(config: Raw, mtus: tuple[int | None, ...], mtu: int) -> None:
    cluster = installed(operator(config), *nodes(*mtus))
    assert cluster.engine.rows(POD_MTU)[CLUSTER] == mtu
    assert {place.gateway_mtu_bytes for place in cluster.engine.rows(NODE_PLACE).values()} <= {mtu}
    assert {told.mtu_bytes for told in cluster.engine.rows(NODE_TOLD).values()} <= {mtu}


def test_a_smaller_node_changes_every_gateway_and_back() -> None:
    cluster = installed(PLAIN, *nodes(9000, 9000))
    put(cluster, *nodes(9000, 9000, 1600))
    assert {place.gateway_mtu_bytes for place in cluster.engine.rows(NODE_PLACE).values()} == {1500}
    cluster.apply((), [item.ref for item in parse_objects(nodes(None, None, None)[2:]).items])
    assert {place.gateway_mtu_bytes for place in cluster.engine.rows(NODE_PLACE).values()} == {8900}
    cluster.engine.verify()


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"mtu": 1401}, "must be at most 1400: 100 less than the smallest node MTU, 1500 of node node-2"),
        ({"mtu": 1355, "ipsecConfig": {}}, "must be at most 1354: 100 + 46 with IPsec less than the smallest node"),
    ],
)
def test_a_larger_mtu_is_refused_with_the_numbers(config: Raw, reason: str, is_later: bool) -> None:
    cluster = Cluster(check=True)
    if is_later:
        put(cluster, operator({key: value for key, value in config.items() if key != "mtu"}), *nodes(9000, None))
    put(cluster, operator(config), *nodes(9000, None))
    assert reason in reasons(cluster)


def test_a_node_that_comes_later_is_a_remark_and_takes_nothing_back() -> None:
    cluster = installed(operator({"mtu": 8900}), *nodes(9000))
    put(cluster, *nodes(9000, 1500))
    assert not cluster.refused
    remark = "node node-2: MTU 1500 carries pods of 1400 at most, and 8900 is stated"
    assert remark in lint(cluster)
    assert not cluster.copy().refused, "nor does a copy"
    put(cluster, operator({"mtu": 8900}))
    assert not cluster.refused, "nor stating the same again"
    put(cluster, operator({"mtu": 8800}))
    assert "must be at most 1400" in reasons(cluster)


@pytest.mark.parametrize("text", ["", "721", "65536", "1500.0", "-1500", "\uff19000", "15OO", "1" * 30])
def test_a_node_mtu_that_is_none(text: str) -> None:
    node = m.node("node-1", {"x": "y"})
    node["metadata"]["annotations"]["ovnk.dev/node-mtu"] = text
    loaded = parse_objects([node])
    assert bool(loaded.refused) is bool(text)


# ------------------------------------------------------------------------------- 15.4.1


@pytest.fixture(scope="module")
def scene() -> Scene:
    config = {"ipsecConfig": {}, "hybridOverlayConfig": {"hybridClusterNetwork": [dict(RANGE)]}}
    objects = [operator(config), *landscape()[1:], pod("web2", "node-1")]
    return Scene(installed(*objects))


def legs(scene: Scene, source: str, target: str) -> tuple[Leg, ...]:
    found = answer(scene, parse_question(source, target, "tcp", 80))
    assert found.verdict == "allow", found.reason
    return found.legs


def address(scene: Scene, name: str) -> str:
    return next(str(each.addresses[0]) for key, each in scene.endpoints.items() if key.name == name)


CASES = [
    ("pods on different nodes", "{ns}/web", "{ns}/db", [("geneve", True, "pods on different nodes (15.4.1)")]),
    ("host to pod", "192.0.2.1", "{ns}/db", [("geneve", True, "from the host network to a pod (15.4.1)")]),
    ("same node", "{ns}/web", "{ns}/web2", [("local", False, "on the same node (15.4.1)")]),
    ("hosts", "192.0.2.1", "192.0.2.2", [("underlay", False, "between hosts (15.4.1)")]),
    ("pod to host", "{ns}/web", "192.0.2.2", [("underlay", False, "from a pod to the host network (15.4.1)")]),
    ("pod to management port", "{ns}/web", "10.128.2.2", [("geneve", False, "from a pod to the host network")]),
    ("Windows", "{ns}/web", WINDOWS_POD, [("vxlan", False, OURS)]),
    ("outside", "{ns}/web", "203.0.113.9", [("underlay", False, OURS)]),
]


@pytest.mark.parametrize(("source", "target", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_15_4_1_encrypted_and_unencrypted_flows(
    scene: Scene, source: str, target: str, expected: list[tuple[str, bool, str]]
) -> None:
    namespace = next(key.namespace for key in scene.endpoints if key.name == "web")
    found = legs(scene, source.format(ns=namespace), target.format(ns=namespace))
    assert [(leg.transport, leg.is_encrypted) for leg in found] == [each[:2] for each in expected]
    assert all(each[2] in leg.protection for leg, each in zip(found, expected, strict=True))


LOCAL, HOSTS = ("local", "does not leave the node"), ("underlay", "between hosts (15.4.1)")
POD_TO_HOST, HOST_TO_POD = ("underlay", "from a pod to the host"), ("geneve", "from the host network to a pod (15.4.1)")
OUTSIDE, ON = ("underlay", "outside of the tunnels"), ("geneve", f"between nodes, to a pod ({OURS})")
SERVED = [
    ("a host's to a cluster IP", "shop/host", "svc:shop/front:80", [LOCAL, HOST_TO_POD]),
    ("a host's to its own node port", "shop/host", "192.0.2.1:30080", [LOCAL, HOST_TO_POD]),
    ("a host's to another node's port", "shop/host", "192.0.2.3:30080", [HOSTS, HOST_TO_POD]),
    ("a host's to the port of the pod's node", "shop/host", "192.0.2.2:30080", [HOSTS, LOCAL]),
    ("a pod's to another node's port", "shop/web", "192.0.2.3:30080", [POD_TO_HOST, ON]),
    ("from outside", "203.0.113.9", "192.0.2.3:30080", [OUTSIDE, ON]),
]


@pytest.fixture(scope="module")
def served() -> Tracer:
    spec = {"type": "NodePort", "clusterIP": "172.30.0.9", "ports": [{"port": 80, "nodePort": 30080}]}
    notes = {"k8s.ovn.org/node-subnets": '{"default": "10.129.0.0/23"}'}
    machines = nodes(None, None, None)
    machines[1]["metadata"]["annotations"] = notes
    backend = m.pod("db", spec={"nodeName": "node-2"}, status={"podIP": "10.129.0.9"})
    host = m.pod("host", spec={"nodeName": "node-1", "hostNetwork": True})
    slices = m.endpoint_slice([{"addresses": ["10.129.0.9"]}], [{"port": 80}], service="front")
    objects = [IPSEC, *machines, m.namespace("shop"), m.service(spec, "front"), slices, backend]
    objects += [host, m.pod("web", spec={"nodeName": "node-1"})]
    cluster = installed(*objects)
    return Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))


@pytest.mark.parametrize("engine", ["all", "flows"])
@pytest.mark.parametrize(("source", "target", "expected"), [row[1:] for row in SERVED], ids=[row[0] for row in SERVED])
def test_15_4_1_legs_to_a_service_are_those_of_who_asks(
    served: Tracer, engine: Engine, source: str, target: str, expected: list[tuple[str, str]]
) -> None:
    found = served.ask(parse_question(source, target, "tcp"), engine)
    assert found.verdict == "allow", found.reason
    assert [leg.transport for leg in found.legs] == [each[0] for each in expected]
    assert all(each[1] in leg.protection for leg, each in zip(found.legs, expected, strict=True)), found.legs
    assert [leg.is_encrypted for leg in found.legs] == [leg.transport == "geneve" for leg in found.legs]
    assert all(one.target == other.source for one, other in pairwise(found.legs))


def test_a_hosts_own_request_to_a_service_does_not_come_from_outside(served: Tracer) -> None:
    assert served.ask(parse_question("shop/host", "svc:shop/front:80", "tcp")).path == "overlay"


def test_the_leg_to_a_remote_egress_node_is_encrypted() -> None:
    found = judge("pod", "outside", "geneve")
    assert (found.is_encrypted, OURS in found.text) == (True, True)
    assert not judge("pod", "outside", "underlay").is_encrypted


def test_without_ipsec_legs_say_nothing() -> None:
    plain = Scene(installed(PLAIN, *landscape()[1:4], pod("web", "node-1"), pod("db", "node-2")))
    namespace = next(key.namespace for key in plain.endpoints)
    (leg,) = legs(plain, f"{namespace}/web", f"{namespace}/db")
    assert (leg.is_encrypted, leg.protection) == (False, "")


def test_15_4_2_cipher_key_and_mode() -> None:
    assert (CIPHER, ICV_BYTES, KEY_BITS, MODE) == ("AES-GCM-16-256", 16, 256, "Transport")


def test_15_4_3_the_request_that_the_operator_makes_is_signed(tmp_path: Path) -> None:
    """The command of OVN-Kubernetes' script, with a key that is made by the way."""
    cn, key = "worker-1", str(tmp_path / "worker-1.key")
    command = ["openssl", "req", "-new", "-text", "-extensions", "v3_req", "-addext", f"subjectAltName = DNS:{cn}"]
    command += ["-subj", f"/C=US/O=ovnkubernetes/OU=kind/CN={cn}", "-newkey", "rsa:2048", "-nodes", "-keyout", key]
    pem = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    issued = Office(str(tmp_path / "ca")).sign(Request(node=cn, pem=pem), cn, datetime(2026, 1, 1, tzinfo=UTC))
    assert issued.standing.subject == cn


def test_a_cluster_with_ipsec_differs_from_itself_in_nothing() -> None:
    schema = MemoryDatabase().schema
    assert row_operations(installed(IPSEC), installed(IPSEC), schema) == ()
    (update,) = [each for each in row_operations(installed(), installed(IPSEC), schema) if isinstance(each, Update)]
    assert update.columns["ipsec"] is True
