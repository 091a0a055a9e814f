"""The desired northbound, as engine tables: one per schema table, and ``MEMBER`` for all set-valued columns.

Rooms and topology write these; reconcile compares them with what the database holds.
"""

from __future__ import annotations

from typing import Any

from ovnk_core.engine.table import SetTable, Table
from ovnk_core.nb import tables as nb
from ovnk_core.nb.row import ColumnId, Element, Pairs, RowId, pairs_of
from ovnk_core.terms.name import DEFAULT_CONTROLLER

ACLS = Table[RowId, nb.Acl]("nb.ACL")
PORT_GROUPS = Table[RowId, nb.PortGroup]("nb.Port_Group")
ADDRESS_SETS = Table[RowId, nb.AddressSet]("nb.Address_Set")
SWITCHES = Table[RowId, nb.LogicalSwitch]("nb.Logical_Switch")
SWITCH_PORTS = Table[RowId, nb.LogicalSwitchPort]("nb.Logical_Switch_Port")
ROUTERS = Table[RowId, nb.LogicalRouter]("nb.Logical_Router")
ROUTER_PORTS = Table[RowId, nb.LogicalRouterPort]("nb.Logical_Router_Port")
STATIC_ROUTES = Table[RowId, nb.StaticRoute]("nb.Logical_Router_Static_Route")
ROUTER_POLICIES = Table[RowId, nb.RouterPolicy]("nb.Logical_Router_Policy")
NATS = Table[RowId, nb.Nat]("nb.NAT")
LOAD_BALANCERS = Table[RowId, nb.LoadBalancer]("nb.Load_Balancer")
LB_GROUPS = Table[RowId, nb.LoadBalancerGroup]("nb.Load_Balancer_Group")
TEMPLATE_VARS = Table[RowId, nb.ChassisTemplateVar]("nb.Chassis_Template_Var")
GATEWAY_CHASSIS = Table[RowId, nb.GatewayChassis]("nb.Gateway_Chassis")
MAC_BINDINGS = Table[RowId, nb.StaticMacBinding]("nb.Static_MAC_Binding")
COPPS = Table[RowId, nb.Copp]("nb.Copp")
METERS = Table[RowId, nb.Meter]("nb.Meter")
METER_BANDS = Table[RowId, nb.MeterBand]("nb.Meter_Band")

MEMBER = SetTable[ColumnId, Element]("nb.member")

GLOBAL_KEYS = Table[str, str]("nb.NB_Global")
"""Our own keys of NB_Global's external_ids: what is recorded of objects that have no row."""

DESIRED: dict[str, Table[RowId, Any]] = {
    table.name.removeprefix("nb."): table
    for table in (
        ACLS,
        PORT_GROUPS,
        ADDRESS_SETS,
        SWITCHES,
        SWITCH_PORTS,
        ROUTERS,
        ROUTER_PORTS,
        STATIC_ROUTES,
        ROUTER_POLICIES,
        NATS,
        LOAD_BALANCERS,
        LB_GROUPS,
        TEMPLATE_VARS,
        GATEWAY_CHASSIS,
        MAC_BINDINGS,
        COPPS,
        METERS,
        METER_BANDS,
    )
}
"""By schema table name."""


def object_ids(owner_type: str, *values: str, **extra: str) -> Pairs:
    """The ``k8s.ovn.org/*`` external_ids by which readers of OVN-Kubernetes databases find a row's owner.

    ``values`` make the primary id; keys of ``extra`` are written with dashes (``gress_index`` -> ``gress-index``).
    Readers only: our own ownership is ``ovnk-owner`` alone.
    """
    ids = {
        "k8s.ovn.org/owner-controller": DEFAULT_CONTROLLER,
        "k8s.ovn.org/owner-type": owner_type,
        "k8s.ovn.org/id": ":".join((DEFAULT_CONTROLLER, owner_type, *values)),
        **({"k8s.ovn.org/name": values[0]} if values else {}),
        **{key.replace("_", "-"): value for key, value in extra.items()},
    }
    return pairs_of(ids)
