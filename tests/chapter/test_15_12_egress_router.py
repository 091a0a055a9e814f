"""15.11.1.3 and 15.12: the egress router of the manual, as it is printed and with the label that its pod lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovnk_core.analysis.lint import lint
from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_router.plan import cluster_routes, routing_table
from ovnk_core.features.egress_router.platform import requirements, support
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import load
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer

NODE = "ci-ln-9x2bnsk-f76d1-j2v6g-worker-c-24g65"
DEFINITION = """\
apiVersion: "k8s.cni.cncf.io/v1"
kind: NetworkAttachmentDefinition
metadata:
  name: egress-router-redirect
spec:
  config: '{
    "cniVersion": "0.4.0",
    "type": "egress-router",
    "name": "egress-router",
    "ip": {
      "addresses": [
        "192.168.12.99/24"
        ],
      "destinations": [
        "192.168.12.91/32"
        ],
      "gateway": "192.168.12.1"
      }
    }'
"""
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: egress-router-pod
  annotations:
    k8s.v1.cni.cncf.io/networks: egress-router-redirect
spec:
  containers:
    - name: egress-router-pod
      image: registry.redhat.com/openshift3/ose-pod
"""
LABELLED = POD.replace("  annotations:", "  labels: {name: egress-router-pod}\n  annotations:")
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: egress-1
spec:
  ports:
  - name: database
    protocol: TCP
    port: 3306
  type: ClusterIP
  selector:
    name: egress-router-pod
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: egress-1-a, labels: {kubernetes.io/service-name: egress-1}}
addressType: IPv4
ports: [{name: database, port: 3306, protocol: TCP}]
endpoints: [{addresses: [10.129.2.31]}]
"""
"""What the endpoint controller writes once the Service selects the pod."""
AROUND = f"""\
apiVersion: v1
kind: Node
metadata: {{name: {NODE}, annotations: {{k8s.ovn.org/node-subnets: '{{"default":"10.129.2.0/23"}}'}}}}
status: {{addresses: [{{type: InternalIP, address: 192.168.12.5}}]}}
---
apiVersion: v1
kind: Node
metadata: {{name: other}}
status: {{addresses: [{{type: InternalIP, address: 192.168.12.6}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{nodeName: other}}
"""
ROUTER = NamespacedName("default", "egress-router-pod")
ROUTES = """\
default via 192.168.12.1 dev net1
10.129.2.0/23 dev eth0 proto kernel scope link src 10.129.2.31
192.168.12.0/24 dev net1 proto kernel scope link src 192.168.12.99
192.168.12.1 dev net1
"""
"""Step 2.7 of the verification."""


def placed(pod: str) -> str:
    """The pod as it runs: on the node and with the address of the manual's events."""
    running = pod.replace("spec:\n", f"spec:\n  nodeName: {NODE}\n")
    return f"{running}status: {{podIP: 10.129.2.31}}\n"


def loaded(tmp_path: Path, *documents: str) -> Cluster:
    path = tmp_path / "objects.yaml"
    path.write_text("---\n".join(documents))
    found, cluster = load([str(path)]), Cluster(check=True)
    assert not found.refused
    cluster.replace(found)
    return cluster


def asked(cluster: Cluster, target: str, source: str = "default/client", protocol: str = "tcp") -> Answer:
    return Tracer(Scene(cluster), lambda: FlowTable(cluster.engine)).ask(
        parse_question(source, target, protocol), "all"
    )


def test_the_routing_table_is_the_manuals(tmp_path: Path) -> None:
    plan = loaded(tmp_path, AROUND, DEFINITION, placed(POD)).engine.rows(ROUTER_PLAN)[ROUTER]
    assert "\n".join(routing_table(plan)) + "\n" == ROUTES
    # Without these, which the manual does not print, replies to clients on other nodes would leave by net1.
    assert cluster_routes(plan)[:2] == (
        "10.128.0.0/14 via 10.129.2.1 dev eth0",
        "172.30.0.0/16 via 10.129.2.1 dev eth0",
    )


def test_the_example_as_printed_rejects(tmp_path: Path) -> None:
    """The Service selects name=egress-router-pod, the Pod has no label: nobody writes an endpoint."""
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), SERVICE)
    found = asked(cluster, "svc:default/egress-1:3306")
    assert found.verdict == "reject"
    assert "no endpoint" in found.reason
    assert found.egress_router is None
    remarks = [each for each in lint(cluster) if "egress" in each]
    assert any(each.startswith("Service default/egress-1: selects no pod") for each in remarks)
    assert any("default/egress-router-pod: no Service selects it" in each for each in remarks)


def test_the_example_with_the_label_works(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(LABELLED), SERVICE, SLICE)
    found = asked(cluster, "svc:default/egress-1:3306")
    assert found.verdict == "allow"
    assert found.egress_router is not None
    assert (found.egress_router.pod, found.egress_router.node) == (ROUTER, NODE)
    assert (found.egress_router.source_ip, found.egress_router.destination) == ("192.168.12.99", "192.168.12.91:3306")
    assert found.legs[-1].target == "192.168.12.91"
    assert found.steps[-1].stage == "egress-router"
    assert "past the egress firewall of default" in found.steps[-1].text
    assert not [each for each in lint(cluster) if "egress" in each.lower()]


def test_every_port_goes_to_the_same_port(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD))
    for target in (f"{ROUTER}:8080", "10.129.2.31:8080"):
        found = asked(cluster, target)
        assert found.egress_router is not None
        assert found.egress_router.destination == "192.168.12.91:8080"
    echo = asked(cluster, str(ROUTER), protocol="icmp")
    assert echo.egress_router is not None
    assert echo.egress_router.destination == "192.168.12.91"


