"""NetworkAttachmentDefinition and the annotation that names it: every form that is read, and why others are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.ingest.load import Loaded, load
from ovnk_core.model.egress_router import Attachment, NetworkAttachmentDefinition, Redirect
from ovnk_core.model.manifest import manifest
from ovnk_core.model.pod import Pod
from ovnk_core.terms.address import parse_address, parse_interface

IP = {"addresses": ["192.168.12.99/24"], "destinations": ["192.168.12.91/32"], "gateway": "192.168.12.1"}

NONE: dict[str, Any] = {"destinations": []}


def read(tmp_path: Path, body: dict[str, Any]) -> Loaded:
    path = tmp_path / "object.json"
    path.write_text(json.dumps(body))
    return load([str(path)])


def definition(config: object) -> dict[str, Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    spec = {} if config is None else {"config": text}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "router", "namespace": "shop"},
        "spec": spec,
    }


def router(ip: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"cniVersion": "0.4.0", "type": "egress-router", "name": "r", "ip": IP | (ip or {})} | more


def accepted(tmp_path: Path, config: object) -> NetworkAttachmentDefinition:
    found = read(tmp_path, definition(config))
    assert not found.refused, found.refused
    (item,) = found.items
    assert isinstance(item.value, NetworkAttachmentDefinition)
    return item.value


def reason(tmp_path: Path, body: dict[str, Any]) -> str:
    (refused,) = read(tmp_path, body).refused
    return str(refused.errors[0])


def test_every_form_of_a_destination(tmp_path: Path) -> None:
    texts = ["8080 tcp 203.0.113.1", "8443 TCP 203.0.113.2/32 443", "53 udp 203.0.113.3", "9 sctp 203.0.113.4 99"]
    found = accepted(tmp_path, router({"destinations": [*texts, "203.0.113.5"]})).router
    assert found is not None
    assert (found.address, found.gateway) == (parse_interface("192.168.12.99/24"), parse_address("192.168.12.1"))
    assert found.redirects == (
        Redirect(address=parse_address("203.0.113.1"), protocol="TCP", port=8080),
        Redirect(address=parse_address("203.0.113.2"), protocol="TCP", port=8443, target_port=443),
        Redirect(address=parse_address("203.0.113.3"), protocol="UDP", port=53),
        Redirect(address=parse_address("203.0.113.4"), protocol="SCTP", port=9, target_port=99),
        Redirect(address=parse_address("203.0.113.5")),
    )


@pytest.mark.parametrize(
    "config",
    [
        router(),
        router({"destinations": []}),
        router({"destinations": None}),
        router(interfaceType="macvlan", interfaceArgs={"master": "ens3", "mode": "bridge"}),
        router(interfaceType="ipvlan", interfaceArgs={"mode": "l2"}),
        router(log_file="/tmp/egress-router-log", log_level="debug"),
        router(mode="Redirect"),
        router(interfaceArgs={"mtu": "1400"}),
        router({"addresses": ["fd00::99/64"], "destinations": [], "gateway": "fe80::1"}),
        router({"addresses": ["fd00::99/64"], "destinations": ["80 tcp fd01::1 8080"], "gateway": "fd00::1"}),
        {"type": "macvlan", "name": "other", "master": "eth1"},
        {"name": "list", "plugins": [{"type": "bridge"}, {"type": "tuning"}]},
        None,
    ],
)
def test_what_is_accepted_reads_back_from_its_record(tmp_path: Path, config: object) -> None:
    first = accepted(tmp_path, config)
    again = read(tmp_path, manifest(first))
    assert [each.value for each in again.items] == [first]


def test_networks_of_other_plug_ins_do_nothing(tmp_path: Path) -> None:
    found = accepted(tmp_path, {"type": "macvlan", "ip": "whatever", "master": 7})
    assert (found.plugin, found.router) == ("macvlan", None)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("{", "spec.config: not JSON"),
        ('{"type": "egress-router", "type": "macvlan"}', "spec.config: type: the key type appears twice"),
        ("[]", "spec.config: must be a mapping"),
        ({}, "spec.config: type: missing"),
        (router({"addresses": ["192.168.12.99/24", "192.168.12.98/24"]}), "spec.config: ip.addresses: a single IP"),
        (router({"addresses": []}), "spec.config: ip.addresses: missing"),
        (
            router({"addresses": ["192.168.12.99"]}),
            'spec.config: ip.addresses[0]: no prefix length (got "192.168.12.99")',
        ),
        (router({"addresses": ["192.168.12.0/24"]}), "ip.addresses[0]: is the network address"),
        (router({"addresses": ["192.168.12.255/24"]}), "ip.addresses[0]: is the broadcast address"),
        (router({"addresses": [7]}), "ip.addresses[0]: must be text"),
        (router({"gateway": "192.168.13.1"}), "ip.gateway: outside the subnet 192.168.12.0/24"),
        (router({"gateway": "192.168.12.99"}), "ip.gateway: is the router's own address"),
        (router({"gateway": "fd00::1"}), "ip.gateway: outside the subnet"),
        (router({"gateway": None}), "ip.gateway: missing"),
        (router({"destinations": ["80 tcp"]}), "ip.destinations[0]: not a destination"),
        (
            router({"destinations": ["0 tcp 203.0.113.1"]}),
            "ip.destinations[0]: a port must be a number from 1 to 65535",
        ),
        (router({"destinations": ["80 tcp 203.0.113.1 65536"]}), "a port must be a number from 1 to 65535"),
        (router({"destinations": ["http tcp 203.0.113.1"]}), "a port must be a number from 1 to 65535"),
        (router({"destinations": ["80 icmp 203.0.113.1"]}), "the protocol must be tcp, udp or sctp"),
        (router({"destinations": ["example.com"]}), "ip.destinations[0]: not an IP address"),
        (router({"destinations": ["fd01::1"]}), "ip.destinations[0]: is IPv6, the router's address IPv4"),
        (router({"destinations": "203.0.113.1"}), "ip.destinations: must be a list"),
        (router({"destination": ["203.0.113.1"]}), "ip.destination: unknown field"),
        (router(mode="http-proxy"), "does not support HTTP proxy mode or DNS proxy mode"),
        (router(mode="dns-proxy"), "does not support HTTP proxy mode or DNS proxy mode"),
        (router(mode="mirror"), "spec.config: mode: unknown mode"),
        (router(interfaceType="aws-elastic-ip"), "interfaceType: must be macvlan or ipvlan"),
        (router(interfaceArgs={"mode": "l2"}), "interfaceArgs.mode: unknown mode of macvlan"),
        (router(interfaceArgs={"master": "eth0; reboot"}), "interfaceArgs.master: not an interface name"),
        (router(interfaceArgs={"mtu": 1400}), 'interfaceArgs.mtu: must be text (got 1400); write "1400"'),
        (router(interfaceArgs={"mtu": "67"}), "interfaceArgs.mtu: must be a number of bytes from 68 to 65535"),
        (router(interfaceArgs={"mtu": "70000"}), "interfaceArgs.mtu: must be a number of bytes from 68 to 65535"),
        (router(interfaceArgs={"mtu": "big"}), "interfaceArgs.mtu: must be a number of bytes from 68 to 65535"),
        (
            router(
                {"addresses": ["fd00::9/64"], "destinations": [], "gateway": "fd00::1"}, interfaceArgs={"mtu": "1279"}
            ),
            "interfaceArgs.mtu: IPv6 needs 1280 bytes",
        ),
        (router(log_level="loud"), "log_level: must be one of"),
        (router(podIP={"a": IP}), "podIP: the plug-in takes its addresses from ip alone"),
        (router(ipConfig={"name": "a"}), "ipConfig: the plug-in takes its addresses from ip alone"),
        ({"type": "egress-router", "name": "r"}, "spec.config: ip: missing"),
        ({"plugins": [{"type": "egress-router"}]}, "plugins[0]: an egress router is no part of a list"),
    ],
)
def test_why_a_definition_is_refused(tmp_path: Path, config: object, text: str) -> None:
    assert text in reason(tmp_path, definition(config))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("[]", "must be a mapping"),
        ({"type": "egress-router", "podIP": {"a": IP}}, "podIP: the plug-in takes its addresses from ip alone"),
        (
            router({"addresses": ["192.168.12.99/24", "192.168.12.98/24"]}),
            'not 2 (got "192.168.12.99/24, 192.168.12.98/24")',
        ),
    ],
)
def test_one_fault_is_one_error_that_shows_it(tmp_path: Path, config: object, text: str) -> None:
    (refused,) = read(tmp_path, definition(config)).refused
    (error,) = refused.errors
    assert text in str(error)


def test_what_is_accepted_with_a_warning(tmp_path: Path) -> None:
    config = router({"destinations": ["203.0.113.26/30", "80 tcp 203.0.113.27"]})
    texts = " ".join(each.text for each in read(tmp_path, definition(config)).warnings)
    assert "the mask of 203.0.113.26/30 means nothing" in texts
    assert "ip.destinations[1]: is never reached" in texts


def pod(networks: str) -> dict[str, Any]:
    annotations = {"k8s.v1.cni.cncf.io/networks": networks}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop", "annotations": annotations},
        "spec": {},
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("router", (("shop", "router", ""),)),
        ("other/router@ext0, b@c", (("other", "router", "ext0"), ("shop", "b", "c"))),
        ('[{"name": "router"}]', (("shop", "router", ""),)),
        ('[{"name": "r", "namespace": "other", "interface": "x", "mac": "..."}]', (("other", "r", "x"),)),
        ("[]", ()),
    ],
)
def test_networks_of_a_pod(tmp_path: Path, text: str, found: tuple[tuple[str, str, str], ...]) -> None:
    (item,) = read(tmp_path, pod(text)).items
    assert isinstance(item.value, Pod)
    wanted = tuple(Attachment(namespace=a, network=b, interface=c) for a, b, c in found)
    assert item.value.attachments == wanted
    assert [each.value for each in read(tmp_path, manifest(item.value)).items] == [item.value]


def test_the_mtu_is_read_and_kept(tmp_path: Path) -> None:
    found = accepted(tmp_path, router(interfaceArgs={"mtu": "1400"})).router
    assert found is not None
    assert found.mtu_bytes == 1400


def test_why_an_interface_is_not_eth0(tmp_path: Path) -> None:
    assert "eth0 is the pod's interface on the cluster network" in reason(tmp_path, pod("a@eth0"))
    assert "two interfaces of one pod have the same name" in reason(tmp_path, pod("a@x,b@x"))


@pytest.mark.parametrize("text", ["Router", "a//b", "a/b/c", "a@b@c d", "a,", '[{"name": ""}]', "[", "[1]", "a@eth0"])
def test_networks_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    assert 'metadata.annotations["k8s.v1.cni.cncf.io/networks"]' in reason(tmp_path, pod(text))
