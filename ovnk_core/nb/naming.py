"""Names of rows and the identity of rows that several rooms refer to.

A person who knows OVN-Kubernetes must feel at home in ``ovn-nbctl show``: these are its names.
Cluster-wide rows are owned by ``Cluster default``; rows of an object by that object.
"""

from __future__ import annotations

from functools import lru_cache

from ovnk_core.nb.row import RowId
from ovnk_core.terms.name import NamespacedName, ObjectRef, hashed_name

CLUSTER_OWNER = ObjectRef("Cluster", "", "default")
CLUSTER_ROUTER, JOIN_SWITCH = "ovn_cluster_router", "join"
JOIN_ROUTER_PORT, JOIN_SWITCH_PORT = f"rtoj-{CLUSTER_ROUTER}", f"jtor-{CLUSTER_ROUTER}"
LB_GROUPS = ("clusterLBGroup", "clusterSwitchLBGroup", "clusterRouterLBGroup")
CLUSTER_PORT_GROUP = hashed_name("Cluster", "clusterPortGroup")
CLUSTER_ROUTER_PORT_GROUP = hashed_name("Cluster", "clusterRtrPortGroup")
COPP = "ovnkube-default"

CLUSTER_ROUTER_ROW = RowId("Logical_Router", CLUSTER_OWNER, CLUSTER_ROUTER)
JOIN_SWITCH_ROW = RowId("Logical_Switch", CLUSTER_OWNER, JOIN_SWITCH)
CLUSTER_PORT_GROUP_ROW = RowId("Port_Group", CLUSTER_OWNER, "clusterPortGroup")
CLUSTER_ROUTER_PORT_GROUP_ROW = RowId("Port_Group", CLUSTER_OWNER, "clusterRtrPortGroup")


def lb_group_row(name: str) -> RowId:
    return RowId("Load_Balancer_Group", CLUSTER_OWNER, name)


def node_owner(node: str) -> ObjectRef:
    return ObjectRef("Node", "", node)


def node_switch_row(node: str) -> RowId:
    return RowId("Logical_Switch", node_owner(node), "switch")


def external_switch_row(node: str) -> RowId:
    return RowId("Logical_Switch", node_owner(node), "external")


def egress_ip_owner(name: str) -> ObjectRef:
    return ObjectRef("EgressIP", "", name)


def gateway_router_row(node: str) -> RowId:
    return RowId("Logical_Router", node_owner(node), "gateway")


def node_port_row(node: str, role: str) -> RowId:
    """A switch port of a node: ``stor``, ``management``, ``hybrid``, ``jtor``, ``etor``, ``localnet``."""
    return RowId("Logical_Switch_Port", node_owner(node), role)


def router_port_row(node: str, role: str) -> RowId:
    """A router port of a node: ``rtos``, ``rtoj``, ``rtoe``."""
    return RowId("Logical_Router_Port", node_owner(node), role)


@lru_cache(maxsize=1 << 17)
def pod_port_row(pod: NamespacedName) -> RowId:
    return RowId("Logical_Switch_Port", ObjectRef("Pod", pod.namespace, pod.name), "port")


def pod_port_name(pod: NamespacedName) -> str:
    return f"{pod.namespace}_{pod.name}"


def gateway_router(node: str) -> str:
    return f"GR_{node}"


def external_switch(node: str) -> str:
    return f"ext_{node}"


def management_port(node: str) -> str:
    return f"k8s-{node}"


def hybrid_port(node: str) -> str:
    return f"int-{node}"


def switch_to_router(node: str) -> str:
    return f"stor-{node}"


def router_to_switch(node: str) -> str:
    return f"rtos-{node}"


def router_to_join(node: str) -> str:
    return f"rtoj-{gateway_router(node)}"


def join_to_router(node: str) -> str:
    return f"jtor-{gateway_router(node)}"


def router_to_external(node: str) -> str:
    return f"rtoe-{gateway_router(node)}"


def external_to_router(node: str) -> str:
    return f"etor-{gateway_router(node)}"


def localnet_port(node: str, interface: str) -> str:
    """``<bridge>_<node>``, as OVN-Kubernetes writes interface-id; a bridge alone would be one name on many nodes."""
    return interface if interface.endswith(f"_{node}") else f"{interface or 'br-ex'}_{node}"
