"""Identity and shape of northbound rows.

A row is identified by who owns it and what role it plays (``RowId``); its uuid is derived from that, so a replayed
insert fails cleanly instead of making a twin. Scalar and map columns live in the row struct; set-valued columns
that grow with the cluster (members of groups, ports of a switch, ACLs of a group) live in the set table
``member`` keyed by ``ColumnId``, one element per member, which is exactly one OVSDB ``mutate`` element each.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID, uuid5

from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Key, Value

ROW_NAMESPACE = UUID("6f1b5b0e-3a86-5c52-9d0e-0f0e6b6f766e")
OWNER_KEY = "ovnk-owner"
ACCEPTED_KEY = "ovnk-accepted"
"""external_ids key of the row nearest to an object: its accepted version, from which a refused edit falls back."""
NODE_ID_KEY = "ovnk-node-id"
"""external_ids key of a node's switch: the node's id, because a node without a gateway has no row that shows it."""
WINDOWS_KEY = "ovnk-windows-node"
"""Keys of NB_Global's external_ids begin with it: the decision of a Windows node, which has no row."""
INSTALL_KEY = "ovnk-install"
"""external_ids key of NB_Global: what the cluster was installed with."""
DNS_KEY = "ovnk-dns"
"""external_ids key of a DNS name's live set of the cluster's first family: the whole recorded decision."""
SERVICE_KEY = "ovnk-service"
"""external_ids key next to a Service's ``ACCEPTED_KEY``: the whole recorded decision."""
EGRESS_IP_KEY = "ovnk-egress-ip"
"""Keys of NB_Global's external_ids begin with it: an EgressIP's whole recorded decision."""
HEALTH_KEY = "ovnk-health"
"""Keys of NB_Global's external_ids begin with it: what was reported of a node."""
IPSEC_KEY = "ovnk-ipsec"
"""external_ids key of NB_Global: the mark that its column ipsec is ours, and true."""
REVISION_KEY = "ovnk-revision"
"""external_ids key of NB_Global: the intent store's revision that nb_cfg was last raised for."""
EVERYWHERE = "everywhere"
"""The part of a role by which a row tells of objects in any namespace, not only in its owner's."""
Pairs = tuple[tuple[str, str], ...]


class RowId(Key, frozen=True, order=True, cache_hash=True):
    """table + owner + role. ``role`` distinguishes the rows one object owns in one table (``ingress/0/tcp``)."""

    table: str
    owner: ObjectRef
    role: str = ""

    @property
    def uuid(self) -> str:
        return _uuid(self)

    @property
    def tells_of_others(self) -> bool:
        """Whether what the row holds, or that there is one, follows from objects outside its owner's namespace: who may
        read the owner may not read it for that."""
        return EVERYWHERE in self.role.split("/")

    @property
    def owner_text(self) -> str:
        """The value of ``external_ids:ovnk-owner``: ``KIND/NAMESPACE/NAME/ROLE``. Kubernetes names hold no slash."""
        return f"{self.owner.kind}/{self.owner.namespace}/{self.owner.name}/{self.role}"


@lru_cache(maxsize=1 << 18)
def _uuid(row: RowId) -> str:
    return str(uuid5(ROW_NAMESPACE, f"{row.table}/{row.owner_text}"))


def parse_owner(table: str, text: str) -> RowId | None:
    """``external_ids:ovnk-owner`` -> RowId; None when the text is not of our making."""
    parts = text.split("/", 3)
    if len(parts) != 4:
        return None
    kind, namespace, name, role = parts
    return RowId(table, ObjectRef(kind, namespace, name), role)


class ColumnId(Key, frozen=True, order=True, cache_hash=True):
    """A set-valued column of one row."""

    row: RowId
    column: str


Element = str | RowId
"""A member of a set-valued column: text, or a reference to another row of ours."""


class NbRow(Value, frozen=True, kw_only=True, gc=False):
    """Base of all row structs: subclasses name the schema's columns, in the schema's types.

    Optional columns are None when empty; maps are sorted tuples of pairs. ``external_ids`` excludes the owner
    key, which ``reconcile`` adds from the RowId.
    """

    external_ids: Pairs = ()


def pairs(**items: str) -> Pairs:
    return tuple(sorted(items.items()))


def pairs_of(mapping: dict[str, str]) -> Pairs:
    return tuple(sorted(mapping.items()))
