"""Service: what each field means, what is defaulted, and where the API server's rules refuse one."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.manifest import manifest
from ovnk_core.model.service import Service, ServicePort
from ovnk_core.terms.address import parse_address
from tests.kit.manifest import accept, accepted, assert_refused, complaints, service

HTTP = {"port": 80}


def read(status: dict[str, Any] | None = None, /, **spec: Any) -> Service:
    return accept(service({"ports": [HTTP], **spec}, status=status or {}), Service)


def addresses(found: tuple[Any, ...]) -> list[str]:
    return [str(address) for address in found]


def test_what_is_not_said_is_defaulted() -> None:
    found = read()
    assert found == Service(name="web", namespace="shop", ports=(ServicePort(name="", protocol="TCP", port=80),))
    assert found.is_served and not found.has_node_ports


def test_ports() -> None:
    ports = [
        {"name": "a", "port": 80, "targetPort": 8080},
        {"name": "b", "port": 80, "protocol": "UDP", "targetPort": "dns", "nodePort": 30053},
        {"name": "c-1", "port": 65535, "protocol": "SCTP", "nodePort": 0},
    ]
    assert read(type="NodePort", ports=ports).ports == (
        ServicePort(name="a", protocol="TCP", port=80, target="8080"),
        ServicePort(name="b", protocol="UDP", port=80, target="dns", node_port=30053),
        ServicePort(name="c-1", protocol="SCTP", port=65535),
    )


def test_one_number_may_be_a_node_port_of_two_protocols() -> None:
    ports = [{"name": word, "port": 53, "protocol": word.upper(), "nodePort": 30053} for word in ("tcp", "udp")]
    assert [port.node_port for port in read(type="NodePort", ports=ports).ports] == [30053, 30053]


@pytest.mark.parametrize(
    ("spec", "cluster_ips", "families", "is_dual"),
    [
        ({"clusterIP": ""}, [], (), False),
        ({"clusterIP": "172.30.0.9"}, ["172.30.0.9"], (), False),
        ({"clusterIP": "fd02::9", "clusterIPs": ["fd02::9"]}, ["fd02::9"], (), False),
        ({"clusterIP": "fd02::9", "clusterIPs": ["fd02::9", "172.30.0.9"]}, ["fd02::9", "172.30.0.9"], (), True),
        ({"ipFamilies": ["IPv6"]}, [], (6,), False),
        ({"ipFamilies": ["IPv6", "IPv4"]}, [], (6, 4), True),
        ({"ipFamilyPolicy": "SingleStack"}, [], (), False),
        ({"ipFamilyPolicy": "PreferDualStack"}, [], (), True),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}, [], (4,), True),
    ],
)
def test_addresses_and_families(spec: Any, cluster_ips: list[str], families: tuple[int, ...], is_dual: bool) -> None:
    found = read(**spec)
    assert (addresses(found.cluster_ips), found.families, found.is_dual_stack) == (cluster_ips, families, is_dual)
    assert not found.is_headless


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": "None", "clusterIPs": ["None"]}])
def test_headless(spec: Any) -> None:
    found = read(**spec)
    assert found.is_headless and not found.is_served and found.cluster_ips == ()
    assert accept(service(spec | {"ports": []}), Service).ports == ()


def test_external_name() -> None:
    found = accept(service({"type": "ExternalName", "externalName": "db.example.com."}), Service)
    assert not found.is_served and found.ports == ()


@pytest.mark.parametrize(
    ("spec", "has_node_ports"),
    [
        ({"type": "ClusterIP"}, False),
        ({"type": "NodePort"}, True),
        ({"type": "LoadBalancer"}, True),
        ({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": True}, True),
        ({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}, False),
    ],
)
def test_who_is_given_node_ports(spec: Any, has_node_ports: bool) -> None:
    assert read(**spec).has_node_ports is has_node_ports


def test_outside_addresses() -> None:
    ingress = [
        {"ip": "198.51.100.7"},
        {"hostname": "lb.example.com"},
        {"ip": "198.51.100.8", "ipMode": "Proxy"},
        {"ip": "2001:db8::7", "ipMode": "VIP"},
        {"ip": "198.51.100.7"},
    ]
    status = {"loadBalancer": {"ingress": ingress}}
    found = read(status, type="LoadBalancer", externalIPs=["203.0.113.1", "203.0.113.1"])
    assert addresses(found.load_balancer_ips) == ["198.51.100.7", "2001:db8::7"]
    assert addresses(found.external_ips) == ["203.0.113.1"]
    # What is left over in the status of a Service that is no load balancer any more.
    assert read(status).load_balancer_ips == ()


@pytest.mark.parametrize(
    ("spec", "timeout_s"),
    [
        ({}, 0),
        ({"sessionAffinity": "None"}, 0),
        ({"sessionAffinity": "ClientIP"}, 10_800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10_800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, 1),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_400}}}, 86_400),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 0),
    ],
)
def test_session_affinity(spec: Any, timeout_s: int) -> None:
    assert read(**spec).affinity_timeout_s == timeout_s


def test_policies_and_the_rest() -> None:
    found = read(
        externalIPs=["203.0.113.1"],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        publishNotReadyAddresses=True,
        selector={"tier": "a", "app": "web"},
        trafficDistribution="PreferClose",
        healthCheckNodePort=32000,
        loadBalancerClass="example.com/lb",
    )
    assert (found.external_policy, found.internal_policy, found.publishes_not_ready) == ("Local", "Local", True)
    assert found.selector == (("app", "web"), ("tier", "a"))


def test_source_ranges_are_not_read_and_that_is_said() -> None:
    spec = {"ports": [HTTP], "type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}
    (warning,) = accepted(service(spec)).warnings
    assert warning.text == "spec.loadBalancerSourceRanges: not read: hosts filter by it, OVN does not"


BAD = [
    ({"ports": []}, "spec.ports", "at least one port"),
    ({"ports": None}, "spec.ports", "at least one port"),
    ({"ports": [{}]}, "spec.ports[0].port", "missing"),
    ({"ports": [{"port": 0}]}, "spec.ports[0].port", "from 1 to 65535"),
    ({"ports": [{"port": 65536}]}, "spec.ports[0].port", "from 1 to 65535"),
    ({"ports": [{"port": "80"}]}, "spec.ports[0].port", "whole number"),
    ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "spec.ports[0].protocol", "unknown protocol"),
    ({"ports": [{"port": 80, "protocol": "tcp"}]}, "spec.ports[0].protocol", "unknown protocol"),
    ({"ports": [{"port": 80, "name": "Http"}]}, "spec.ports[0].name", "RFC 1123 label"),
    ({"ports": [{"port": 80, "targetPort": 0}]}, "spec.ports[0].targetPort", "from 1 to 65535"),
    ({"ports": [{"port": 80, "targetPort": "8080"}]}, "spec.ports[0].targetPort", "port name"),
    ({"ports": [{"port": 80, "targetPort": "a-very-long-port"}]}, "spec.ports[0].targetPort", "port name"),
    ({"ports": [{"port": 80, "name": "a"}, {"port": 81}]}, "spec.ports[1].name", "missing"),
    ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, "spec.ports[1].name", "twice"),
    ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, "spec.ports[1].port", "twice"),
    ({"ports": [{"port": 80, "nodePort": 30000}]}, "spec.ports[0].nodePort", "type ClusterIP"),
    ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 65536}]}, "spec.ports[0].nodePort", "from 1 to 65535"),
    (
        {"type": "NodePort", "ports": [{"port": at, "name": f"p{at}", "nodePort": 30000} for at in (1, 2)]},
        "spec.ports[1].nodePort",
        "twice",
    ),
    ({"type": "Nodeport"}, "spec.type", "must be ClusterIP or NodePort"),
    ({"clusterIP": "172.30.0"}, "spec.clusterIP", "not an IP address"),
    ({"clusterIP": "none"}, "spec.clusterIP", "not an IP address"),
    ({"clusterIP": "127.0.0.1"}, "spec.clusterIP", "loopback"),
    ({"clusterIPs": ["172.30.0.9"]}, "spec.clusterIPs", "must be empty"),
    ({"clusterIP": "172.30.0.8", "clusterIPs": ["172.30.0.9"]}, "spec.clusterIPs[0]", "equal to clusterIP"),
    ({"clusterIP": "172.30.0.8", "clusterIPs": ["172.30.0.8", "172.30.0.9"]}, "spec.clusterIPs", "one family"),
    ({"clusterIP": "None", "clusterIPs": ["None", "fd02::1"]}, "spec.clusterIPs", "None alone"),
    ({"clusterIP": "172.30.0.8", "ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]", "does not fit"),
    ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]", "IPv4 or IPv6"),
    ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies[1]", "twice"),
    ({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"}, "spec.ipFamilyPolicy", "one family"),
    ({"ipFamilyPolicy": "DualStack"}, "spec.ipFamilyPolicy", "must be SingleStack"),
    ({"externalIPs": ["169.254.1.1"]}, "spec.externalIPs[0]", "link-local"),
    ({"externalIPs": ["ff02::1"]}, "spec.externalIPs[0]", "multicast"),
    ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "reached from outside"),
    ({"externalTrafficPolicy": "Node", "type": "NodePort"}, "spec.externalTrafficPolicy", "Cluster or Local"),
    ({"internalTrafficPolicy": "local"}, "spec.internalTrafficPolicy", "Cluster or Local"),
    ({"sessionAffinity": "Client"}, "spec.sessionAffinity", "None or ClientIP"),
    (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_401}}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "from 1 to 86400",
    ),
    (
        {"allocateLoadBalancerNodePorts": False, "type": "NodePort"},
        "spec.allocateLoadBalancerNodePorts",
        "LoadBalancer",
    ),
    ({"clusterIP": "None", "type": "NodePort"}, "spec.clusterIP", "may not be None"),
    ({"selector": {"app": "a b"}}, "spec.selector.app", "label value"),
    ({"publishNotReadyAddresses": "yes"}, "spec.publishNotReadyAddresses", "true or false"),
]


@pytest.mark.parametrize(("spec", "path", "reason"), BAD, ids=[f"{path} {reason}" for _, path, reason in BAD])
def test_what_is_refused(spec: dict[str, Any], path: str, reason: str) -> None:
    assert_refused(service({"ports": [HTTP], **spec}), path, reason)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"type": "ExternalName"}, "spec.externalName"),
        ({"type": "ExternalName", "externalName": "a_b"}, "spec.externalName"),
        ({"type": "ExternalName", "externalName": "a", "clusterIP": "172.30.0.1"}, "spec.clusterIP"),
        ({"type": "ExternalName", "externalName": "a", "ipFamilies": ["IPv4"]}, "spec.ipFamilies"),
    ],
)
def test_what_is_no_external_name(spec: dict[str, Any], path: str) -> None:
    assert [found for found, _ in complaints(service(spec))] == [path]


@pytest.mark.parametrize(
    ("ingress", "path"),
    [
        ({"ip": "lb"}, "status.loadBalancer.ingress[0].ip"),
        ({"ip": "0.0.0.0"}, "status.loadBalancer.ingress[0].ip"),
        ({"ip": "192.0.2.1", "ipMode": "NAT"}, "status.loadBalancer.ingress[0].ipMode"),
    ],
)
def test_a_load_balancer_gives_addresses(ingress: dict[str, Any], path: str) -> None:
    raw = service({"type": "LoadBalancer", "ports": [HTTP]}, status={"loadBalancer": {"ingress": [ingress]}})
    assert [found for found, _ in complaints(raw)] == [path]


def test_every_problem_is_told_at_once() -> None:
    raw = service({"type": "X", "ports": [{"port": 0}, {"port": 1}], "sessionAffinity": "Y"})
    assert [path for path, _ in complaints(raw)] == [
        "spec.type",
        "spec.ports[0].port",
        "spec.ports[1].name",
        "spec.sessionAffinity",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "fd02::9", "clusterIPs": ["fd02::9", "172.30.0.9"], "ipFamilies": ["IPv6", "IPv4"]},
        {
            "type": "NodePort",
            "ports": [{"name": "a", "port": 1, "targetPort": "b", "nodePort": 31_000, "protocol": "UDP"}],
        },
        {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "externalTrafficPolicy": "Local"},
        {"type": "ExternalName", "externalName": "db.example.com", "ports": []},
        {"clusterIP": "None", "selector": {"a": "b"}, "publishNotReadyAddresses": True},
        {"externalIPs": ["203.0.113.1"], "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"},
    ],
)
def test_what_is_recorded_of_a_service_reads_as_it(spec: dict[str, Any]) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
    raw = service({"ports": [HTTP], **spec}, status=status, metadata={"creationTimestamp": "2024-01-01T00:00:00Z"})
    found = accept(raw, Service)
    assert [item.value for item in parse_objects([manifest(found)]).items] == [found]


def test_a_family_follows_from_the_address() -> None:
    assert read(clusterIP="fd02::9").cluster_ips == (parse_address("fd02::9"),)