def test_with_ports_the_others_end_at_the_pod(tmp_path: Path) -> None:
    ports = DEFINITION.replace('"192.168.12.91/32"', '"80 tcp 203.0.113.9", "8080 UDP 203.0.113.26/30 53"')
    cluster = loaded(tmp_path, AROUND, ports, placed(POD))
    plain = asked(cluster, f"{ROUTER}:80").egress_router
    moved = asked(cluster, f"{ROUTER}:8080", protocol="udp").egress_router
    assert plain is not None
    assert moved is not None
    assert (plain.destination, moved.destination) == ("203.0.113.9:80", "203.0.113.26:53")
    for target, protocol in ((f"{ROUTER}:80", "udp"), (f"{ROUTER}:443", "tcp")):
        found = asked(cluster, target, protocol=protocol)
        assert (found.verdict, found.egress_router) == ("allow", None)
        assert "ends at the router pod" in found.steps[-1].text


def test_what_the_router_pod_sends_itself_leaves_past_ovn(tmp_path: Path) -> None:
    firewall = """\
apiVersion: k8s.ovn.org/v1
kind: EgressFirewall
metadata: {name: default}
spec: {egress: [{type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}
"""
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), firewall)
    outside = asked(cluster, "198.51.100.9:443", str(ROUTER))
    assert outside.verdict == "allow"
    assert "as 192.168.12.99, past OVN" in outside.reason
    assert asked(cluster, "198.51.100.9:443").verdict == "drop"
    assert asked(cluster, "default/client:80", str(ROUTER)).path == "overlay"
    assert any("the egress firewall of default does not see" in each for each in lint(cluster))


def test_a_definition_that_nobody_declares(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, placed(POD))
    found = asked(cluster, f"{ROUTER}:80")
    assert (found.verdict, found.egress_router) == ("allow", None)
    assert "default/egress-router-redirect, which is not declared" in found.steps[-1].text
    assert any("its containers are not created until it is" in each for each in lint(cluster))


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("", 0),
        ("BareMetal", 0),
        ("oVirt", 1),
        ("VSphere", 3),
        ("OpenStack", 1),
        ("AWS", 1),
        ("Azure", 1),
    ],
)
def test_what_the_platform_must_allow(tmp_path: Path, platform: str, said: int) -> None:
    infrastructure = f"""\
apiVersion: config.openshift.io/v1
kind: Infrastructure
metadata: {{name: cluster}}
status: {{platformStatus: {{type: "{platform}"}}}}
"""
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(LABELLED), SERVICE, SLICE, infrastructure)
    found = requirements(platform, cluster.engine.rows(ROUTER_PLAN)[ROUTER])
    assert len(found) == said
    if platform == "OpenStack":
        assert found == (
            "openstack port set --allowed-address ip_address=192.168.12.99,mac_address=<mac_address> "
            "<neutron_port_uuid>",
        )
    if platform == "VSphere":
        assert ["promiscuous" in found[0], "MAC address changes" in found[1], "forged" in found[2]] == [True] * 3
    is_cloud = platform in ("AWS", "Azure")
    assert (support(platform) == "unsupported") == is_cloud
    assert any(each.startswith(f"platform {platform}: an egress router") for each in lint(cluster)) == is_cloud


def test_a_second_replica_and_an_address_in_use(tmp_path: Path) -> None:
    twin = placed(POD).replace("name: egress-router-pod\n  ann", "name: twin\n  ann").replace("2.31", "2.32")
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), twin)
    for pod in ("default/egress-router-pod", "default/twin"):
        assert any(each.startswith(f"pod {pod}: 192.168.12.99 is used by") for each in lint(cluster))
    taken = DEFINITION.replace("192.168.12.99/24", "192.168.12.6/24")
    texts = lint(loaded(tmp_path, AROUND, taken, placed(POD)))
    assert any("192.168.12.6 is an address of node other, too" in each for each in texts)
