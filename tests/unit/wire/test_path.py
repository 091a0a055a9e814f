"""Paths of a manifest and of its message, both ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor
from ovnk_wire import KINDS, kind_named, manifest_path, wire_path
from ovnk_wire.path import is_map

PATHS = [
    ("EgressFirewall", "spec.egress[41].to.cidrSelector", "spec.egress[41].to.cidr_selector"),
    (
        "NetworkPolicy",
        "spec.ingress[0].from[1].ipBlock.except[2]",
        "spec.ingress[0].from_peers[1].ip_block.excepts[2]",
    ),
    ("NetworkPolicy", "spec.ingress[0].ports[1].port", "spec.ingress[0].ports[1].port"),
    (
        "NetworkPolicy",
        'spec.podSelector.matchLabels["a.b/podSelector"]',
        'spec.pod_selector.match_labels["a.b/podSelector"]',
    ),
    ("Node", 'metadata.annotations["k8s.ovn.org/x"].default[0]', 'metadata.annotations["k8s.ovn.org/x"].default[0]'),
    ("Pod", "status.podIPs[1].ip", "status.pod_ips[1].ip"),
    ("Pod", "metadata.creationTimestamp", "metadata.creation_timestamp"),
    ("Pod", "spec.surprise.nodeName", "spec.surprise.nodeName"),
    ("Pod", "apiVersion", "apiVersion"),
    ("Pod", "", ""),
]


@pytest.mark.parametrize(("name", "manifest", "wire"), PATHS)
def test_paths(name: str, manifest: str, wire: str) -> None:
    kind = kind_named(name)
    assert kind is not None
    assert wire_path(kind, manifest) == wire
    assert manifest_path(kind, wire) == manifest


def test_every_field_comes_back() -> None:
    count = 0
    for kind in KINDS:
        for path in _paths(kind.descriptor):
            assert manifest_path(kind, wire_path(kind, path)) == path
            count += 1
    assert count > 150


def _paths(descriptor: Descriptor, owner: str = "") -> Iterator[str]:
    for field in descriptor.fields:
        path = f"{owner}.{field.json_name}" if owner else field.json_name
        yield path
        if field.message_type is not None and not is_map(field):
            yield from _paths(field.message_type, f"{path}[3]" if field.is_repeated else path)
