"""Real packets through an egress router: the printed routes and ruleset are loaded as they are, in a namespace.

A client of another node, a router pod with eth0 and net1, and an outside that has only an address on net1's link: it
has no route to the cluster, so it can answer nothing but the reserved source address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.plan import RouterPlan, cluster_routes, nft_ruleset, routing_table
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import load
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit.namespace import link
from tests.kit.ovn import program
from tests.kit.packets import Host, ask

FAR = {4: "203.0.113.26", 6: "2001:db8:9::26"}
"""Behind the gateway."""
CLIENT = {4: "10.128.0.9", 6: "fd01::9"}
POD = {4: "10.129.2.31", 6: "fd01:0:0:2::31"}
RESERVED = {4: "192.168.12.99", 6: "fd00:12::99"}
NEAR = {4: "192.168.12.91", 6: "fd00:12::91"}
SUBNETS = {4: "10.129.2.0/23", 6: "fd01:0:0:2::/64"}
GATEWAY = {4: "192.168.12.1", 6: "fd00:12::1"}
PREFIX = {4: 24, 6: 64}


def cluster(tmp_path: Path, family: int, destinations: list[str]) -> Cluster:
    ip = {
        "addresses": [f"{RESERVED[family]}/{PREFIX[family]}"],
        "destinations": destinations,
        "gateway": GATEWAY[family],
    }
    network = {"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}
    if family == 6:
        network = {"clusterNetwork": [{"cidr": "fd01::/48", "hostPrefix": 64}], "serviceNetwork": ["fd02::/112"]}
    uplink = {4: "192.168.12.5", 6: "fd00:12::5"}[family]
    subnets = json.dumps({"default": [SUBNETS[family]]})
    config = json.dumps({"type": "egress-router", "name": "router", "ip": ip})
    objects: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("config.openshift.io/v1", "Network", {"name": "cluster"}, {"spec": network}),
        (
            "v1",
            "Node",
            {"name": "n1", "annotations": {"k8s.ovn.org/node-subnets": subnets}},
            {"status": {"addresses": [{"type": "InternalIP", "address": uplink}]}},
        ),
        ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", {"name": "router"}, {"spec": {"config": config}}),
        (
            "v1",
            "Pod",
            {"name": "router", "annotations": {"k8s.v1.cni.cncf.io/networks": "router"}},
            {"spec": {"nodeName": "n1"}, "status": {"podIP": POD[family]}},
        ),
        ("v1", "Pod", {"name": "client"}, {"spec": {"nodeName": "n1"}}),
    ]
    path = tmp_path / "objects.json"
    items = [{"apiVersion": version, "kind": kind, "metadata": meta} | rest for version, kind, meta, rest in objects]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    loaded, made = load([str(path)]), Cluster()
    assert not loaded.refused
    made.replace(loaded)
    return made


@contextmanager
def wired(plan: RouterPlan) -> Iterator[tuple[Host, Host]]:
    """(client, outside) with the router between them."""
    family = plan.inner.family
    with ExitStack() as stack:
        client = Host("client", ())
        stack.callback(client.close)
        router = Host("router", (str(plan.inner),))
        stack.callback(router.close)
        outside = Host("outside", (f"{NEAR[family]}/{PREFIX[family]}",))
        stack.callback(outside.close)
        link(client.namespace, "eth0", router.namespace, "eth0")
        link(outside.namespace, "eth0", router.namespace, plan.interface)
        quick = " nodad" if family == 6 else ""
        client.namespace.ip(
            f"addr add {CLIENT[family]}/{plan.inner.address.host.prefix} dev lo{quick}",
            f"addr add {plan.inner_gateway}/{plan.inner.prefix} dev eth0 noprefixroute{quick}",
            f"route add {plan.inner.subnet} dev eth0 src {CLIENT[family]}",
        )
        gateway = f"addr add {GATEWAY[family]}/{plan.inner.address.host.prefix} dev eth0{quick}"
        outside.settle(gateway, f"addr add {FAR[family]}/{plan.inner.address.host.prefix} dev lo{quick}")
        router.namespace.ip(
            f"addr add {plan.inner} dev eth0 noprefixroute{quick}",
            f"addr add {plan.router.address} dev {plan.interface} noprefixroute{quick}",
        )
        # What others depend on comes first, as the plug-in has it.
        lines = sorted((*routing_table(plan), *cluster_routes(plan)), key=lambda line: " via " in line)
        batch = "".join(f"route replace {line}\n" for line in lines)
        router.namespace.run([program("ip"), f"-{family}", "-batch", "-"], given=batch)
        forwarding = "ipv4/ip_forward" if family == 4 else "ipv6/conf/all/forwarding"
        router.namespace.run(["sh", "-c", f"echo 1 > /proc/sys/net/{forwarding}"])
        for _ in range(2):  # Loading it again changes nothing.
            router.namespace.run([program("nft"), "-f", "-"], given=nft_ruleset(plan))
        yield client, outside


@pytest.mark.parametrize("family", [4, 6])
def test_the_server_sees_the_reserved_address(tmp_path: Path, family: int) -> None:
    made = cluster(tmp_path, family, [NEAR[family]])
    plan = made.engine.rows(ROUTER_PLAN)[NamespacedName("default", "router")]
    with wired(plan) as (client, outside):
        servers = {"near": outside.listen(3306, family=family)}
        found = ask(client, POD[family], 3306, servers=servers)
        assert (found.verdict, found.client) == ("allow", RESERVED[family])
        with outside.new_socket(family, "udp") as server:
            # Bound, because the kernel would choose among its addresses for the answer.
            server.bind((NEAR[family], 53))
            found = ask(client, POD[family], 53, servers={"near": server}, protocol="udp")
            assert (found.verdict, found.client) == ("allow", RESERVED[family])


@pytest.mark.parametrize("family", [4, 6])
def test_ports_are_redirected_as_the_trace_says(tmp_path: Path, family: int) -> None:
    made = cluster(tmp_path, family, [f"80 tcp {FAR[family]}", f"8080 tcp {NEAR[family]} 8443"])
    plan = made.engine.rows(ROUTER_PLAN)[NamespacedName("default", "router")]
    tracer = Tracer(Scene(made), lambda: FlowTable(made.engine))
    with wired(plan) as (client, outside):
        servers = {str(port): outside.listen(port, family=family) for port in (80, 443, 8443)}
        for port, server in ((80, "80"), (8080, "8443")):
            found = ask(client, POD[family], port, servers=servers)
            assert (found.verdict, found.server, found.client) == ("allow", server, RESERVED[family])
            said = tracer.ask(parse_question("default/client", f"default/router:{port}"), "all").egress_router
            assert said is not None
            assert (said.source_ip, said.destination.rpartition(":")[2]) == (found.client, server)
        # No destination takes it, so it ends at the router pod, where nobody listens.
        assert ask(client, POD[family], 443, servers=servers).verdict == "reject"
        assert tracer.ask(parse_question("default/client", "default/router:443"), "all").egress_router is None
