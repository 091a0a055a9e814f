"""What the in-memory northbound knows of OVN_Northbound: the tables we write, in the shape of RFC 7047 section 3.2.

Columns that refer to other tables are left out. Source: ovn-nb(5), schema 7.0.0; a test compares it with the schema a
real server sends.
"""

from __future__ import annotations

from typing import Any

_NAMES: dict[str, Any] = {"key": "string", "min": 0, "max": "unlimited"}
_TEXT: dict[str, Any] = {"key": "string", "min": 0, "max": 1}
_FLAG: dict[str, Any] = {"key": "boolean", "min": 0, "max": 1}
_MAP: dict[str, Any] = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}


def _refs(table: str, strength: str = "strong", *, low: int = 0, high: int | str = "unlimited") -> dict[str, Any]:
    return {"key": {"type": "uuid", "refTable": table, "refType": strength}, "min": low, "max": high}


def _range(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minInteger": low, "maxInteger": high}


def _enum(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": ["set", list(values)]}


_TABLES: dict[str, dict[str, Any]] = {
    "ACL": {
        "columns": {
            "name": {"type": {"key": {"type": "string", "maxLength": 63}, "min": 0, "max": 1}},
            "priority": {"type": {"key": _range(0, 32767)}},
            "direction": {"type": {"key": _enum("from-lport", "to-lport")}},
            "match": {"type": "string"},
            "action": {"type": {"key": _enum("allow", "allow-related", "allow-stateless", "drop", "reject")}},
            "log": {"type": "boolean"},
            "severity": {"type": {"key": _enum("alert", "warning", "notice", "info", "debug"), "min": 0, "max": 1}},
            "meter": {"type": _TEXT},
            "label": {"type": {"key": _range(0, 4294967295)}},
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": False,
    },
    "Address_Set": {
        "columns": {
            "name": {"type": "string"},
            "addresses": {"type": _NAMES},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": True,
    },
    "Chassis_Template_Var": {
        "columns": {
            "chassis": {"type": "string"},
            "variables": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["chassis"]],
        "isRoot": True,
    },
    "Copp": {
        "columns": {
            "name": {"type": "string"},
            "meters": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": True,
    },
    "Gateway_Chassis": {
        "columns": {
            "name": {"type": "string"},
            "chassis_name": {"type": "string"},
            "priority": {"type": {"key": _range(0, 32767)}},
            "external_ids": {"type": _MAP},
            "options": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": False,
    },
    "Load_Balancer": {
        "columns": {
            "name": {"type": "string"},
            "vips": {"type": _MAP},
            "protocol": {"type": {"key": _enum("tcp", "udp", "sctp"), "min": 0, "max": 1}},
            "ip_port_mappings": {"type": _MAP},
            "selection_fields": {
                "type": {
                    "key": _enum("eth_src", "eth_dst", "ip_src", "ip_dst", "tp_src", "tp_dst"),
                    "min": 0,
                    "max": "unlimited",
                }
            },
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": True,
    },
    "Load_Balancer_Group": {
        "columns": {
            "name": {"type": "string"},
            "load_balancer": {"type": _refs("Load_Balancer", "weak")},
        },
        "indexes": [["name"]],
        "isRoot": True,
    },
    "Logical_Router": {
        "columns": {
            "name": {"type": "string"},
            "ports": {"type": _refs("Logical_Router_Port")},
            "static_routes": {"type": _refs("Logical_Router_Static_Route")},
            "policies": {"type": _refs("Logical_Router_Policy")},
            "enabled": {"type": _FLAG},
            "nat": {"type": _refs("NAT")},
            "load_balancer": {"type": _refs("Load_Balancer", "weak")},
            "load_balancer_group": {"type": _refs("Load_Balancer_Group")},
            "copp": {"type": _refs("Copp", "weak", high=1)},
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": True,
    },
    "Logical_Router_Policy": {
        "columns": {
            "priority": {"type": {"key": _range(0, 32767)}},
            "match": {"type": "string"},
            "action": {"type": {"key": _enum("allow", "drop", "reroute")}},
            "nexthop": {"type": _TEXT},
            "nexthops": {"type": _NAMES},
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": False,
    },
    "Logical_Router_Port": {
        "columns": {
            "name": {"type": "string"},
            "gateway_chassis": {"type": _refs("Gateway_Chassis")},
            "options": {"type": _MAP},
            "networks": {"type": {"key": "string", "min": 1, "max": "unlimited"}},
            "mac": {"type": "string"},
            "peer": {"type": _TEXT},
            "enabled": {"type": _FLAG},
            "ipv6_ra_configs": {"type": _MAP},
            "ipv6_prefix": {"type": _NAMES},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": False,
    },
    "Logical_Router_Static_Route": {
        "columns": {
            "route_table": {"type": "string"},
            "ip_prefix": {"type": "string"},
            "policy": {"type": {"key": _enum("src-ip", "dst-ip"), "min": 0, "max": 1}},
            "nexthop": {"type": "string"},
            "output_port": {"type": _TEXT},
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": False,
    },
    "Logical_Switch": {
        "columns": {
            "name": {"type": "string"},
            "ports": {"type": _refs("Logical_Switch_Port")},
            "acls": {"type": _refs("ACL")},
            "load_balancer": {"type": _refs("Load_Balancer", "weak")},
            "load_balancer_group": {"type": _refs("Load_Balancer_Group")},
            "copp": {"type": _refs("Copp", "weak", high=1)},
            "other_config": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": True,
    },
    "Logical_Switch_Port": {
        "columns": {
            "name": {"type": "string"},
            "type": {"type": "string"},
            "options": {"type": _MAP},
            "parent_name": {"type": _TEXT},
            "tag_request": {"type": {"key": _range(0, 4095), "min": 0, "max": 1}},
            "tag": {"type": {"key": _range(1, 4095), "min": 0, "max": 1}},
            "addresses": {"type": _NAMES},
            "dynamic_addresses": {"type": _TEXT},
            "port_security": {"type": _NAMES},
            "up": {"type": _FLAG},
            "enabled": {"type": _FLAG},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": False,
    },
    "Meter": {
        "columns": {
            "name": {"type": "string"},
            "unit": {"type": {"key": _enum("kbps", "pktps")}},
            "bands": {"type": _refs("Meter_Band", low=1)},
            "fair": {"type": _FLAG},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": True,
    },
    "Meter_Band": {
        "columns": {
            "action": {"type": {"key": _enum("drop")}},
            "rate": {"type": {"key": _range(1, 4294967295)}},
            "burst_size": {"type": {"key": _range(0, 4294967295)}},
            "external_ids": {"type": _MAP},
        },
        "isRoot": False,
    },
    "NAT": {
        "columns": {
            "external_ip": {"type": "string"},
            "external_mac": {"type": _TEXT},
            "external_port_range": {"type": "string"},
            "logical_ip": {"type": "string"},
            "logical_port": {"type": _TEXT},
            "type": {"type": {"key": _enum("dnat", "snat", "dnat_and_snat")}},
            "allowed_ext_ips": {"type": _refs("Address_Set", high=1)},
            "exempted_ext_ips": {"type": _refs("Address_Set", high=1)},
            "gateway_port": {"type": _refs("Logical_Router_Port", "weak", high=1)},
            "options": {"type": _MAP},
            "external_ids": {"type": _MAP},
        },
        "isRoot": False,
    },
    "NB_Global": {
        "columns": {
            "name": {"type": "string"},
            "nb_cfg": {"type": {"key": "integer"}},
            "nb_cfg_timestamp": {"type": {"key": "integer"}},
            "sb_cfg": {"type": {"key": "integer"}},
            "sb_cfg_timestamp": {"type": {"key": "integer"}},
            "hv_cfg": {"type": {"key": "integer"}},
            "hv_cfg_timestamp": {"type": {"key": "integer"}},
            "external_ids": {"type": _MAP},
            "options": {"type": _MAP},
            "ipsec": {"type": "boolean"},
        },
        "maxRows": 1,
        "isRoot": True,
    },
    "Port_Group": {
        "columns": {
            "name": {"type": "string"},
            "ports": {"type": _refs("Logical_Switch_Port", "weak")},
            "acls": {"type": _refs("ACL")},
            "external_ids": {"type": _MAP},
        },
        "indexes": [["name"]],
        "isRoot": True,
    },
    "Static_MAC_Binding": {
        "columns": {
            "logical_port": {"type": "string"},
            "ip": {"type": "string"},
            "mac": {"type": "string"},
            "override_dynamic_mac": {"type": "boolean"},
        },
        "indexes": [["logical_port", "ip"]],
        "isRoot": True,
    },
}

SCHEMA: dict[str, Any] = {"name": "OVN_Northbound", "version": "7.0.0", "tables": _TABLES}
"""As ``get_schema`` would send it."""
