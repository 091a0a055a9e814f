"""Hybrid networking before OVN: what goes to Windows nodes leaves the pod's own switch by ``int-<node>`` and by nothing
else, what comes from them enters there, and NetworkPolicies of the Linux side have their say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import MAC_BINDINGS
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import NODE_PLACE
from ovnk_core.trace.question import Question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.hybrid import hybrid, installed, pod, windows_node
from tests.kit.oracle import Laboratory, where_it_should_end

pytestmark = pytest.mark.ovn
NODES, PODS = 3, 4
WINDOWS = ("10.132.0.4", "10.132.0.200", "10.132.2.9", "10.132.3.254")
BLOCKS = ("10.132.0.0/24", "10.132.0.0/14", "10.132.2.0/23", "203.0.113.0/24")


def random_hybrid(seed: int) -> Cluster:
    """Linux and Windows nodes, one of the former without a gateway, pods, and policies that name Windows addresses."""
    rng = random.Random(seed)
    nodes = [
        m.node(f"l{at}", {"l3-gateway-config": {"default": {"mode": ""}}} if at == 2 else {}, f"192.0.2.{at + 1}")
        for at in range(NODES)
    ]
    pods = [pod(f"p{at}-{host}", f"l{at}", group=rng.choice("abc")) for at in range(NODES) for host in range(PODS)]
    policies = []
    for at, group in enumerate("ab"):
        rule = {"ports": [{"port": 80}]} if rng.random() < 0.5 else {}
        block = {"ipBlock": {"cidr": rng.choice(BLOCKS)}}
        spec: dict[str, Any] = {"podSelector": {"matchLabels": {"group": group}}, "policyTypes": ["Ingress", "Egress"]}
        policies.append(
            m.policy(spec | {"ingress": [{"from": [block], **rule}], "egress": [{"to": [block]}]}, f"n{at}")
        )
    windows = [windows_node(f"w{at}", f"192.0.2.{at + 20}") for at in range(2)]
    return installed(hybrid(), m.namespace(), *nodes, *windows, *pods, *policies, base=Cluster())


@pytest.mark.parametrize("seed", range(5100, 5104))
def test_windows_packets_pass_by_the_port_of_the_pods_own_node(laboratory: Laboratory, seed: int) -> None:
    cluster = random_hybrid(seed)
    laboratory.show(cluster)
    scene, rng = Scene(cluster), random.Random(seed)
    tracer = Tracer(scene, lambda: FlowTable(cluster.engine))
    verdicts = []
    for key in sorted(scene.endpoints):
        for text in WINDOWS:
            far, port = parse_address(text), rng.choice((80, 81))
            ends: list[tuple[NamespacedName | Address, NamespacedName | Address]] = [(key, far), (far, key)]
            for source, target in ends:
                question = Question(source=source, target=target, protocol=rng.choice(("tcp", "udp")), port=port)
                answer, trace = tracer.ask(question, "all"), laboratory.ask(scene, question)
                wanted = [where_it_should_end(scene, question)] if answer.verdict == "allow" else []
                ends_there = [each for each in trace.outputs if each[1] in ("", "localnet")]
                assert ends_there == wanted, (question, answer, trace.text)
                assert answer.path == "vxlan"
                verdicts.append(answer.verdict)
    assert len(verdicts) == NODES * PODS * len(WINDOWS) * 2
    assert set(verdicts) == {"allow", "drop"}
    assert not laboratory.parse_warnings()


def test_the_gateways_macs_reach_the_southbound(laboratory: Laboratory) -> None:
    """A chassis resolves a gateway by Static_MAC_Binding; ovn-trace does not read it, so the rows are looked at."""
    cluster = random_hybrid(5104)
    laboratory.show(cluster, states=())
    gateways = {
        (row.logical_port, row.ip, row.mac)
        for row in cluster.engine.rows(MAC_BINDINGS).values()
        if row.logical_port.startswith("rtos-")
    }
    assert len(gateways) == len(cluster.engine.rows(NODE_PLACE)) == NODES
    with laboratory.central.southbound.wire() as wire:
        rows = wire.select("Static_MAC_Binding", columns=["logical_port", "ip", "mac"])
    assert gateways <= {(row["logical_port"], row["ip"], row["mac"]) for row in rows}
