"""EgressIP: its addresses in canonical form, and whose pods send from them.

Only what no other object can change is refused here: an address that lies in a network of this cluster, or is a
node's, is accepted and stays unassigned, because objects may come in any order. ``status`` is what another control
plane decided, and no part of the object; it is read apart, in both of its spellings (``items`` of the API,
``assignments`` of manual 15.9.1.2).
Source: manual 15.9.2; OVN-Kubernetes' EgressIP type, whose addresses must be global unicast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import METADATA_FIELDS, OBJECT_FIELDS, Metadata, read_selector
from ovnk_core.ingest.outcome import StatedAssignment
from ovnk_core.ingest.position import Path, path_text
from ovnk_core.ingest.report import Report
from ovnk_core.model.cluster import RESERVED, address_of_kind, special_kind
from ovnk_core.model.egress_ip import EgressIP
from ovnk_core.terms.address import Address, cidr
from ovnk_core.terms.label import EVERYTHING

_SPEC_PATH: Path = ("spec",)
_LINK_LOCAL = cidr("169.254.0.0/16")


def parse_egress_ip(report: Report, raw: Mapping[str, Any], meta: Metadata) -> EgressIP:
    """k8s.ovn.org/v1 EgressIP -> the model; problems go to ``report``."""
    report.known(raw, (), OBJECT_FIELDS)
    report.known(report.mapping(raw, (), "metadata"), ("metadata",), METADATA_FIELDS)
    spec = report.mapping(raw, (), "spec")
    report.known(spec, _SPEC_PATH, ("egressIPs", "namespaceSelector", "podSelector"))
    namespaces = read_selector(report, spec, _SPEC_PATH, "namespaceSelector")
    if namespaces is None:
        report.refuse((*_SPEC_PATH, "namespaceSelector"), "missing", fix="write {} to select every namespace")
    pods = read_selector(report, spec, _SPEC_PATH, "podSelector")
    return EgressIP(
        name=meta.name,
        uid=meta.uid,
        created=meta.created,
        addresses=_addresses(report, spec),
        namespaces=namespaces or EVERYTHING,
        pods=pods or EVERYTHING,
    )


def _addresses(report: Report, spec: Mapping[str, Any]) -> tuple[Address, ...]:
    path: Path = (*_SPEC_PATH, "egressIPs")
    found: dict[Address, int] = {}
    entries = report.items(spec, _SPEC_PATH, "egressIPs")
    if not entries and not report.touches(path):
        report.refuse(path, "names no address", error=LimitError)
    for index, entry in enumerate(entries):
        at: Path = (*path, index)
        is_prefix = isinstance(entry, str) and "/" in entry
        if is_prefix:
            report.refuse(at, "must be one address, not a network", value=entry, fix="write the address alone")
        address = None if is_prefix else report.address(entry, at)
        if address is None:
            continue
        if why := _why_not_unicast(address):
            report.refuse(at, why, value=entry)
        elif address in found:
            report.refuse(at, f"is the same address as egressIPs[{found[address]}]", value=entry)
        else:
            found[address] = index
    return tuple(found)


def _why_not_unicast(address: Address) -> str:
    """Why no node can send from an address to the outside, whatever else is in the cluster; or an empty text."""
    for name, block in RESERVED:
        if block.contains(address):
            return f"lies in the {name}"
    kind = "link-local" if _LINK_LOCAL.contains(address) else special_kind(address)
    return f"is {address_of_kind(kind)}" if kind else ""


def stated_assignments(report: Report, raw: Mapping[str, Any]) -> tuple[StatedAssignment, ...]:
    """What ``status`` says of who holds what, wherever both texts are there; of two spellings the API's. Only its shape
    is refused: what it says may be out of date."""
    path: Path = ("status",)
    status = report.mapping(raw, (), "status")
    report.known(status, path, ("items", "assignments", "conditions"))
    found: dict[str, tuple[StatedAssignment, ...]] = {}
    for key in ("items", "assignments"):
        entries = enumerate(report.items(status, path, key))
        read = [_stated(report, entry, (*path, key, index)) for index, entry in entries]
        found[key] = tuple(each for each in read if each is not None)
    return found["items"] or found["assignments"]


def _stated(report: Report, entry: Any, at: Path) -> StatedAssignment | None:
    said = report.as_mapping(entry, at)
    report.known(said, at, ("egressIP", "node"))
    address, node = report.text(said, at, "egressIP"), report.text(said, at, "node")
    if not address or not node:
        return None
    return StatedAssignment(address=address, node=node, place=path_text(at), source=report.positions.at(*at))
