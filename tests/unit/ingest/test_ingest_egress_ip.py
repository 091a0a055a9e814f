"""EgressIP manifests: what is read of them, and every way they may be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.model.manifest import manifest


def egress_ip(addresses: Any, **fields: Any) -> dict[str, Any]:
    spec = {"egressIPs": addresses, "namespaceSelector": {"matchLabels": {"env": "prod"}}, **fields}
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP", "metadata": {"name": "egress-prod"}, "spec": spec}


def read(raw: dict[str, Any]) -> EgressIP:
    (item,) = parse_objects([raw]).items
    assert isinstance(item.value, EgressIP)
    return item.value


def test_addresses_are_canonical_and_selectors_as_written() -> None:
    item = read(egress_ip(["192.168.126.10", "2001:0DB8:0:0::00AB"]))
    assert [str(each) for each in item.addresses] == ["192.168.126.10", "2001:db8::ab"]
    assert item.namespaces.matches({"env": "prod"}) and not item.namespaces.matches({})
    assert item.pods.matches({})
    assert read(manifest(item)) == item


def test_empty_selectors_pick_everything_and_not_in_picks_what_lacks_the_label() -> None:
    expression = {"matchExpressions": [{"key": "environment", "operator": "NotIn", "values": ["development"]}]}
    item = read(egress_ip(["192.168.126.10"], namespaceSelector=expression, podSelector={}))
    assert item.namespaces.matches({}) and not item.namespaces.matches({"environment": "development"})
    assert read(egress_ip(["192.168.126.10"], namespaceSelector={})).namespaces.matches({})


@pytest.mark.parametrize("key", ["items", "assignments"])
def test_a_status_in_either_spelling_is_read_and_means_nothing(key: str) -> None:
    raw = egress_ip(["192.168.126.10"])
    with_status = raw | {"status": {key: [{"egressIP": "192.168.126.10", "node": "worker-1"}]}}
    assert read(with_status) == read(raw)


BAD: list[tuple[str, Any, str, str]] = [
    ("a network", ["192.168.126.10", "192.168.126.0/24"], "spec.egressIPs[1]", "not a network"),
    ("garbage", ["out"], "spec.egressIPs[0]", "not an IP address"),
    ("a number", [7], "spec.egressIPs[0]", "must be text"),
    ("leading zeros", ["192.168.126.010"], "spec.egressIPs[0]", ""),
    ("twice", ["192.168.126.10", "192.168.126.10"], "spec.egressIPs[1]", "the same address as egressIPs[0]"),
    ("twice, spelt otherwise", ["fd00::1", "FD00:0::1"], "spec.egressIPs[1]", "the same address as egressIPs[0]"),
    ("none", [], "spec.egressIPs", "names no address"),
    ("absent", None, "spec.egressIPs", "names no address"),
    ("no list", "192.168.126.10", "spec.egressIPs", "must be a list"),
    ("loopback", ["127.0.0.1"], "spec.egressIPs[0]", "is a loopback address"),
    ("link-local", ["169.254.3.4"], "spec.egressIPs[0]", "is a link-local address"),
    ("link-local, IPv6", ["fe80::1"], "spec.egressIPs[0]", "is a link-local address"),
    ("multicast", ["239.1.1.1"], "spec.egressIPs[0]", "is a multicast address"),
    ("join range", ["100.64.0.9"], "spec.egressIPs[0]", "lies in the join range (IPv4)"),
    ("IPv4-mapped", ["::ffff:192.0.2.1"], "spec.egressIPs[0]", ""),
]


@pytest.mark.parametrize(("addresses", "path", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_addresses(addresses: Any, path: str, reason: str) -> None:
    (refused,) = parse_objects([egress_ip(addresses)]).refused
    (error,) = refused.errors
    assert (error.path, refused.stand_in) == (path, None)
    assert reason in error.reason


def test_a_missing_namespace_selector_is_refused() -> None:
    raw = egress_ip(["192.168.126.10"])
    del raw["spec"]["namespaceSelector"]
    (refused,) = parse_objects([raw]).refused
    assert [error.path for error in refused.errors] == ["spec.namespaceSelector"]


@pytest.mark.parametrize(
    ("spec", "path"),
    [({"egressIP": []}, "spec.egressIP"), ({"podSelector": {"labels": {}}}, "spec.podSelector.labels")],
)
def test_unknown_fields_are_refused(spec: dict[str, Any], path: str) -> None:
    (refused,) = parse_objects([egress_ip(["192.168.126.10"], **spec)]).refused
    assert [error.path for error in refused.errors] == [path]
