"""No input raises: random bytes, mutated manifests and random trees end as items, refusals or skipped kinds."""

from __future__ import annotations

import io
import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovnk_core.ingest.load import Loaded, load, parse_objects
from ovnk_core.ingest.metadata import is_label_name, is_subdomain, label_key_fault, label_value_fault
from ovnk_core.ingest.parse import KIND_RULES
from ovnk_core.model.network_policy import NetworkPolicy
from tests.kit.manifest import namespace, network, network_operator, node, pod, policy

SCALE = float(os.environ.get("TEST_SCALE", "1"))
QUIET = settings(max_examples=max(1, int(200 * SCALE)), deadline=None, suppress_health_check=list(HealthCheck))
WORDS = st.sampled_from(
    [
        "metadata",
        "name",
        "namespace",
        "spec",
        "podSelector",
        "ingress",
        "from",
        "ports",
        "port",
        "ipBlock",
        "cidr",
        "except",
        "labels",
        "annotations",
        "status",
        "k8s.ovn.org/node-subnets",
        "addresses",
        "items",
        "kind",
        "List",
        "10.0.0.0/8",
        "web",
        "TCP",
        "In",
        "default",
        "matchLabels",
        "apiVersion",
        "v1",
        "{",
        "hostNetwork",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS
TREES = st.recursive(
    LEAVES,
    lambda child: st.lists(child, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), child, max_size=4),
    max_leaves=20,
)
HEADS = st.sampled_from([(f"{group}/{rule.version}".lstrip("/"), kind) for (group, kind), rule in KIND_RULES.items()])


def from_bytes(data: bytes) -> Loaded:
    return load(["-"], stdin=io.BytesIO(data))


def check(loaded: Loaded) -> None:
    """What must hold of any result: reasons are there and printable, names that pass are safe."""
    for refused in loaded.refused:
        assert refused.errors
        assert all(error.reason and error.source and str(error).isprintable() for error in refused.errors)
        if refused.ref.kind == "NetworkPolicy" and is_label_name(refused.ref.namespace):
            closed = refused.stand_in
            assert closed is not None
            assert closed.blocked
            assert not closed.ingress
            assert not closed.egress
            assert is_subdomain(closed.name)
    for item in loaded.items:
        assert is_subdomain(item.ref.name)
        assert str(item.source)
        labels = getattr(item.value, "labels", ())
        assert not any(label_key_fault(key) or label_value_fault(value) for key, value in labels)
        assert not isinstance(item.value, NetworkPolicy) or not item.value.blocked


@QUIET
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    check(from_bytes(data))


@QUIET
@given(st.text(alphabet=st.sampled_from("ab01:-[]{}&*!<'\"|>#%@,\n \t?~.\r"), max_size=80))
def test_random_yaml_punctuation(text: str) -> None:
    check(from_bytes(text.encode()))


@QUIET
@given(st.data())
def test_manifests_with_random_bytes_changed(data: st.DataObject) -> None:
    raws = [policy({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}), pod(), node()]
    text = bytearray("\n---\n".join(json.dumps(raw, indent=1) for raw in raws).encode())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(0, 255)), max_size=4)):
        text[at] = byte
    check(from_bytes(bytes(text)))


@QUIET
@given(st.lists(TREES, max_size=3))
def test_random_trees(raws: list[Any]) -> None:
    check(parse_objects(raws))


@QUIET
@given(HEADS, TREES, TREES, TREES)
def test_random_fields_under_a_known_kind(head: tuple[str, str], meta: Any, spec: Any, status: Any) -> None:
    raw = {"apiVersion": head[0], "kind": head[1], "spec": spec, "status": status}
    check(parse_objects([{**raw, "metadata": meta}, {**raw, "metadata": {"name": "a", "labels": meta}}]))


@QUIET
@given(st.data())
def test_one_field_of_a_good_manifest_replaced(data: st.DataObject) -> None:
    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
    peers = [{"podSelector": selector}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
    rule = {"from": peers, "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}]}
    goods: list[Any] = [
        policy({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [rule]}),
        pod(
            spec={"containers": [{"ports": [{"name": "a", "containerPort": 1}]}]},
            status={"podIPs": [{"ip": "10.0.0.1"}]},
        ),
        node(annotations={"node-subnets": {"default": ["10.128.0.0/23"]}, "node-id": "2"}),
        network({"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}),
        network_operator({"defaultNetwork": {"type": "OVNKubernetes", "ovnKubernetesConfig": {"mtu": 1400}}}),
        namespace(metadata={"labels": {"a": "b"}, "annotations": {"k8s.ovn.org/acl-logging": "{}"}}),
    ]
    raw = data.draw(st.sampled_from(goods))
    container: Any = raw
    key = data.draw(st.sampled_from(sorted(raw)))
    while isinstance(container[key], dict | list) and container[key] and data.draw(st.booleans()):
        container = container[key]
        key = data.draw(st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container))))
    container[key] = data.draw(TREES)
    check(parse_objects([raw]))
    try:
        text = json.dumps(raw, allow_nan=False).encode()
    except ValueError:
        return
    check(from_bytes(text))
