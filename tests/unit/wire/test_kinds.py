"""The table of kinds agrees with the model and the API, and every spelling finds the kind a user means."""

from __future__ import annotations

import pytest
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.object_pb2 import Object
from ovnk_wire import KINDS, WireError, body_of, find_kind, kind_named, kind_of, reference_of
from ovnk_wire.kinds import VERSION, kind_of_manifest

from ovnk_core.ingest.parse import KIND_RULES
from ovnk_core.model.object import KINDS as MODEL_KINDS


def test_the_table_has_the_kinds_of_the_model() -> None:
    assert {kind.name for kind in KINDS} == set(MODEL_KINDS)
    for (group, word), rule in KIND_RULES.items():
        kind = kind_of_manifest(group, word)
        assert kind is not None
        assert (kind.name, kind.is_namespaced, VERSION) == (rule.kind, rule.is_namespaced, rule.version)


def test_the_table_has_the_fields_of_object() -> None:
    assert [kind.field for kind in KINDS] == [field.name for field in Object.DESCRIPTOR.fields]
    for kind in KINDS:
        assert kind.message.DESCRIPTOR is kind.descriptor
        assert kind_named(kind.name) is kind


def test_every_kind_has_the_sections_of_a_manifest() -> None:
    for kind in KINDS:
        sections = {field.number: field.json_name for field in kind.descriptor.fields}
        assert sections[1] == "metadata"
        if kind.name in ("EndpointSlice", "Endpoints"):  # which Kubernetes made without sections
            assert not {"spec", "status"} & set(sections.values())
        else:
            assert sections.items() <= {1: "metadata", 2: "spec", 3: "status"}.items()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("po", "Pod"),
        ("Pods", "Pod"),
        ("ns", "Namespace"),
        ("no", "Node"),
        ("netpol", "NetworkPolicy"),
        ("networkpolicies.networking.k8s.io", "NetworkPolicy"),
        ("networkpolicies.v1.networking.k8s.io", "NetworkPolicy"),
        ("egressfirewall", "EgressFirewall"),
        ("ef", "EgressFirewall"),
        ("egressfirewalls.k8s.ovn.org", "EgressFirewall"),
        ("svc", "Service"),
        ("services", "Service"),
        ("endpointslice", "EndpointSlice"),
        ("endpointslices.discovery.k8s.io", "EndpointSlice"),
        ("ep", "Endpoints"),
        ("endpoints", "Endpoints"),
        ("network", "Network"),
        ("networks", "Network"),
        ("network.config.openshift.io", "Network"),
        ("networks.operator.openshift.io", "NetworkOperator"),
        ("Network.operator.openshift.io", "NetworkOperator"),
        ("networkoperator", "NetworkOperator"),
        ("infrastructure", "Infrastructure"),
    ],
)
def test_spellings(word: str, name: str) -> None:
    kind = find_kind(word)
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize("word", ["", ".", "p", "route", "pods.k8s.ovn.org", "networks.example.com"])
def test_what_is_no_spelling_finds_nothing(word: str) -> None:
    assert find_kind(word) is None


def test_an_object_knows_its_kind_and_reference() -> None:
    item = Object()
    item.egress_firewall.metadata.name, item.egress_firewall.metadata.namespace = "default", "shop"
    assert kind_of(item).name == "EgressFirewall"
    assert body_of(item) is item.egress_firewall
    assert reference_of(item) == ObjectReference(kind="EgressFirewall", namespace="shop", name="default")
    with pytest.raises(WireError):
        reference_of(Object())


def test_resources_are_named_in_full() -> None:
    assert [kind.resource for kind in KINDS if kind.is_namespaced] == [
        "pods",
        "networkpolicies.networking.k8s.io",
        "egressfirewalls.k8s.ovn.org",
        "services",
        "endpointslices.discovery.k8s.io",
        "endpoints",
        "network-attachment-definitions.k8s.cni.cncf.io",
    ]
    assert {kind.api_version for kind in KINDS} >= {"v1", "networking.k8s.io/v1"}
