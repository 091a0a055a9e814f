"""Node: status addresses and every annotation, well formed and not."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.model.node import Node
from ovnk_core.terms.address import Address, cidr, parse_address, parse_interface
from tests.kit.manifest import accept, accepted, assert_refused, node, refuse


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(parse_address, texts))


def interfaces(*texts: str) -> Any:
    return tuple(map(parse_interface, texts))


def annotated(key: str, value: Any) -> Node:
    return accept(node(annotations={key: value}), Node)


def gateway(**fields: Any) -> Any:
    config = {"mode": "shared", **{key.replace("_", "-"): value for key, value in fields.items()}}
    return {"default": config}


def test_a_plain_node() -> None:
    found = accept(node(metadata={"labels": {"zone": "a"}}), Node)
    assert (found.name, found.internal, found.labels) == ("node-1", addresses("192.0.2.1"), (("zone", "a"),))
    assert (found.subnets, found.join, found.node_id, found.chassis, found.management_mac) == ((), (), None, "", "")
    assert (found.has_gateway, found.gateway_mtu_supported, found.is_ready) == (True, True, True)


def test_a_node_as_the_plugin_leaves_it() -> None:
    found = accept(
        node(
            annotations={
                "node-subnets": {"default": ["10.128.0.0/23", "fd01::/64"]},
                "l3-gateway-config": gateway(
                    bridge_id="br-ex",
                    interface_id="br-ex_node-1.example.com",
                    mac_address="52:54:00:AA:bb:cc",
                    ip_addresses=["192.0.2.1/24", "2001:db8::1/64"],
                    ip_address="192.0.2.1/24",
                    next_hops=["192.0.2.254", "2001:db8::ffff"],
                    next_hop="192.0.2.254",
                    node_port_enable="true",
                    vlan_id="17",
                ),
                "node-chassis-id": "c3c1a9a5-0d3a-4b21-9d4e-5b1de9c2a001",
                "node-mgmt-port-mac-address": "0a:58:0a:80:00:02",
                "node-primary-ifaddr": {"ipv4": "192.0.2.1/24", "ipv6": "2001:db8::1/64"},
                "node-gateway-router-lrp-ifaddr": {"ipv4": "100.64.0.2/16", "ipv6": "fd98::2/64"},
                "host-cidrs": ["192.0.2.9/24", "192.0.2.1/24"],
                "node-id": "2",
                "gateway-mtu-support": "false",
            },
            status={
                "addresses": [
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "InternalIP", "address": "2001:db8::1"},
                    {"type": "ExternalIP", "address": "198.51.100.1"},
                    {"type": "Hostname", "address": "node-1"},
                ],
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "Unknown"}],
            },
            spec={"podCIDRs": "ignored"},
        ),
        Node,
    )
    assert found == Node(
        name="node-1",
        internal=addresses("192.0.2.1", "2001:db8::1"),
        external=addresses("198.51.100.1"),
        host_cidrs=interfaces("192.0.2.1/24", "192.0.2.9/24"),
        subnets=(cidr("10.128.0.0/23"), cidr("fd01::/64")),
        node_id=2,
        join=interfaces("100.64.0.2/16", "fd98::2/64"),
        chassis="c3c1a9a5-0d3a-4b21-9d4e-5b1de9c2a001",
        management_mac="0a:58:0a:80:00:02",
        primary=interfaces("192.0.2.1/24", "2001:db8::1/64"),
        gateway_mac="52:54:00:aa:bb:cc",
        gateway_addresses=interfaces("192.0.2.1/24", "2001:db8::1/64"),
        gateway_next_hops=addresses("192.0.2.254", "2001:db8::ffff"),
        gateway_interface="br-ex_node-1.example.com",
        gateway_vlan=17,
        gateway_mtu_supported=False,
        is_ready=False,
    )


SUBNETS = [
    ("list", {"default": ["10.128.0.0/23"]}),
    ("text", {"default": "10.128.0.0/23"}),
    ("bare", "10.128.0.0/23"),
]


@pytest.mark.parametrize("value", [case[1] for case in SUBNETS], ids=[case[0] for case in SUBNETS])
def test_every_form_of_node_subnets(value: Any) -> None:
    assert annotated("node-subnets", value).subnets == (cidr("10.128.0.0/23"),)


def test_host_bits_of_a_node_subnet_are_cleared_with_a_warning() -> None:
    loaded = accepted(node(annotations={"node-subnets": {"default": ["10.128.0.7/23"]}}))
    found = loaded.items[0].value
    assert isinstance(found, Node)
    assert found.subnets == (cidr("10.128.0.0/23"),)
    assert "10.128.0.0/23 is used" in loaded.warnings[0].text


def test_older_annotations_are_read() -> None:
    assert annotated("host-addresses", ["192.0.2.1", "2001:db8::1"]).host_cidrs == interfaces(
        "192.0.2.1/32", "2001:db8::1/128"
    )
    old = annotated("l3-gateway-config", gateway(ip_address="192.0.2.1/24", next_hop="192.0.2.254"))
    assert old.gateway_addresses == interfaces("192.0.2.1/24")
    assert old.gateway_next_hops == addresses("192.0.2.254")


def test_newer_annotations_win() -> None:
    found = accept(
        node(
            annotations={
                "node-mgmt-port-mac-addresses": {"default": "0a:58:00:00:00:01"},
                "node-mgmt-port-mac-address": "0a:58:00:00:00:02",
                "node-gateway-router-lrp-ifaddrs": {"default": {"ipv4": "100.64.0.3/16"}},
                "node-gateway-router-lrp-ifaddr": {"ipv4": "100.64.0.4/16"},
                "host-cidrs": ["192.0.2.1/24"],
                "host-addresses": ["192.0.2.2"],
            }
        ),
        Node,
    )
    assert found.management_mac == "0a:58:00:00:00:01"
    assert found.join == interfaces("100.64.0.3/16")
    assert found.host_cidrs == interfaces("192.0.2.1/24")


def test_other_networks_are_not_ours() -> None:
    found = accept(node(annotations={"node-subnets": {"blue": ["10.9.0.0/24"]}, "l3-gateway-config": {"x": 1}}), Node)
    assert found.subnets == ()
    assert found.has_gateway


def test_gateway_modes() -> None:
    assert annotated("l3-gateway-config", {"default": {"mode": ""}}).has_gateway is False
    loaded = accepted(node(annotations={"l3-gateway-config": {"default": {"mode": "local"}}}))
    assert "treated as shared" in loaded.warnings[0].text
    assert annotated("l3-gateway-config", gateway(vlan_id="")).gateway_vlan == 0


def test_node_without_internal_address() -> None:
    assert_refused(node(address=None), "status.addresses", "no InternalIP address")
    assert_refused(
        node(status={"addresses": [{"type": "ExternalIP", "address": "198.51.100.1"}]}), "status.addresses", "no"
    )
    found = accept(node(address=None, annotations={"node-primary-ifaddr": {"ipv4": "192.0.2.7/24", "ipv6": ""}}), Node)
    assert found.internal == addresses("192.0.2.7")
    assert found.primary == interfaces("192.0.2.7/24")


@pytest.mark.parametrize("number", ["2", "5000"])
def test_node_id_bounds(number: str) -> None:
    assert annotated("node-id", number).node_id == int(number)


BAD = [
    ("subnets not JSON", "node-subnets", "{", "", "not JSON"),
    ("subnets list", "node-subnets", "[]", "", "must be a mapping"),
    ("subnets number", "node-subnets", {"default": 7}, ".default[0]", "must be text"),
    ("subnets malformed", "node-subnets", {"default": ["10.0.0/8"]}, ".default[0]", "not an IP address"),
    ("subnets bare malformed", "node-subnets", "10.0.0.0", "[0]", "no prefix length"),
    ("subnets leading zero", "node-subnets", {"default": "010.0.0.0/8"}, ".default[0]", "leading zeros"),
    ("subnets mapped", "node-subnets", {"default": "::ffff:10.0.0.0/120"}, ".default[0]", "IPv4-mapped"),
    (
        "subnets two of a family",
        "node-subnets",
        {"default": ["10.1.0.0/24", "10.2.0.0/24"]},
        ".default",
        "more than one",
    ),
    ("gateway text", "l3-gateway-config", {"default": "x"}, ".default", "must be a mapping"),
    ("gateway mode unknown", "l3-gateway-config", {"default": {"mode": "x"}}, ".default.mode", "must be shared"),
    ("gateway mode missing", "l3-gateway-config", {"default": {}}, ".default.mode", "must be shared"),
    ("gateway MAC", "l3-gateway-config", gateway(mac_address="52-54"), ".default.mac-address", "not a MAC"),
    ("gateway address", "l3-gateway-config", gateway(ip_addresses=["192.0.2.1"]), ".default.ip-addresses[0]", "prefix"),
    ("gateway next hop", "l3-gateway-config", gateway(next_hops=["x"]), ".default.next-hops[0]", "not an IP address"),
    ("gateway interface", "l3-gateway-config", gateway(interface_id='a"b'), ".default.interface-id", "interface name"),
    ("gateway vlan 4096", "l3-gateway-config", gateway(vlan_id="4096"), ".default.vlan-id", "from 0 to 4095"),
    ("gateway vlan text", "l3-gateway-config", gateway(vlan_id="x"), ".default.vlan-id", "whole number"),
    ("chassis hostile", "node-chassis-id", 'a" || "', "", "letters, digits"),
    ("chassis newline", "node-chassis-id", "abc\n", "", "letters, digits"),
    ("management MAC", "node-mgmt-port-mac-address", "0a:58", "", "not a MAC"),
    ("management MAC map", "node-mgmt-port-mac-addresses", {"default": 1}, ".default", "must be text"),
    ("primary family", "node-primary-ifaddr", {"ipv4": "2001:db8::1/64"}, ".ipv4", "not an IPv4 address"),
    ("primary no prefix", "node-primary-ifaddr", {"ipv6": "2001:db8::1"}, ".ipv6", "no prefix length"),
    ("primary list", "node-primary-ifaddr", "[]", "", "must be a mapping"),
    ("join malformed", "node-gateway-router-lrp-ifaddr", {"ipv4": "100.64.0.2/33"}, ".ipv4", "exceeds 32"),
    ("join elsewhere", "node-gateway-router-lrp-ifaddr", {"ipv4": "192.0.2.7/16"}, ".ipv4", "join range"),
    ("join router", "node-gateway-router-lrp-ifaddr", {"ipv4": "100.64.0.1/16"}, ".ipv4", "join range"),
    (
        "join IPv6",
        "node-gateway-router-lrp-ifaddrs",
        {"default": {"ipv6": "fd99::2/64"}},
        ".default.ipv6",
        "join range",
    ),
    ("join beyond ids", "node-gateway-router-lrp-ifaddr", {"ipv4": "100.64.100.0/16"}, ".ipv4", "join range"),
    ("gateway loopback", "l3-gateway-config", gateway(ip_address="127.0.0.1/8"), ".default.ip-address", "loopback"),
    ("next hop group", "l3-gateway-config", gateway(next_hop="ff02::1"), ".default.next-hop", "multicast"),
    ("next hop link-local", "l3-gateway-config", gateway(next_hop="169.254.1.1"), ".default.next-hop", "link-local"),
    ("primary unspecified", "node-primary-ifaddr", {"ipv6": "::/64"}, ".ipv6", "unspecified"),
    ("host cidrs loopback", "host-cidrs", ["::1/128"], "[0]", "loopback"),
    ("host cidrs link-local", "host-cidrs", ["192.0.2.1/24", "fe80::1/64"], "[1]", "link-local"),
    ("host addresses", "host-addresses", ["224.0.0.1"], "[0]", "multicast"),
    ("host cidrs mapping", "host-cidrs", {"a": 1}, "", "must be a JSON list"),
    ("host cidrs entry", "host-cidrs", ["192.0.2.1/24", 5], "[1]", "must be text"),
    ("host cidrs zone", "host-cidrs", ["fe80::1%eth0/64"], "[0]", "zone identifiers"),
    ("node id 1", "node-id", "1", "", "from 2 to 5000"),
    ("node id 5001", "node-id", "5001", "", "from 2 to 5000"),
    ("node id octal", "node-id", "007", "", "whole number"),
    ("node id huge", "node-id", "9" * 5000, "", "whole number"),
    ("node id arabic digits", "node-id", "٢٣", "", "whole number"),
]


@pytest.mark.parametrize(("key", "value", "below", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_malformed_annotation_refuses_the_node(key: str, value: Any, below: str, reason: str) -> None:
    assert_refused(node(annotations={key: value}), f'metadata.annotations["k8s.ovn.org/{key}"]{below}', reason)


STATUS = [
    ("list text", {"addresses": "x"}, "status.addresses", "must be a list"),
    (
        "leading zeros",
        {"addresses": [{"type": "InternalIP", "address": "192.0.02.1"}]},
        "status.addresses[0].address",
        "l",
    ),
    (
        "mapped",
        {"addresses": [{"type": "InternalIP", "address": "::ffff:1.2.3.4"}]},
        "status.addresses[0].address",
        "map",
    ),
    ("missing", {"addresses": [{"type": "InternalIP"}]}, "status.addresses[0].address", "must be text"),
]


@pytest.mark.parametrize(("status", "path", "reason"), [case[1:] for case in STATUS], ids=[case[0] for case in STATUS])
def test_bad_status_address(status: Any, path: str, reason: str) -> None:
    assert_refused(node(status=status), path, reason)


@pytest.mark.parametrize("kind", ["InternalIP", "ExternalIP"])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("169.254.7.7", "link-local"),
        ("fe80::7", "link-local"),
        ("239.1.1.1", "multicast"),
        ("ff05::2", "multicast"),
        ("255.255.255.255", "broadcast"),
    ],
)
def test_an_address_that_reaches_no_node(kind: str, address: str, reason: str) -> None:
    good = {"type": "InternalIP", "address": "192.0.2.1"}
    status = {"addresses": [good, {"type": kind, "address": address}]}
    assert_refused(node(status=status), "status.addresses[1].address", reason)


def test_an_ipv6_next_hop_is_commonly_link_local() -> None:
    found = annotated("l3-gateway-config", gateway(next_hops=["fe80::1"]))
    assert found.gateway_next_hops == addresses("fe80::1")


def test_annotation_that_is_not_text() -> None:
    raw = node(metadata={"annotations": {"k8s.ovn.org/node-id": 2}})
    assert_refused(raw, 'metadata.annotations["k8s.ovn.org/node-id"]', "must be text")


def test_all_annotations_are_checked_at_once() -> None:
    raw = node(annotations={"node-id": "0", "node-subnets": "{", "node-chassis-id": "a b"})
    assert len(refuse(raw).errors) == 3


@pytest.mark.parametrize("name", ["a_b", "A", 'a"', "a\n", "-a", "a" * 254])
def test_node_names(name: str) -> None:
    assert refuse(node(name=name)).errors[0].path == "metadata.name"
    assert accept(node(name="ip-10-0-0-1.ec2.internal"), Node).name == "ip-10-0-0-1.ec2.internal"
