"""Builders of plain manifests, and two ways to load one: expecting it accepted, expecting it refused."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from ovnk_core.ingest.load import Loaded, Refused, parse_objects
from ovnk_core.model.object import Declared

Raw = dict[str, Any]
T = TypeVar("T", bound=Declared)
OVN = "k8s.ovn.org/"


def _object(version: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Raw:
    meta: Raw = {"name": name, **fields.pop("metadata", {})}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def policy(spec: Any = None, name: str = "p", namespace: str = "shop", **fields: Any) -> Raw:
    spec = {"podSelector": {}} if spec is None else spec
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, namespace, spec=spec, **fields)


def pod(name: str = "web", namespace: str = "shop", **fields: Any) -> Raw:
    return _object("v1", "Pod", name, namespace, **fields)


def namespace(name: str = "shop", **fields: Any) -> Raw:
    return _object("v1", "Namespace", name, **fields)


def service(spec: Any = None, name: str = "web", namespace: str = "shop", **fields: Any) -> Raw:
    spec = {"ports": [{"port": 80}]} if spec is None else spec
    return _object("v1", "Service", name, namespace, spec=spec, **fields)


def endpoint_slice(
    endpoints: list[Raw], ports: list[Raw], *, service: str = "web", name: str = "web-1", family: str = "IPv4"
) -> Raw:
    """Of the Service ``service`` of namespace shop; none if that is empty."""
    meta: Raw = {"labels": {"kubernetes.io/service-name": service}} if service else {}
    fields: Raw = {"addressType": family, "endpoints": endpoints, "ports": ports}
    return _object("discovery.k8s.io/v1", "EndpointSlice", name, "shop", metadata=meta, **fields)


def endpoints(subsets: list[Raw], name: str = "web", namespace: str = "shop") -> Raw:
    return _object("v1", "Endpoints", name, namespace, subsets=subsets)


def node(name: str = "node-1", annotations: Raw | None = None, address: str | None = "192.0.2.1", **fields: Any) -> Raw:
    """Annotation keys get the k8s.ovn.org/ prefix; values that are not text are written as JSON."""
    written = {f"{OVN}{key}": as_annotation(value) for key, value in (annotations or {}).items()}
    if address is not None:
        fields.setdefault("status", {"addresses": [{"type": "InternalIP", "address": address}]})
    meta = {"annotations": written, **fields.pop("metadata", {})}
    return _object("v1", "Node", name, metadata=meta, **fields)


def network(spec: Raw | None = None, name: str = "cluster") -> Raw:
    return _object("config.openshift.io/v1", "Network", name, spec=spec or {})


def network_attachment(name: str = "router", namespace: str = "shop", **ip: Any) -> Raw:
    """An egress router's, of the addresses of 15.12.1."""
    given = {"addresses": ["192.168.12.99/24"], "destinations": ["192.168.12.91/32"], "gateway": "192.168.12.1"} | ip
    config = json.dumps({"cniVersion": "0.4.0", "type": "egress-router", "name": name, "ip": given})
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": config},
    }


def network_operator(spec: Raw | None = None, name: str = "cluster") -> Raw:
    return _object("operator.openshift.io/v1", "Network", name, spec=spec or {})


def as_annotation(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def accept(raw: Any, kind: type[T]) -> T:
    """The one model value that ``raw`` gives."""
    value = accepted(raw).items[0].value
    assert isinstance(value, kind)
    return value


def accepted(raw: Any) -> Loaded:
    loaded = parse_objects([raw])
    assert not loaded.refused, [str(error) for entry in loaded.refused for error in entry.errors]
    assert len(loaded.items) == 1
    return loaded


def refuse(raw: Any) -> Refused:
    """The one refusal that ``raw`` gives."""
    loaded = parse_objects([raw])
    assert not loaded.items, loaded.items
    assert len(loaded.refused) == 1
    return loaded.refused[0]


def complaints(raw: Any) -> list[tuple[str, str]]:
    """(path, reason) of every error."""
    return [(error.path, error.reason) for error in refuse(raw).errors]


def assert_refused(raw: Any, path: str, reason: str) -> None:
    """Exactly one error, at ``path``, whose reason holds ``reason``."""
    found = complaints(raw)
    assert len(found) == 1, found
    assert found[0][0] == path
    assert reason in found[0][1]
