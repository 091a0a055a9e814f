"""Who joined a multicast group, as chassis would report it: rows of the southbound's IGMP_Group.

A chassis writes them when it hears reports on a switch that snoops; northd makes flows of them. Here everybody joins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ovnk_core.cluster import Cluster
from ovnk_core.indexes.endpoint import ENDPOINT
from ovnk_core.nb import naming
from ovnk_core.nb.desired import SWITCHES
from ovnk_core.terms.address import Address
from tests.kit.ovn import Central

CHASSIS = "chassis-of-listeners"


def unpin_routers(central: Central) -> None:
    """Take the router's ports off their chassis, until the next reconcile puts them back.

    A copy to a pinned port is put out of its chassisredirect twin, which a chassis replaces by the port (OVN 23.03,
    physical.c); ovn-trace does that for single outputs and not for groups, and would lose every relayed copy.
    """
    pinned = {"op": "update", "table": "Logical_Router_Port", "where": [], "row": {"gateway_chassis": ["set", []]}}
    with central.northbound.wire() as wire:
        wire.transact(pinned)
    central.sync()


def everybody_joins(central: Central, cluster: Cluster, groups: Iterable[Address]) -> int:
    """Every pod on a switch that snoops joins every group; what others joined before is forgotten. How many rows."""
    engine = cluster.engine
    snooping = {
        row.name for row in engine.rows(SWITCHES).values() if dict(row.other_config).get("mcast_snoop") == "true"
    }
    pods: dict[str, list[str]] = {}
    for key, pod in engine.rows(ENDPOINT).items():
        pods.setdefault(pod.node, []).append(naming.pod_port_name(key))
    with central.southbound.wire() as wire:
        if not wire.select("Chassis", columns=["name"]):
            encap = {"type": "geneve", "ip": "192.0.2.1", "chassis_name": CHASSIS}
            wire.transact(
                {"op": "insert", "table": "Encap", "row": encap, "uuid-name": "encap"},
                {"op": "insert", "table": "Chassis", "row": {"name": CHASSIS, "encaps": ["named-uuid", "encap"]}},
            )
        chassis = wire.select("Chassis", columns=["_uuid"])[0]["_uuid"]
        bindings = wire.select("Port_Binding", columns=["_uuid", "logical_port", "datapath"])
        ports = {row["logical_port"]: row["_uuid"] for row in bindings}
        datapaths = {row["logical_port"]: row["datapath"] for row in bindings}
        rows: list[dict[str, Any]] = [
            {
                "address": str(group),
                "datapath": datapaths[names[0]],
                "chassis": chassis,
                "ports": ["set", [ports[name] for name in names]],
            }
            for group in groups
            for node, names in sorted(pods.items())
            if node in snooping
        ]
        inserts = [{"op": "insert", "table": "IGMP_Group", "row": row} for row in rows]
        wire.transact({"op": "delete", "table": "IGMP_Group", "where": []}, *inserts)
    central.sync()
    return len(rows)
