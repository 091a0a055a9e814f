"""What a manifest's values become on the wire, and what is said of those that cannot go there."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ovnk_api.v1.egress_firewall_pb2 import EgressFirewall, EgressFirewallSpec
from ovnk_api.v1.meta_pb2 import IntOrString, KubernetesIdentity, ObjectMeta
from ovnk_api.v1.network_policy_pb2 import NetworkPolicy
from ovnk_api.v1.object_pb2 import Object
from ovnk_wire import WireError, from_manifest, to_manifest

from tests.kit.manifest import namespace, network, pod, policy


def firewall(spec: Any) -> dict[str, Any]:
    return {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": {"name": "default"}, "spec": spec}


def test_a_resource_version_of_ours_and_one_of_another_server_are_kept_apart() -> None:
    ours = from_manifest(pod(metadata={"resourceVersion": "r12"}))[0].pod.metadata
    theirs = from_manifest(pod(metadata={"resourceVersion": "12"}))[0].pod.metadata
    assert (ours.resource_version, ours.kubernetes.resource_version) == ("r12", "")
    assert (theirs.resource_version, theirs.kubernetes.resource_version) == ("", "12")


@pytest.mark.parametrize("text", ["r", "r12a", "R12", "r12\n", "r\u0661", "rev7"])
def test_what_only_looks_like_a_resource_version_of_ours_is_another_servers(text: str) -> None:
    meta = from_manifest(pod(metadata={"resourceVersion": text}))[0].pod.metadata
    assert meta.resource_version == ""
    assert meta.kubernetes.resource_version == text


def test_of_two_resource_versions_ours_is_written() -> None:
    item, _ = from_manifest(pod(metadata={"resourceVersion": "12"}))
    item.pod.metadata.resource_version = "r5"
    assert to_manifest(item)["metadata"]["resourceVersion"] == "r5"


def test_a_message_says_which_manifest_it_is_of() -> None:
    item, _ = from_manifest({"apiVersion": "operator.openshift.io/v1", "kind": "Network"})
    assert item.network_operator.metadata.kubernetes == KubernetesIdentity(
        group="operator.openshift.io", version="v1", kind="Network"
    )
    assert to_manifest(item) == {"apiVersion": "operator.openshift.io/v1", "kind": "Network", "metadata": {}}


def test_the_source_is_no_field_of_a_manifest() -> None:
    item, _ = from_manifest(policy())
    item.network_policy.metadata.source = "adapter"
    assert "source" not in to_manifest(item)["metadata"]
    assert from_manifest(policy(metadata={"source": "adapter", "kubernetes": {}}))[1] == (
        "metadata.source",
        "metadata.kubernetes",
    )


def test_maps_are_sorted_and_sections_in_order() -> None:
    labels = {"b": "1", "a": "2", "c": "3"}
    raw = {"status": {"phase": "Active"}, **namespace(metadata={"labels": labels})}
    back = to_manifest(from_manifest(raw)[0])
    assert list(back) == ["apiVersion", "kind", "metadata", "status"]
    assert list(back["metadata"]["labels"]) == ["a", "b", "c"]


def test_null_is_absent() -> None:
    raw = policy({"podSelector": None, "policyTypes": ["Ingress"], "egress": None}, status=None)
    assert to_manifest(from_manifest(raw)[0])["spec"] == {"policyTypes": ["Ingress"]}


def test_an_empty_selector_is_not_an_absent_one() -> None:
    raw = policy({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}, {"podSelector": {}}]}]})
    assert to_manifest(from_manifest(raw)[0])["spec"] == raw["spec"]


@pytest.mark.parametrize("spec", [{}, {"egress": None}])
def test_a_firewall_without_a_list_is_not_one_without_rules(spec: Any) -> None:
    assert not from_manifest(firewall(spec))[0].egress_firewall.HasField("spec")
    assert to_manifest(from_manifest(firewall({"egress": []}))[0])["spec"] == {"egress": []}
    assert to_manifest(Object(egress_firewall=EgressFirewall(spec=EgressFirewallSpec())))["spec"] == {"egress": []}


def test_a_port_that_is_neither_number_nor_name_does_not_become_every_port() -> None:
    item = Object(network_policy=NetworkPolicy())
    item.network_policy.spec.ingress.add().ports.add().port.CopyFrom(IntOrString())
    assert to_manifest(item)["spec"]["ingress"][0]["ports"] == [{"port": ""}]


@pytest.mark.parametrize(
    ("text", "seconds", "nanos", "written"),
    [
        ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"),
        ("2024-02-29T23:59:59Z", 1709251199, 0, "2024-02-29T23:59:59Z"),
        ("2024-01-01T01:00:00+01:00", 1704067200, 0, "2024-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.5Z", -1, 500_000_000, "1969-12-31T23:59:59.5Z"),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0, "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799, 999_999_000, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times(text: str, seconds: int, nanos: int, written: str) -> None:
    item, _ = from_manifest(pod(metadata={"creationTimestamp": text}))
    assert item.pod.metadata.creation_timestamp == Timestamp(seconds=seconds, nanos=nanos)
    assert to_manifest(item)["metadata"]["creationTimestamp"] == written


@pytest.mark.parametrize("text", ["2024", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-13-01T00:00:00Z", "x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="RFC 3339") as caught:
        from_manifest(pod(metadata={"creationTimestamp": text}))
    assert caught.value.path == "metadata.creationTimestamp"


@pytest.mark.parametrize("stamp", [(1 << 62, 0), (-1 << 62, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)])
def test_a_message_with_an_impossible_time_has_no_manifest(stamp: tuple[int, int]) -> None:
    item = Object()
    item.pod.metadata.creation_timestamp.seconds, item.pod.metadata.creation_timestamp.nanos = stamp
    with pytest.raises(WireError, match="not a time"):
        to_manifest(item)


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "Pod"}, "apiVersion", "must be text"),
    ({"apiVersion": "v1"}, "kind", "must be text"),
    ({"apiVersion": "v1", "kind": "Secret"}, "kind", "unknown kind"),
    ({"apiVersion": "networking.k8s.io/v1beta1", "kind": "NetworkPolicy"}, "apiVersion", "not served"),
    (pod(metadata={"labels": {"a.b/c": True}}), 'metadata.labels["a.b/c"]', "must be text"),
    (pod(metadata={"labels": {1: "a"}}), "metadata.labels", "a key must be text"),
    (pod(metadata={"labels": {"a": "\ud800"}}), "metadata.labels.a", "half a character"),
    (pod(metadata={"labels": []}), "metadata.labels", "must be a mapping"),
    (pod(metadata={"name": 5}), "metadata.name", "must be text"),
    (pod(spec=[]), "spec", "must be a mapping"),
    (pod(spec={"hostNetwork": "true"}), "spec.hostNetwork", "must be true or false"),
    (pod(spec={"containers": {}}), "spec.containers", "must be a list"),
    (pod(spec={"containers": [{}, None]}), "spec.containers[1]", "may not be null"),
    (network({"clusterNetwork": [{"hostPrefix": 23.0}]}), "spec.clusterNetwork[0].hostPrefix", "whole number"),
    (network({"clusterNetwork": [{"hostPrefix": True}]}), "spec.clusterNetwork[0].hostPrefix", "whole number"),
    (network({"clusterNetwork": [{"hostPrefix": 1 << 31}]}), "spec.clusterNetwork[0].hostPrefix", "must be from"),
    (policy({"ingress": [{"ports": [{"port": True}]}]}), "spec.ingress[0].ports[0].port", "whole number or text"),
    (policy({"ingress": [{"from": [{"ipBlock": "x"}]}]}), "spec.ingress[0].from[0].ipBlock", "must be a mapping"),
    (firewall({"egress": [{"to": {"dnsName": 7}}]}), "spec.egress[0].to.dnsName", "must be text"),
]


@pytest.mark.parametrize(("raw", "path", "reason"), FAULTS, ids=[f"{path} {reason}" for _, path, reason in FAULTS])
def test_a_value_of_a_wrong_type_is_named_by_its_path(raw: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        from_manifest(raw)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_an_error_reads_as_one_sentence() -> None:
    with pytest.raises(WireError) as caught:
        from_manifest(pod(metadata={"labels": {"port": 8080}}))
    assert str(caught.value) == 'metadata.labels.port: must be text (got 8080); write "8080"'


@pytest.mark.parametrize("raw", [None, [], "Pod", 5])
def test_what_is_no_mapping_is_no_manifest(raw: Any) -> None:
    with pytest.raises(WireError, match="must be a mapping"):
        from_manifest(raw)


def test_an_object_of_no_kind_has_no_manifest() -> None:
    with pytest.raises(WireError, match="no object of a known kind"):
        to_manifest(Object())


def test_unknown_fields_of_a_strict_kind_are_named() -> None:
    raw = policy(
        {"podSelector": {"matchLabel": None}, "ingress": [{"from": [{"ipBlok": {}}]}]},
        metadata={"generateName": "a", "managedFields": [{}], "color": "red"},
        status={"since": 1},
        data={},
    )
    assert from_manifest(raw)[1] == (
        "metadata.color",
        "spec.podSelector.matchLabel",
        "spec.ingress[0].from[0].ipBlok",
        "data",
    )


def test_unknown_fields_of_a_lenient_kind_are_passed_over() -> None:
    raw = pod(spec={"containers": [{"name": "c", "image": "i", "env": [{"name": 1}]}], "volumes": [{}]})
    item, unknown = from_manifest(raw)
    assert unknown == ()
    assert to_manifest(item)["spec"] == {"containers": [{"name": "c"}]}


def test_reading_leaves_the_manifest_as_it_was() -> None:
    raw = pod(metadata={"labels": {"a": "b"}, "resourceVersion": "5"}, spec={"nodeName": "n1"})
    before = repr(raw)
    item, _ = from_manifest(raw)
    item.pod.metadata.labels["c"] = "d"
    assert repr(raw) == before


def test_metadata_alone_has_its_names() -> None:
    meta = from_manifest(pod("web", "shop", metadata={"uid": "u"}))[0].pod.metadata
    assert meta == ObjectMeta(
        name="web", namespace="shop", uid="u", kubernetes=KubernetesIdentity(version="v1", kind="Pod")
    )
