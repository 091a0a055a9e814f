"""Clusters with hybrid networking: the manual's configuration, Linux and Windows nodes, and pods on either."""

from __future__ import annotations

from typing import Any

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import parse_objects
from tests.kit import manifest as m

Raw = dict[str, Any]
RANGE = {"cidr": "10.132.0.0/14", "hostPrefix": 23}
LINUX, WINDOWS, WINDOWS_POD = "node-1", "win-1", "10.132.0.9"


def hybrid(port: int | None = None, *entries: Raw, geneve: int | None = None) -> Raw:
    """The operator's Network with hybridOverlayConfig; the manual's range unless others are given."""
    config: Raw = {"hybridClusterNetwork": list(entries) or [dict(RANGE)]}
    config |= {} if port is None else {"hybridOverlayVXLANPort": port}
    return operator({"hybridOverlayConfig": config} | ({} if geneve is None else {"genevePort": geneve}))


def operator(config: Raw) -> Raw:
    return m.network_operator({"defaultNetwork": {"ovnKubernetesConfig": config}})


def platform(word: str) -> Raw:
    meta, status = {"name": "cluster"}, {"platformStatus": {"type": word}}
    return {"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": meta, "status": status}


def windows_node(name: str = WINDOWS, address: str = "192.0.2.9", **annotations: str) -> Raw:
    found = m.node(name, {key.replace("_", "-"): text for key, text in annotations.items()}, address)
    found["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    return found


def pod(name: str, node: str, *addresses: str, **labels: str) -> Raw:
    status: Raw = {"phase": "Running"} | ({"podIPs": [{"ip": text} for text in addresses]} if addresses else {})
    found = m.pod(name, spec={"nodeName": node, "containers": []}, status=status)
    found["metadata"]["labels"] = labels
    return found


def landscape(port: int | None = None) -> list[Raw]:
    """Two Linux nodes and a Windows node, a pod on each; the Windows pod has ``WINDOWS_POD``."""
    return [
        hybrid(port),
        m.namespace(),
        m.node(LINUX),
        m.node("node-2", address="192.0.2.2"),
        windows_node(),
        pod("web", LINUX, app="web"),
        pod("db", "node-2"),
        pod("iis", WINDOWS, WINDOWS_POD, app="iis"),
    ]


def installed(*objects: Raw, base: Cluster | None = None) -> Cluster:
    """A cluster with these objects, all of which it must accept."""
    found = base or Cluster(check=True)
    put(found, *objects)
    assert not found.refused, [str(each) for each in found.errors]
    return found


def put(cluster: Cluster, *objects: Raw) -> None:
    loaded = parse_objects(objects)
    assert not loaded.refused, [str(error) for each in loaded.refused for error in each.errors]
    cluster.apply(loaded.items)


def reasons(cluster: Cluster) -> str:
    return "\n".join(f"{error.path}: {error.reason}" for error in cluster.errors)
