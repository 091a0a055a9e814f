"""15.12: the egress router of the manual, as it is printed and with the label that its pod lacks."""

from __future__ import annotations

from pathlib import Path

from ovnk_core.analysis.lint import lint
from ovnk_core.features.egress_router.plan import cluster_routes, routing_table
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from tests.kit.manual_router import (
    AROUND,
    DEFINITION,
    LABELLED,
    NODE,
    POD,
    ROUTER,
    SERVICE,
    SLICE,
    asked,
    loaded,
    placed,
)

ROUTES = """\
default via 192.168.12.1 dev net1
10.129.2.0/23 dev eth0 proto kernel scope link src 10.129.2.31
192.168.12.0/24 dev net1 proto kernel scope link src 192.168.12.99
192.168.12.1 dev net1
"""
"""Step 2.7 of the verification."""


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


def idle_of(folder: Path, pod: str, *services: str) -> list[str]:
    """Services that are said to be meant for a router pod."""
    texts = lint(loaded(folder, AROUND, DEFINITION, placed(pod), *services))
    return [text.split(": ")[0] for text in texts if "selects no pod" in text]


def test_an_unrelated_service_without_pods_is_not_the_routers(tmp_path: Path) -> None:
    """Scaled to zero, say: only one that may be meant for a router pod that nobody selects is spoken of."""
    unrelated = SERVICE.replace("egress-1", "web").replace("name: egress-router-pod", "tier: web")
    near = SERVICE.replace("egress-1", "near").replace("name: egress-router-pod", "name: egress-router")
    assert idle_of(tmp_path, LABELLED, unrelated) == []
    assert idle_of(tmp_path, LABELLED, unrelated, near) == ["Service default/near"]
    assert idle_of(tmp_path, LABELLED, near, SERVICE, SLICE) == [], "the pod has its Service"
    assert idle_of(tmp_path, POD, SERVICE.replace("name: egress-router-pod", "app: egress-cni")) == [
        "Service default/egress-1"
    ]


def test_the_example_with_the_label_works(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(LABELLED), SERVICE, SLICE)
    found = asked(cluster, "svc:default/egress-1:3306")
    assert found.verdict == "allow"
    assert found.egress_router is not None
    assert (found.egress_router.pod, found.egress_router.node) == (ROUTER, NODE)
    assert (found.egress_router.source_ip, found.egress_router.destination) == ("192.168.12.99", "192.168.12.91:3306")
    assert found.legs[-1].target == "192.168.12.91"
    assert found.steps[-1].stage == "egress-router"
    assert found.steps[-1].text.endswith("out of net1: past OVN"), "no firewall is passed where there is none"
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


FIREWALL = """\
apiVersion: k8s.ovn.org/v1
kind: EgressFirewall
metadata: {name: default}
spec: {egress: [{type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}
"""


def test_what_the_router_pod_sends_itself_leaves_past_ovn(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), FIREWALL)
    outside = asked(cluster, "198.51.100.9:443", str(ROUTER))
    assert outside.verdict == "allow"
    assert "as 192.168.12.99, past OVN" in outside.reason
    assert asked(cluster, "198.51.100.9:443").verdict == "drop"
    assert asked(cluster, "default/client:80", str(ROUTER)).path == "overlay"
    assert any("the egress firewall of default does not see" in each for each in lint(cluster))


def test_the_firewall_that_is_passed_is_told(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD), FIREWALL)
    told = asked(cluster, f"{ROUTER}:80").steps[-1]
    assert (told.text, str(told.object)) == (
        "that is past the egress firewall of default, too",
        "EgressFirewall default/default",
    )


def test_a_definition_that_nobody_declares(tmp_path: Path) -> None:
    cluster = loaded(tmp_path, AROUND, placed(POD))
    found = asked(cluster, f"{ROUTER}:80")
    assert (found.verdict, found.egress_router) == ("allow", None)
    assert "default/egress-router-redirect, which is not declared" in found.steps[-1].text
    assert any("its containers are not created until it is" in each for each in lint(cluster))


def test_a_router_pod_that_asks_a_service_stays_in_ovn(tmp_path: Path) -> None:
    """Services are reached by eth0, whatever endpoint is chosen: also one that nobody has."""
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: far}\nspec: {clusterIP: 172.30.0.9, ports: [{port: 80}]}\n"
    )
    slice_ = SLICE.replace("egress-1", "far").replace("10.129.2.31", "203.0.113.7")
    found = asked(loaded(tmp_path, AROUND, DEFINITION, placed(POD), service, slice_), "172.30.0.9:80", str(ROUTER))
    assert "past OVN" not in found.reason
    assert "past OVN" in asked(loaded(tmp_path, AROUND, DEFINITION, placed(POD)), "203.0.113.7:80", str(ROUTER)).reason


