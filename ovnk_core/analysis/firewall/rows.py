"""Which rules a northbound row stands for, whatever merging did to them."""

from __future__ import annotations

from ovnk_core.cluster import Cluster
from ovnk_core.features.egress_firewall.compile import (
    AddressesOf,
    Compiled,
    Reach,
    address_set_row,
    firewall_owner,
)
from ovnk_core.ingest.position import SourceMap
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.tables import EGRESS_FIREWALL
from ovnk_core.nb.row import RowId
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value
from ovnk_core.topology.logging import ACL_LOGGING


class RuleAt(Value, frozen=True, kw_only=True):
    """A rule's index, and where it is written (empty if unknown)."""

    rule: int
    source: str = ""


def rules_of_rows(cluster: Cluster) -> dict[RowId, tuple[RuleAt, ...]]:
    """ACLs and address sets of egress firewalls -> the rules they say, ascending. Rules that no packet reaches are in
    no row. Cost: one compilation of every firewall."""
    found: dict[RowId, tuple[RuleAt, ...]] = {}
    logged = cluster.engine.rows(ACL_LOGGING)
    reach = Reach(cluster.network)
    for key, firewall in sorted(cluster.engine.rows(EGRESS_FIREWALL).items()):
        if not firewall.blocked:
            source = cluster.sources.get(ObjectRef("EgressFirewall", key.namespace, key.name))
            found |= _rows(firewall, reach, source, is_logged=key.namespace in logged)
    return found


def _rows(
    firewall: EgressFirewall, reach: Reach, source: SourceMap | None, *, is_logged: bool
) -> dict[RowId, tuple[RuleAt, ...]]:
    found: dict[RowId, tuple[RuleAt, ...]] = {}
    compiled = Compiled(reach)
    compiled.update(firewall.rules, is_logged=is_logged)
    namespace = firewall.namespace
    for row, indexes in compiled.rows.items():
        rules = tuple(
            RuleAt(rule=index, source=source.at("spec", "egress", index) if source is not None else "")
            for index in indexes
        )
        found[RowId("ACL", firewall_owner(namespace), row.label)] = rules
        for family in row.to.families if isinstance(row.to, AddressesOf) else ():
            found[address_set_row(namespace, row.label, family)] = rules
    return found
