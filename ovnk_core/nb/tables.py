"""The northbound tables we write, as structs.

Column names and types follow ovn-nb(5), schema 7.0.0 and later. ``TABLES`` is the registry that reconcile,
drivers and ``ovnk rows`` share: struct, set-valued columns held in ``member`` and whether external_ids exists.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.nb.row import NbRow, Pairs
from ovnk_core.terms.struct import Value

Direction = Literal["from-lport", "to-lport"]
APPLY_AFTER_LB: Pairs = (("apply-after-lb", "true"),)
"""ACL option: judge a from-lport packet after load balancing, on the backend it goes to."""


class Acl(NbRow, frozen=True, kw_only=True):
    """Member of Port_Group.acls or Logical_Switch.acls."""

    direction: Direction
    priority: int
    match: str
    action: Literal["allow", "allow-related", "drop", "reject"]
    name: str | None = None
    log: bool = False
    severity: str | None = None
    meter: str | None = None
    options: Pairs = ()
    tier: int = 0


class PortGroup(NbRow, frozen=True, kw_only=True):
    """Sets: ports (weak references), acls."""

    name: str


class AddressSet(NbRow, frozen=True, kw_only=True):
    """Set: addresses."""

    name: str


class LogicalSwitch(NbRow, frozen=True, kw_only=True):
    """Sets: ports, acls, load_balancer, load_balancer_group."""

    name: str
    other_config: Pairs = ()


class LogicalSwitchPort(NbRow, frozen=True, kw_only=True):
    """``addresses`` and ``port_security`` hold OVN's text forms (``MAC IP IP``, ``router``, ``unknown``)."""

    name: str
    type: str = ""
    options: Pairs = ()
    addresses: tuple[str, ...] = ()
    port_security: tuple[str, ...] = ()
    tag_request: int | None = None


class LogicalRouter(NbRow, frozen=True, kw_only=True):
    """Sets: ports, static_routes, policies, nat, load_balancer, load_balancer_group. ``copp`` names a Copp row by
    uuid."""

    name: str
    options: Pairs = ()
    copp: str | None = None


class LogicalRouterPort(NbRow, frozen=True, kw_only=True):
    """Set: gateway_chassis."""

    name: str
    mac: str
    networks: tuple[str, ...]
    options: Pairs = ()


class StaticRoute(NbRow, frozen=True, kw_only=True):
    """Logical_Router_Static_Route; ``policy`` dst-ip when None."""

    ip_prefix: str
    nexthop: str
    policy: Literal["src-ip", "dst-ip"] | None = None
    output_port: str | None = None


class RouterPolicy(NbRow, frozen=True, kw_only=True):
    """Logical_Router_Policy."""

    priority: int
    match: str
    action: Literal["allow", "drop", "reroute"]
    nexthops: tuple[str, ...] = ()
    options: Pairs = ()


class Nat(NbRow, frozen=True, kw_only=True):
    """Logical address(es) seen outside as ``external_ip``. ``allowed_ext_ips`` names an Address_Set row by uuid: only
    what goes to one of its addresses is translated."""

    type: Literal["snat", "dnat", "dnat_and_snat"]
    external_ip: str
    logical_ip: str
    logical_port: str | None = None
    allowed_ext_ips: str | None = None
    options: Pairs = ()


class LoadBalancer(NbRow, frozen=True, kw_only=True):
    """``vips``: ``ADDRESS:PORT`` (IPv6 in brackets, ``^NAME`` with option template) -> backends in the same form, comma
    separated. ``selection_fields``: what the choice of a backend hashes over; empty: the five-tuple."""

    name: str
    protocol: Literal["tcp", "udp", "sctp"]
    vips: Pairs
    options: Pairs = ()
    selection_fields: tuple[str, ...] = ()


class ChassisTemplateVar(NbRow, frozen=True, kw_only=True):
    """What ``^NAME`` stands for on one chassis."""

    chassis: str
    variables: Pairs


class LoadBalancerGroup(Value, frozen=True, kw_only=True, gc=False):
    """Set: load_balancer. No external_ids column: ownership shows in the derived uuid alone."""

    name: str


class GatewayChassis(NbRow, frozen=True, kw_only=True):
    name: str
    chassis_name: str
    priority: int


class StaticMacBinding(Value, frozen=True, kw_only=True, gc=False):
    """No external_ids column: ownership shows in the derived uuid alone."""

    logical_port: str
    ip: str
    mac: str
    override_dynamic_mac: bool = True


class Copp(NbRow, frozen=True, kw_only=True):
    name: str
    meters: Pairs = ()


class Meter(NbRow, frozen=True, kw_only=True):
    """Set: bands."""

    name: str
    unit: Literal["kbps", "pktps"]
    fair: bool | None = None


class MeterBand(NbRow, frozen=True, kw_only=True):
    action: Literal["drop"]
    rate: int
    burst_size: int = 0


class TableSpec(Value, frozen=True, kw_only=True):
    """``sets``: columns held in ``member``. ``is_root``: rows survive without a reference. ``name_column``: the
    column that other systems would collide with us on."""

    name: str
    row: type[Value]
    sets: tuple[str, ...] = ()
    is_root: bool = False
    has_external_ids: bool = True
    name_column: str | None = None


TABLES: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        TableSpec(name="ACL", row=Acl),
        TableSpec(name="Port_Group", row=PortGroup, sets=("ports", "acls"), is_root=True, name_column="name"),
        TableSpec(name="Address_Set", row=AddressSet, sets=("addresses",), is_root=True, name_column="name"),
        TableSpec(
            name="Logical_Switch",
            row=LogicalSwitch,
            sets=("ports", "acls", "load_balancer", "load_balancer_group"),
            is_root=True,
            name_column="name",
        ),
        TableSpec(name="Logical_Switch_Port", row=LogicalSwitchPort, name_column="name"),
        TableSpec(
            name="Logical_Router",
            row=LogicalRouter,
            sets=("ports", "static_routes", "policies", "nat", "load_balancer", "load_balancer_group"),
            is_root=True,
            name_column="name",
        ),
        TableSpec(name="Logical_Router_Port", row=LogicalRouterPort, sets=("gateway_chassis",), name_column="name"),
        TableSpec(name="Logical_Router_Static_Route", row=StaticRoute),
        TableSpec(name="Logical_Router_Policy", row=RouterPolicy),
        TableSpec(name="NAT", row=Nat),
        TableSpec(name="Load_Balancer", row=LoadBalancer, is_root=True, name_column="name"),
        TableSpec(
            name="Load_Balancer_Group",
            row=LoadBalancerGroup,
            sets=("load_balancer",),
            is_root=True,
            has_external_ids=False,
            name_column="name",
        ),
        TableSpec(name="Chassis_Template_Var", row=ChassisTemplateVar, is_root=True, name_column="chassis"),
        TableSpec(name="Gateway_Chassis", row=GatewayChassis, name_column="name"),
        TableSpec(name="Static_MAC_Binding", row=StaticMacBinding, is_root=True, has_external_ids=False),
        TableSpec(name="Copp", row=Copp, is_root=True, name_column="name"),
        TableSpec(name="Meter", row=Meter, sets=("bands",), is_root=True, name_column="name"),
        TableSpec(name="Meter_Band", row=MeterBand),
    )
}
"""By schema table name. ``ACL.tier`` and ``Chassis_Template_Var`` are written only where the server's schema has
them."""