def test_the_leg_after_the_router_is_not_encrypted(tmp_path: Path) -> None:
    ipsec = """\
apiVersion: operator.openshift.io/v1
kind: Network
metadata: {name: cluster}
spec: {defaultNetwork: {type: OVNKubernetes, ovnKubernetesConfig: {ipsecConfig: {}}}}
"""
    cluster = loaded(tmp_path, ipsec, AROUND, DEFINITION, placed(LABELLED), SERVICE, SLICE)
    tunnel, last = asked(cluster, f"{ROUTER}:80").legs
    assert (tunnel.transport, tunnel.is_encrypted) == ("geneve", True)
    assert (last.is_encrypted, "outside of the tunnels" in last.protection) == (False, True)


def local(policy: str) -> str:
    """A node port of the router pod."""
    spec = f"type: NodePort, clusterIP: 172.30.0.9, externalTrafficPolicy: {policy}"
    spec += ", ports: [{port: 80, nodePort: 30080}]"
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: door}}\nspec: {{{spec}}}\n"


DOOR = SLICE.replace("egress-1", "door").replace("name: database, port: 3306", "port: 80")
DOOR = DOOR.replace("[10.129.2.31]", f"[10.129.2.31], nodeName: {NODE}")


def test_no_answer_to_a_client_whose_address_is_kept(tmp_path: Path) -> None:
    """The router pod's default route is net1: only what comes from inside the cluster is answered by eth0."""
    outside, port = "203.0.113.9", "192.168.12.5:30080"
    kept = loaded(tmp_path, AROUND, DEFINITION, placed(POD), local("Local"), DOOR)
    for target in (port, "10.129.2.31:80"):
        found = asked(kept, target, outside)
        assert (found.verdict, found.egress_router) == ("drop", None)
        assert f"the answer does not come back: the router pod's route to {outside} is net1" in found.reason
        assert (found.steps[-1].stage, found.steps[-1].verdict) == ("egress-router", "drop")
    assert any("Service default/door: keeps the addresses of clients outside" in each for each in lint(kept))
    hidden = loaded(tmp_path, AROUND, DEFINITION, placed(POD), local("Cluster"), DOOR)
    found = asked(hidden, port, outside)
    assert (found.verdict, found.egress_router is not None) == ("allow", True)
    assert asked(hidden, f"{ROUTER}:80", "192.168.12.6").verdict == "allow", "a node comes from inside the cluster"
    assert not any("externalTrafficPolicy Local" in each for each in lint(hidden))


def test_its_own_node_is_not_reached(tmp_path: Path) -> None:
    own = DEFINITION.replace("192.168.12.91/32", "192.168.12.5")
    found = asked(loaded(tmp_path, AROUND, own, placed(POD)), f"{ROUTER}:80")
    assert (found.verdict, found.egress_router) == ("drop", None)
    assert "own node, which net1 cannot reach" in found.reason
    cluster = loaded(tmp_path, AROUND, DEFINITION, placed(POD))
    assert asked(cluster, "192.168.12.5:80", str(ROUTER)).verdict == "drop"
    assert asked(cluster, "192.168.12.6:80", str(ROUTER)).verdict == "allow"


def test_what_is_not_sent_out_is_in_the_reason(tmp_path: Path) -> None:
    inside = DEFINITION.replace("192.168.12.91/32", "10.128.0.77")
    found = asked(loaded(tmp_path, AROUND, inside, placed(POD)), f"{ROUTER}:80")
    assert found.verdict == "drop" and "10.128.0.77, which is inside the cluster" in found.reason
    other = DEFINITION.replace("192.168.12.91/32", "81 tcp 192.168.12.91")
    cluster = loaded(tmp_path, AROUND, other, placed(POD), local("Cluster"), DOOR)
    assert "ends at the router pod itself" in asked(cluster, "172.30.0.9:80").reason
    text = f"Service default/door: its connections to TCP 80 end at router pod {ROUTER}: no destination takes them"
    assert any(each.startswith(text) for each in lint(cluster)), lint(cluster)
