"""Which datapaths a row's flows are on: ports to switches, port groups to switches, ACLs to both, load balancers to
whatever they or their groups are attached to."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, SetTable, Table
from ovnk_core.flows.flow import FLOW_DATAPATH, Attached, Side
from ovnk_core.nb.desired import MEMBER, ROUTERS, SWITCHES
from ovnk_core.nb.row import ColumnId, Element, RowId
from ovnk_core.nb.tables import LogicalRouter, LogicalSwitch

PORT_HOME = Table[RowId, RowId]("flow.port_home")
"""Switch or router port -> its switch or router."""
GROUP_SWITCH = SetTable[RowId, RowId]("flow.group_switch")
"""Port group -> switches that have a member port."""

BALANCING_GROUP = SetTable[RowId, RowId]("flow.balancing_group")
"""Switch or router -> its load-balancer groups."""
GROUP_SIDE = SetTable[RowId, Side]("flow.group_side")
"""Load-balancer group -> whether it is on switches, on routers, or on both."""

_HOMES = {("Logical_Switch", "ports"), ("Logical_Router", "ports")}
MemberKey = tuple[ColumnId, Element]


@rule(driver=MEMBER, out=(PORT_HOME,))
def port_home(read: Reader, key: MemberKey, row: None) -> Iterable[Output]:
    """A port in a switch's or router's ports column -> its home."""
    column, port = key
    if (column.row.table, column.column) in _HOMES and isinstance(port, RowId):
        yield PORT_HOME.row(port, column.row)


@rule(driver=MEMBER, reads=(PORT_HOME,), out=(GROUP_SWITCH,))
def group_switch(read: Reader, key: MemberKey, row: None) -> Iterable[Output]:
    """A port in a port group -> the group is on the port's switch."""
    column, port = key
    if column.row.table == "Port_Group" and column.column == "ports" and isinstance(port, RowId):
        home = read(PORT_HOME, port)
        if home is not None:
            yield GROUP_SWITCH.member(column.row, home)


@rule(driver=MEMBER, out=(BALANCING_GROUP, GROUP_SIDE))
def balancing_group(read: Reader, key: MemberKey, row: None) -> Iterable[Output]:
    """A group in a switch's or router's load_balancer_group column."""
    column, group = key
    if column.column == "load_balancer_group" and isinstance(group, RowId):
        yield BALANCING_GROUP.member(column.row, group)
        yield GROUP_SIDE.member(group, side_of(column.row))


def side_of(datapath: RowId) -> Side:
    return "Logical_Router" if datapath.table == "Logical_Router" else "Logical_Switch"


@rule(driver=MEMBER, reads=(GROUP_SWITCH,), out=(FLOW_DATAPATH,))
def attached(read: Reader, key: MemberKey, row: None) -> Iterable[Output]:
    """An ACL, route, policy, NAT or load-balancer row, or a group of them -> the datapaths it is attached to."""
    column, element = key
    if not isinstance(element, RowId):
        return
    match column.row.table, column.column:
        case ("Port_Group", "acls"):
            for switch in sorted(read(GROUP_SWITCH, column.row)):
                yield FLOW_DATAPATH.member(element, switch)
        case ("Logical_Switch", "acls" | "ports") | (
            "Logical_Router",
            "ports" | "static_routes" | "policies" | "nat",
        ):
            yield FLOW_DATAPATH.member(element, column.row)
        case ("Logical_Switch" | "Logical_Router", "load_balancer" | "load_balancer_group"):
            yield FLOW_DATAPATH.member(Attached(element, side_of(column.row)), column.row)
        case _:
            pass


@rule(driver=SWITCHES, out=(FLOW_DATAPATH,))
def switch_itself(read: Reader, key: RowId, switch: LogicalSwitch) -> Iterable[Output]:
    """A switch's own flows are on itself."""
    yield FLOW_DATAPATH.member(key, key)


@rule(driver=ROUTERS, out=(FLOW_DATAPATH,))
def router_itself(read: Reader, key: RowId, router: LogicalRouter) -> Iterable[Output]:
    """A router's own flows are on itself."""
    yield FLOW_DATAPATH.member(key, key)


RULES = (port_home, group_switch, balancing_group, attached, switch_itself, router_itself)
