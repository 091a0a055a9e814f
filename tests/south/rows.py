"""Shorthand for the rows that the driver tests write."""

from __future__ import annotations

from uuid import UUID, uuid5

from ovnk_core.nb.operation import Insert, Operation
from ovnk_core.nb.schema import Atom, parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA

SPACE = UUID("0b6e6f9a-7d39-4c1c-9a33-9d1f6a0f7d11")
LEFT_OUT = {"nb_cfg_timestamp", "sb_cfg_timestamp", "hv_cfg_timestamp"}
MIRRORED = {
    table: tuple(column for column in spec.columns if column not in LEFT_OUT)
    for table, spec in parse_schema(SCHEMA).tables.items()
}
"""Every column the in-memory schema knows, of every table, but time stamps."""


def uid(name: str) -> str:
    return str(uuid5(SPACE, name))


def refs(*names: str) -> frozenset[Atom]:
    return frozenset(uid(name) for name in names)


def texts(*values: str) -> frozenset[Atom]:
    return frozenset(values)


def acl(name: str, /, **columns: Atom) -> Insert:
    row = {"priority": 1000, "direction": "to-lport", "match": "ip4", "action": "drop", **columns}
    return Insert(table="ACL", uuid=uid(name), columns=dict(row))


def group(name: str, acls: frozenset[Atom] = frozenset(), ports: frozenset[Atom] = frozenset()) -> Insert:
    return Insert(table="Port_Group", uuid=uid(name), columns={"name": name, "acls": acls, "ports": ports})


def port(name: str) -> Insert:
    return Insert(table="Logical_Switch_Port", uuid=uid(name), columns={"name": name})


def switch(name: str, ports: frozenset[Atom] = frozenset()) -> Insert:
    return Insert(table="Logical_Switch", uuid=uid(name), columns={"name": name, "ports": ports})


def address_set(name: str, *addresses: str) -> Insert:
    return Insert(table="Address_Set", uuid=uid(name), columns={"name": name, "addresses": frozenset[Atom](addresses)})


def acls(number: int) -> list[Operation]:
    """``number`` ACLs shaped like an egress firewall's, in one port group."""
    rows: list[Operation] = [
        Insert(
            table="ACL",
            uuid=uid(f"acl{index}"),
            columns={
                "priority": 10000 - index % 8000,
                "direction": "from-lport",
                "action": "drop" if index % 2 else "allow",
                "match": f"inport == @pg && ip4.dst == 20.{index >> 8}.{index & 255}.0/24 && ip4.dst != 10.128.0.0/14",
                "options": {"apply-after-lb": "true"},
                "external_ids": {"ovnk-owner": f"EgressFirewall/ns/default/{index}"},
            },
        )
        for index in range(number)
    ]
    return [*rows, group("pg", frozenset(uid(f"acl{index}") for index in range(number)))]
