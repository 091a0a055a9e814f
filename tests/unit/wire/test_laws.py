"""The wire loses nothing: what is accepted of a manifest is accepted of the manifest that its message gives, and no
mistake in a manifest is gone after the way through a message.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from ovnk_api.v1.object_pb2 import Object
from ovnk_wire import KINDS, Kind, WireError, from_manifest, to_manifest
from ovnk_wire.kinds import VERSION
from ovnk_wire.path import is_map

from ovnk_core.ingest.load import Loaded, parse_objects
from tests.kit import manifest as build
from tests.kit.questions import scaled
from tests.kit.random_cluster import Manifest, RandomCluster
from tests.kit.shapes import shaped_firewall

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").rglob("*.yaml"))
SEEDS = scaled(60)

FULL: list[Manifest] = [
    build.network(
        {
            "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48"}],
            "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
            "networkType": "OVNKubernetes",
        }
    ),
    build.network_operator(
        {
            "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}],
            "defaultNetwork": {
                "type": "OVNKubernetes",
                "ovnKubernetesConfig": {
                    "mtu": 1300,
                    "genevePort": 6082,
                    "gatewayConfig": {"routingViaHost": True},
                    "v4InternalSubnet": "100.66.0.0/16",
                    "v6InternalSubnet": "fd98::/64",
                    "ipv4": {"internalJoinSubnet": "100.66.0.0/16"},
                    "ipv6": {"internalTransitSwitchSubnet": "fd97::/64"},
                },
            },
        }
    ),
    {
        "apiVersion": "config.openshift.io/v1",
        "kind": "Infrastructure",
        "metadata": {"name": "cluster"},
        "spec": {"platformSpec": {"type": "VSphere"}},
        "status": {"platform": "BareMetal", "platformStatus": {"type": "AWS"}},
    },
    build.node(
        annotations={
            "node-subnets": {"default": ["10.128.0.0/23"]},
            "node-id": "5",
            "l3-gateway-config": {"default": {"mode": "shared", "mac-address": "02:00:00:00:00:01"}},
            "host-cidrs": ["192.0.2.1/24"],
        },
        status={
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "Hostname", "address": "node-1"},
            ],
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2024-01-01T00:00:00Z"}],
        },
    ),
    build.namespace(
        metadata={
            "uid": "1c7f",
            "creationTimestamp": "2024-01-01T01:00:00+01:00",
            "labels": {"team": "a"},
            "annotations": {"k8s.ovn.org/acl-logging": '{"deny":"alert"}'},
        }
    ),
    build.pod(
        metadata={"labels": {"app": "web"}, "resourceVersion": "4711", "uid": "u-1"},
        spec={
            "nodeName": "n1",
            "hostNetwork": False,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "UDP"}]}],
            "initContainers": [{"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 81}]}],
        },
        status={"phase": "Running", "podIP": "10.128.0.5", "podIPs": [{"ip": "10.128.0.5"}, {"ip": "fd01::5"}]},
    ),
    build.policy(
        {
            "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {},
                {
                    "from": [
                        {"podSelector": {}},
                        {"namespaceSelector": {"matchExpressions": [{"key": "t", "operator": "In", "values": ["x"]}]}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [{"port": "http"}, {"protocol": "SCTP", "port": 1000, "endPort": 2000}, {}],
                },
            ],
            "egress": [{"to": [{"podSelector": {}, "namespaceSelector": {}}], "ports": [{"protocol": "UDP"}]}],
        },
        status={"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 3}]},
    ),
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop", "labels": {"a": "b"}, "annotations": {"note": "x"}},
        "spec": {
            "egress": [
                {"type": "Allow", "to": {"dnsName": "www.example.com"}, "ports": [{"port": 443}, {"protocol": "UDP"}]},
                {"type": "Allow", "to": {"nodeSelector": {"matchLabels": {"zone": "east"}}}},
                {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
            ]
        },
        "status": {"status": "EgressFirewall Rules applied", "messages": ["ok"]},
    },
    build.service(
        {
            "type": "LoadBalancer",
            "clusterIP": "172.30.0.10",
            "clusterIPs": ["172.30.0.10", "fd02::a"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
            ],
            "externalIPs": ["203.0.113.7"],
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "allocateLoadBalancerNodePorts": False,
            "publishNotReadyAddresses": True,
            "selector": {"app": "web"},
        },
        status={
            "loadBalancer": {"ingress": [{"ip": "198.51.100.9", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]},
        },
    ),
    build.endpoint_slice(
        [
            {
                "addresses": ["10.128.0.5"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "nodeName": "n1",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web"},
            },
            {"addresses": ["10.128.0.6"]},
        ],
        [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "protocol": "UDP"}],
    ),
    build.endpoints(
        [
            {
                "addresses": [{"ip": "10.128.0.5", "nodeName": "n1"}],
                "notReadyAddresses": [{"ip": "fd01::5"}],
                "ports": [{"name": "http", "port": 8080}, {"name": "sctp", "port": 1, "protocol": "SCTP"}],
            }
        ]
    ),
    {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "EgressIP",
        "metadata": {"name": "out", "labels": {"a": "b"}},
        "spec": {
            "egressIPs": ["192.0.2.100", "2001:db8::100"],
            "namespaceSelector": {"matchLabels": {"env": "prod"}},
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        },
        "status": {
            "items": [{"egressIP": "192.0.2.100", "node": "n1"}],
            "assignments": [{"egressIP": "192.0.2.100", "node": "n1"}],
        },
    },
    build.network_attachment(),
]
"""One manifest of each kind that uses every field that is read."""


def through(manifest: Manifest) -> tuple[Manifest, tuple[str, ...]]:
    """A manifest after the way through a message and its bytes."""
    item, unknown = from_manifest(manifest)
    return to_manifest(Object.FromString(item.SerializeToString(deterministic=True))), unknown


def test_every_kind_has_a_full_manifest() -> None:
    assert [from_manifest(each)[0].WhichOneof("object") for each in FULL] == [kind.field for kind in KINDS]


@pytest.mark.parametrize("raw", FULL, ids=lambda raw: raw["kind"] + raw["apiVersion"][:3])
def test_a_full_manifest_is_accepted_alike(raw: Manifest) -> None:
    back, unknown = through(raw)
    assert unknown == ()
    assert build.accepted(back).items[0].value == build.accepted(raw).items[0].value


def test_the_examples_are_accepted_alike() -> None:
    raws = [raw for path in EXAMPLES for raw in yaml.safe_load_all(path.read_text()) if raw is not None]
    known = [raw for raw in raws if _is_known(raw)]
    assert len(known) > 10
    for raw in known:
        _assert_alike(raw)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_clusters_are_accepted_alike(seed: int) -> None:
    cluster = RandomCluster(seed)
    for _ in range(5):
        cluster.mutate()
        cluster.spoil()
    for raw in cluster.manifests():
        _assert_alike(raw)


@pytest.mark.parametrize("shape", ["realistic", "realistic6", "ports"])
def test_large_firewalls_are_accepted_alike(shape: str) -> None:
    _assert_alike(shaped_firewall(shape, 500, seed=1))


def _is_known(raw: Manifest) -> bool:
    try:
        from_manifest(raw)
    except WireError:
        return False
    return True


def _assert_alike(raw: Manifest) -> None:
    """Nothing is unknown, and both manifests have one fate."""
    back, unknown = through(raw)
    assert unknown == ()
    assert _fate(parse_objects([back])) == _fate(parse_objects([raw]))


def _fate(loaded: Loaded) -> tuple[Any, ...]:
    """Values that are accepted; path and reason of every error. A message cannot tell an empty name from none."""
    found = [error for each in loaded.refused for error in each.errors]
    errors = sorted((error.path, "" if error.path == "metadata.name" else str(error.reason)) for error in found)
    stand_ins = [each.stand_in for each in loaded.refused]
    return [item.value for item in loaded.items], errors, stand_ins, loaded.unknown


# ------------------------------------------------------------------------------------------- mistakes

LEAVES: tuple[Any, ...] = ("", "x", 0, -1, 80, 1.5, True, None, [], {}, [None], {"a": 1}, "10.0.0.0/8", 1 << 40)


@pytest.mark.parametrize("seed", range(scaled(400)))
def test_a_mistake_in_spec_stays_a_mistake(seed: int) -> None:
    """A random part of a spec is replaced, removed or added. Either the wire complains, or both manifests are accepted
    alike or refused for the same reasons; where only the wire complains, the kind is one that is not read whole."""
    rng = random.Random(seed)
    raw = copy.deepcopy(rng.choice(FULL))
    _spoil(rng, raw)
    loaded = parse_objects([copy.deepcopy(raw)])
    try:
        item, unknown = from_manifest(raw)
    except WireError as error:
        assert loaded.refused or error.steps[0] in ("metadata", "status") or _kind_of(raw).is_lenient, error
        return
    if unknown:
        assert any("unknown field" in str(error.reason) for each in loaded.refused for error in each.errors)
    else:
        assert _fate(parse_objects([to_manifest(item)])) == _fate(loaded)


def _kind_of(raw: Manifest) -> Kind:
    group = raw["apiVersion"].rpartition("/")[0]
    return next(kind for kind in KINDS if (kind.group, kind.kubernetes_kind) == (group, raw["kind"]))


def _spoil(rng: random.Random, raw: Manifest) -> None:
    """Walks down from spec (or what there is in its place) and changes what it arrives at."""
    owner: Any = raw
    key: Any = next(key for key in ("spec", "endpoints", "subsets", "metadata") if key in raw)
    while isinstance(owner[key], dict | list) and owner[key] and rng.random() < 0.85:
        owner = owner[key]
        key = rng.choice(list(owner)) if isinstance(owner, dict) else rng.randrange(len(owner))
    choice = rng.random()
    if choice < 0.6:
        owner[key] = copy.deepcopy(rng.choice(LEAVES))
    elif choice < 0.8:
        del owner[key]
    elif isinstance(owner, dict):
        owner["surprise"] = rng.choice(LEAVES)
    else:
        owner.append(copy.deepcopy(rng.choice(LEAVES)))


# ------------------------------------------------------------------------------------------- messages

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INT_RANGES = {FieldDescriptor.CPPTYPE_INT32: 1 << 31, FieldDescriptor.CPPTYPE_INT64: 1 << 63}
TIMES = st.builds(
    lambda seconds, micros: {"seconds": seconds, "nanos": micros * 1000},
    st.integers(-62_135_596_800, 253_402_300_799),
    st.integers(0, 999_999),
)
INTS_OR_STRINGS = st.one_of(
    st.builds(lambda value: {"number": value}, st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(lambda value: {"text": value}, TEXTS),
)


def _bodies(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """What a constructor takes, for any message of a manifest."""
    special = {"Timestamp": TIMES, "IntOrString": INTS_OR_STRINGS}.get(descriptor.name)
    if special is not None:
        return special
    hidden = ("kubernetes", "source", "resource_version") if descriptor.name == "ObjectMeta" else ()
    return st.fixed_dictionaries(
        {}, optional={field.name: _values(field) for field in descriptor.fields if field.name not in hidden}
    )


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if is_map(field):
        return st.dictionaries(TEXTS, TEXTS, max_size=3)
    if field.message_type is not None:
        one: st.SearchStrategy[Any] = _bodies(field.message_type)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        one = st.booleans()
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        one = TEXTS
    else:
        limit = INT_RANGES[field.cpp_type]
        one = st.integers(-limit, limit - 1)
    return st.lists(one, max_size=2) if field.is_repeated else one


VERSIONS = st.sampled_from([{}, {"resource_version": "r7"}, {"kubernetes": {"resource_version": "4711"}}])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
def test_a_message_comes_back_from_its_manifest(kind: Kind, data: st.DataObject) -> None:
    body = data.draw(_bodies(kind.descriptor))
    item = Object(**{kind.field: body})
    meta = getattr(item, kind.field).metadata
    version: dict[str, Any] = data.draw(VERSIONS)
    meta.MergeFrom(type(meta)(**version))
    meta.kubernetes.MergeFrom(
        type(meta.kubernetes)(group=kind.group, version=VERSION, kind=kind.kubernetes_kind),
    )
    manifest = json.loads(json.dumps(to_manifest(item)))
    assert from_manifest(manifest) == (item, ())
