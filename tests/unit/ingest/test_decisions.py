"""A decisions document that people may have edited: every field is checked and the one at fault is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.errors import LimitError, SchemaError
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import Decisions, DnsChange, DnsDecision
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.terms.address import parse_address
from tests.kit.manifest import namespace, network, node, pod, policy, service

NODE: dict[str, Any] = {"subnets": ["10.128.0.0/23"], "id": 2}
POD: dict[str, Any] = {"addresses": ["10.128.0.3"], "mac": "0a:58:0a:80:00:03", "node": "a"}


def document(**fields: Any) -> bytes:
    whole: dict[str, Any] = {"apiVersion": "ovnk/v1", "kind": "Decisions", "nodes": {}, "pods": {}, "accepted": []}
    return json.dumps(whole | fields).encode()


def one_node(**fields: Any) -> bytes:
    return document(nodes={"a": NODE | fields})


def one_pod(key: str = "shop/web", **fields: Any) -> bytes:
    return document(pods={key: POD | fields})


def one_service(key: str = "shop/web", **fields: Any) -> bytes:
    return document(services={key: {"clusterIPs": ["172.30.0.9"]} | fields})


def node_port(**fields: Any) -> dict[str, Any]:
    return {"protocol": "TCP", "port": 80, "nodePort": 30080} | fields


def one_name(name: str = "www.example.com", **fields: Any) -> bytes:
    return document(dns={name: {"live": ["192.0.2.1"], "history": []} | fields})


def change(**fields: Any) -> dict[str, Any]:
    return {"at": 100, "cause": "answer", "add": ["192.0.2.1"]} | fields


def leaving(*addresses: str) -> dict[str, Any]:
    return {"at": 100, "addresses": list(addresses)}


SERVICE = 'services["shop/web"]'
LEAVING = 'dns["www.example.com"].leaving'
HISTORY = 'dns["www.example.com"].history'
BAD = [
    ("not UTF-8", b"\xff", "", "UTF-8"),
    ("not JSON", b"{", "", "not JSON"),
    ("nested", b"[" * 100_000, "", "too deeply"),
    ("a list", b"[]", "", "must be a mapping"),
    ("version", document(apiVersion="ovnk/v2"), "", "not a decisions document"),
    ("unknown field", document(colour=1), "colour", "unknown field"),
    ("twice", b'{"apiVersion":"ovnk/v1","kind":"Decisions","nodes":{},"nodes":{}}', "nodes", "twice"),
    ("id 0", one_node(id=0), "nodes.a.id", "2 to 5000"),
    ("id 1", one_node(id=1), "nodes.a.id", "2 to 5000"),
    ("id 5001", one_node(id=5001), "nodes.a.id", "2 to 5000"),
    ("id text", one_node(id="2"), "nodes.a.id", "whole number"),
    ("id null", one_node(id=None), "nodes.a.id", "whole number"),
    ("same id", document(nodes={"a": NODE, "b": NODE | {"subnets": ["10.128.2.0/23"]}}), "nodes.b.id", "node a"),
    ("two subnets", one_node(subnets=["10.128.0.0/23", "10.128.2.0/23"]), "nodes.a.subnets", "more than one"),
    ("narrow subnet", one_node(subnets=["10.128.0.0/31"]), "nodes.a.subnets[0]", "too small"),
    ("host bits", one_node(subnets=["10.128.0.1/23"]), "nodes.a.subnets[0]", "host bits"),
    ("not a subnet", one_node(subnets=["x"]), "nodes.a.subnets[0]", "prefix length"),
    ("node name", document(nodes={"A b": NODE}), 'nodes["A b"]', "not a node name"),
    ("no slash", one_pod("web"), "pods.web", "not the name of a pod"),
    ("two slashes", one_pod("a/b/c"), 'pods["a/b/c"]', "not the name of a pod"),
    ("mac", one_pod(mac="0a:58"), 'pods["shop/web"].mac', "MAC"),
    ("mac missing", one_pod(mac=None), 'pods["shop/web"].mac', "text"),
    ("no address", one_pod(addresses=[]), 'pods["shop/web"].addresses', "missing"),
    ("two addresses", one_pod(addresses=["10.128.0.3", "10.128.0.4"]), 'pods["shop/web"].addresses', "more than one"),
    ("bad address", one_pod(addresses=["10.128.0.03"]), 'pods["shop/web"].addresses[0]', "leading zeros"),
    ("node of a pod", one_pod(node=""), 'pods["shop/web"].node', "not a node name"),
    ("service name", one_service("shop/a.b"), 'services["shop/a.b"]', "not the name of a Service"),
    ("no cluster IP", one_service(clusterIPs=[]), f"{SERVICE}.clusterIPs", "missing"),
    ("two of one family", one_service(clusterIPs=["172.30.0.9", "172.30.0.8"]), f"{SERVICE}.clusterIPs", "more than"),
    ("bad cluster IP", one_service(clusterIPs=["x"]), f"{SERVICE}.clusterIPs[0]", "not an IP"),
    ("node port 0", one_service(nodePorts=[node_port(nodePort=0)]), f"{SERVICE}.nodePorts[0].nodePort", "from 1"),
    ("no port", one_service(nodePorts=[node_port(port=None)]), f"{SERVICE}.nodePorts[0].port", "whole number"),
    ("protocol", one_service(nodePorts=[node_port(protocol="IP")]), f"{SERVICE}.nodePorts[0].protocol", "unknown"),
    ("one port twice", one_service(nodePorts=[node_port()] * 2), f"{SERVICE}.nodePorts[1]", "twice"),
    ("service field", one_service(ports=[]), f"{SERVICE}.ports", "unknown field"),
    ("upper-case name", one_name("WWW.example.com"), 'dns["WWW.example.com"]', "not a DNS name"),
    ("final dot", one_name("example.com."), 'dns["example.com."]', "not a DNS name"),
    ("an address for a name", one_name("192.0.2.1"), 'dns["192.0.2.1"]', "not a DNS name"),
    ("dns field", one_name(ttl=1), 'dns["www.example.com"].ttl', "unknown field"),
    ("dns is a list", document(dns=[]), "dns", "must be a mapping"),
    ("dns address", one_name(live=["192.0.2.01"]), 'dns["www.example.com"].live[0]', "leading zeros"),
    ("dns address twice", one_name(sticky=["::1", "0::1"]), 'dns["www.example.com"].sticky', "twice"),
    ("dns number", one_name(answer=[1]), 'dns["www.example.com"].answer[0]', "must be text"),
    (
        "too many addresses",
        one_name(live=[f"192.0.{i // 256}.{i % 256}" for i in range(1025)]),
        'dns["www.example.com"].live',
        "more than 1024",
    ),
    ("leaving without a time", one_name(leaving=[{"addresses": ["192.0.2.1"]}]), f"{LEAVING}[0].at", "Unix seconds"),
    ("leaving field", one_name(leaving=[{"at": 1, "cause": "answer"}]), f"{LEAVING}[0].cause", "unknown field"),
    ("leaving text", one_name(leaving=["192.0.2.1"]), f"{LEAVING}[0]", "must be a mapping"),
    ("leaving but not there", one_name(leaving=[leaving("::2")]), f"{LEAVING}[0].addresses", "not in live"),
    ("leaving twice", one_name(leaving=[leaving("192.0.2.1")] * 2), f"{LEAVING}[1].addresses", "listed twice"),
    ("leaving the answer", one_name(leaving=[leaving("192.0.2.1")], answer=["192.0.2.1"]), LEAVING, "in the answer"),
    ("three denials", one_name(denials=3), 'dns["www.example.com"].denials', "from 0 to 2"),
    ("half a denial", one_name(denials=0.5), 'dns["www.example.com"].denials', "whole number"),
    ("too long a history", one_name(history=[{}] * 129), HISTORY, "more than 128"),
    ("cause", one_name(history=[change(cause="guess")]), f"{HISTORY}[0].cause", "must be one of"),
    ("no time", one_name(history=[change(at=None)]), f"{HISTORY}[0].at", "Unix seconds"),
    ("a time in milliseconds", one_name(history=[change(at=1.7e12)]), f"{HISTORY}[0].at", "Unix seconds"),
    ("true is no time", one_name(history=[change(at=True)]), f"{HISTORY}[0].at", "Unix seconds"),
    ("back in time", one_name(history=[change(), change(at=99, add=["::2"])]), f"{HISTORY}[1].at", "before"),
    ("added twice", one_name(history=[change(), change()]), f"{HISTORY}[1]", "adds what was there"),
    ("dropped before", one_name(history=[change(drop=["::2"])]), f"{HISTORY}[0]", "drops what was not"),
    ("history field", one_name(history=[change(addresses=[])]), f"{HISTORY}[0].addresses", "unknown field"),
]


@pytest.mark.parametrize(("text", "path", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_document_that_is_wrong_names_the_field(text: bytes, path: str, reason: str) -> None:
    with pytest.raises((SchemaError, LimitError)) as found:
        read_decisions(text, source="saved.json")
    assert found.value.path == path
    assert reason in found.value.reason
    assert found.value.source.startswith("saved.json")


def test_what_is_saved_is_read() -> None:
    at_1, at_2 = (parse_address("192.0.2.1"), parse_address("2001:db8::1")), (parse_address("192.0.2.7"),)
    history = (DnsChange(at_s=100, cause="answer", addresses=at_1), DnsChange(at_s=200, cause="nxdomain"))
    dns = {
        "www.example.com": DnsDecision(sticky=at_1, denials=2, history=history),
        "*.x.org": DnsDecision(live=at_2, sticky=at_2),
        "left.x.org": DnsDecision(live=at_1, sticky=at_1, answer=at_1[1:], leaving=((at_1[0], 500),), denials=1),
        "old.x.org": DnsDecision(live=at_1, sticky=at_1, answer=at_1[1:]),
    }
    cluster = Cluster(decisions=Decisions(dns=dns))
    objects = [network(), node("a"), namespace(), pod(spec={"nodeName": "a", "containers": []}), policy()]
    objects.append(service({"type": "NodePort", "ports": [{"port": 53, "protocol": "UDP"}]}))
    cluster.apply(parse_objects(objects).items)
    decided = cluster.decisions
    assert decided.nodes and decided.pods and decided.services and decided.accepted and decided.dns == dns
    assert read_decisions(json.dumps(decisions_manifest(decided)).encode(), source="saved.json") == decided


def test_a_record_of_old_is_read() -> None:
    """Without ``leaving`` and ``denials``, and with fractions of seconds."""
    old = one_name(live=["192.0.2.1", "192.0.2.2"], answer=["192.0.2.2"], history=[change(at=100.75)])
    found = read_decisions(old, source="saved.json").dns["www.example.com"]
    assert (found.leaving, found.denials, [each.at_s for each in found.history]) == ((), 0, [100])
    assert found.answer == (parse_address("192.0.2.2"),)
