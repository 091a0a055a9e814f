"""Recorded decisions from their document (``ovnk sync --save-decisions``) or from what the northbound remembers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ovnk_core.errors import LimitError, SchemaError
from ovnk_core.ingest.json_reader import read_json
from ovnk_core.ingest.load import parse_objects
from ovnk_core.ingest.metadata import is_label_name, is_subdomain, read_mac
from ovnk_core.ingest.parse_node import NODE_ID_BOUNDS
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.yaml_reader import Unreadable
from ovnk_core.model.decision import Decisions, NodeDecision, PodDecision
from ovnk_core.model.object import Declared
from ovnk_core.terms.address import BITS, Cidr, Family
from ovnk_core.terms.name import ObjectRef

_FIELDS = ("apiVersion", "kind", "nodes", "pods", "accepted")
_HOST_BITS_MIN = 2
"""As hostPrefix: below four addresses nothing is left for a pod."""


def read_decisions(text: bytes, *, source: str) -> Decisions:
    """A saved document -> Decisions. Raises SchemaError or LimitError, of the first field at fault.

    The document may have been edited: it is read as strictly as a manifest, because what it says is not asked again.
    """
    found = read_json(_decoded(text, source), source)
    if isinstance(found, Unreadable):
        raise SchemaError(found.reason, kind="Decisions", source=found.source, fix="write it with --save-decisions")
    report = Report("Decisions", "", found.positions)
    for problem in found.problems:
        report.refuse(problem.path, problem.reason, fix=problem.fix)
    raw = report.as_mapping(found.value, ())
    if not report.errors and (raw.get("apiVersion"), raw.get("kind")) != ("ovnk/v1", "Decisions"):
        report.refuse((), "is not a decisions document of ovnk/v1", fix="write it with --save-decisions")
    report.known(raw, (), _FIELDS)
    nodes = {name: _node(report, name, each) for name, each in report.mapping(raw, (), "nodes").items()}
    _check_ids(report, nodes)
    pods = {key: _pod(report, key, each) for key, each in report.mapping(raw, (), "pods").items()}
    manifests = enumerate(report.items(raw, (), "accepted"))
    accepted = [report.as_mapping(each, ("accepted", index)) for index, each in manifests]
    for error in report.all_errors():
        raise error
    return Decisions(nodes=nodes, pods=pods, accepted=accepted_objects(accepted))


def _decoded(text: bytes, source: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise SchemaError("not UTF-8", kind="Decisions", source=source, fix="write it with --save-decisions") from error


def _node(report: Report, name: str, value: Any) -> NodeDecision:
    path: Path = ("nodes", name)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("subnets", "id"))
    if not is_subdomain(name):
        report.refuse(path, "not a node name")
    subnets: list[Cidr] = []
    for index, text in enumerate(report.items(raw, path, "subnets")):
        subnet = report.prefix(text, (*path, "subnets", index), strict=True)
        if subnet is not None and subnet.prefix > BITS[subnet.family] - _HOST_BITS_MIN:
            report.refuse((*path, "subnets", index), "too small to hold a pod", value=text, error=LimitError)
        elif subnet is not None:
            subnets.append(subnet)
    _check_families(report, (*path, "subnets"), [subnet.family for subnet in subnets])
    node_id = report.as_number(raw.get("id"), (*path, "id"), NODE_ID_BOUNDS)
    return NodeDecision(subnets=tuple(subnets), node_id=node_id or 0)


def _check_ids(report: Report, nodes: Mapping[str, NodeDecision]) -> None:
    holders: dict[int, str] = {}
    for name, node in nodes.items():
        holder = holders.setdefault(node.node_id, name)
        if holder != name and node.node_id:
            report.refuse(("nodes", name, "id"), f"is also the id of node {holder}", value=node.node_id)


def _pod(report: Report, key: str, value: Any) -> PodDecision:
    path: Path = ("pods", key)
    raw = report.as_mapping(value, path)
    report.known(raw, path, ("addresses", "mac", "node"))
    namespace, _, name = key.partition("/")
    if not is_label_name(namespace) or not is_subdomain(name):
        report.refuse(path, "not the name of a pod", fix="write NAMESPACE/NAME")
    texts = enumerate(report.items(raw, path, "addresses"))
    found = [report.address(text, (*path, "addresses", index)) for index, text in texts]
    addresses = tuple(address for address in found if address is not None)
    if not found:
        report.refuse((*path, "addresses"), "missing")
    _check_families(report, (*path, "addresses"), [address.family for address in addresses])
    node = report.text(raw, path, "node")
    if not is_subdomain(node):
        report.refuse((*path, "node"), "not a node name", value=node)
    return PodDecision(addresses=addresses, mac=read_mac(report, raw.get("mac"), (*path, "mac")), node=node)


def _check_families(report: Report, path: Path, families: list[Family]) -> None:
    if len(set(families)) < len(families):
        report.refuse(path, "more than one of one family", fix="keep one per family", error=LimitError)


def accepted_objects(manifests: Iterable[Mapping[str, Any]]) -> dict[ObjectRef, Declared]:
    """Recorded manifests -> objects; the same door as for any manifest, refused ones are left out."""
    return {item.ref: item.value for item in parse_objects(manifests, source="decisions").items}


def accepted_texts(texts: Iterable[str]) -> dict[ObjectRef, Declared]:
    """``accepted_objects`` of JSON texts; what is not JSON any more (edited by hand) is left out."""
    manifests: list[Mapping[str, Any]] = []
    for text in texts:
        try:
            manifests.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return accepted_objects(manifests)
