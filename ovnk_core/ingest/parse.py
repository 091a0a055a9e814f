"""One plain value -> one model struct, or every reason why not.

This page knows which kinds are read, which are not built yet but could change a verdict, and how an object is
identified before anything else of it is trusted. What a kind's fields mean is in its ``parse_*`` file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from hashlib import sha256
from typing import Any

import msgspec

from ovnk_core.ingest.metadata import Metadata, annotation_path, is_label_name, is_subdomain, read_metadata
from ovnk_core.ingest.outcome import Item, Refused, Skipped, StatedAssignment, Warning
from ovnk_core.ingest.parse_egress_firewall import blocked, parse_egress_firewall
from ovnk_core.ingest.parse_egress_ip import parse_egress_ip, stated_assignments
from ovnk_core.ingest.parse_endpoints import parse_endpoint_slice, parse_endpoints
from ovnk_core.ingest.parse_namespace import parse_namespace
from ovnk_core.ingest.parse_network import parse_infrastructure, parse_network, parse_network_operator
from ovnk_core.ingest.parse_network_attachment import parse_network_attachment
from ovnk_core.ingest.parse_node import parse_node
from ovnk_core.ingest.parse_pod import parse_pod
from ovnk_core.ingest.parse_policy import parse_policy, stand_in
from ovnk_core.ingest.parse_service import parse_service
from ovnk_core.ingest.position import Path, Positions
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.text import NAME_LENGTH, printable
from ovnk_core.ingest.yaml_reader import Document, Problem, Unreadable
from ovnk_core.model.egress_firewall import NAME as FIREWALL_NAME
from ovnk_core.model.egress_firewall import EgressFirewall
from ovnk_core.model.namespace import MULTICAST
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.model.object import Declared, Kind
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.struct import Value

DEFAULT_NAMESPACE = "default"
SINGLETON = "cluster"
_LONGEST_GROUP_KIND = 320
_LABEL_RULE = "must be an RFC 1123 label (at most 63 lower-case letters, digits, '-')"
_SUBDOMAIN_RULE = "must be an RFC 1123 subdomain (at most 253 lower-case letters, digits, '-' and dots)"
Parser = Callable[[Report, Mapping[str, Any], Metadata], Declared]
Stated = Callable[[Report, Mapping[str, Any]], tuple[StatedAssignment, ...]]


def _nothing_stated(report: Report, raw: Mapping[str, Any]) -> tuple[StatedAssignment, ...]:
    return ()


class KindRule(Value, frozen=True, kw_only=True):
    """How one kind is read: its name in the model, the one version served, and what its names look like.
    ``quoted``: fields whose place is kept. ``stated``: reads what its status says of decisions."""

    kind: Kind
    version: str
    parse: Parser
    is_namespaced: bool = False
    is_singleton: bool = False
    is_name_label: bool = False
    keeps_parts: bool = False
    quoted: tuple[Path, ...] = ()
    stated: Stated = _nothing_stated


_CONFIG, _OPERATOR = "config.openshift.io", "operator.openshift.io"
_POLICY, _OVN, _DISCOVERY = "networking.k8s.io", "k8s.ovn.org", "discovery.k8s.io"
KIND_RULES: dict[tuple[str, str], KindRule] = {
    (_CONFIG, "Network"): KindRule(
        kind="Network", version="v1", parse=parse_network, is_singleton=True, keeps_parts=True
    ),
    (_OPERATOR, "Network"): KindRule(
        kind="NetworkOperator", version="v1", parse=parse_network_operator, is_singleton=True, keeps_parts=True
    ),
    (_CONFIG, "Infrastructure"): KindRule(
        kind="Infrastructure", version="v1", parse=parse_infrastructure, is_singleton=True
    ),
    ("", "Node"): KindRule(kind="Node", version="v1", parse=parse_node),
    ("", "Namespace"): KindRule(
        kind="Namespace",
        version="v1",
        parse=parse_namespace,
        is_name_label=True,
        quoted=(annotation_path(MULTICAST),),
    ),
    ("", "Pod"): KindRule(kind="Pod", version="v1", parse=parse_pod, is_namespaced=True),
    (_OVN, "EgressFirewall"): KindRule(
        kind="EgressFirewall", version="v1", parse=parse_egress_firewall, is_namespaced=True, keeps_parts=True
    ),
    (_OVN, "EgressIP"): KindRule(
        kind="EgressIP", version="v1", parse=parse_egress_ip, keeps_parts=True, stated=stated_assignments
    ),
    (_POLICY, "NetworkPolicy"): KindRule(
        kind="NetworkPolicy", version="v1", parse=parse_policy, is_namespaced=True, keeps_parts=True
    ),
    ("", "Service"): KindRule(
        kind="Service", version="v1", parse=parse_service, is_namespaced=True, is_name_label=True
    ),
    (_DISCOVERY, "EndpointSlice"): KindRule(
        kind="EndpointSlice", version="v1", parse=parse_endpoint_slice, is_namespaced=True
    ),
    ("", "Endpoints"): KindRule(kind="Endpoints", version="v1", parse=parse_endpoints, is_namespaced=True),
    ("k8s.cni.cncf.io", "NetworkAttachmentDefinition"): KindRule(
        kind="NetworkAttachmentDefinition", version="v1", parse=parse_network_attachment, is_namespaced=True
    ),
}
# Where a policy or a firewall stands by age or by mistake: skipping it as unknown would silently drop a protection.
_WRONG_GROUPS = {(group, "NetworkPolicy"): (_POLICY, "NetworkPolicy") for group in ("", "extensions")}
_WRONG_GROUPS["", "EgressFirewall"] = (_OVN, "EgressFirewall")
_MISPLACED = frozenset(kind.lower() for _, kind in _WRONG_GROUPS)

_PROTECTING = (f"{_POLICY}/NetworkPolicy", f"{_OVN}/EgressFirewall")
_ALIKE = 0.93
"""Two letters wrong in group and kind together."""

# A kind in the wrong case would be skipped as unknown, and the author would believe it in force.
_SPELLINGS = {(group, kind.lower()): (group, kind) for group, kind in (*KIND_RULES, *_WRONG_GROUPS)}

# Not read yet, but each could change the answer to "may this packet pass, and where does it go".
KNOWN_UNBUILT: frozenset[tuple[str, str]] = frozenset(
    {
        ("k8s.ovn.org", "EgressQoS"),
        ("k8s.ovn.org", "EgressService"),
        ("k8s.ovn.org", "AdminPolicyBasedExternalRoute"),
        ("k8s.ovn.org", "UserDefinedNetwork"),
        ("k8s.ovn.org", "ClusterUserDefinedNetwork"),
        ("network.operator.openshift.io", "EgressRouter"),
        ("policy.networking.k8s.io", "AdminNetworkPolicy"),
        ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"),
        ("policy.networking.k8s.io", "ClusterNetworkPolicy"),
    }
)
_UNBUILT_CLUSTER_KINDS = frozenset(
    {
        "AdminPolicyBasedExternalRoute",
        "ClusterUserDefinedNetwork",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "ClusterNetworkPolicy",
    }
)


class Parsed(Value, frozen=True, kw_only=True):
    """What became of one value, and the warnings about it."""

    outcome: Item | Refused | Skipped
    warnings: tuple[Warning, ...] = ()


def parse_object(document: Document) -> Parsed:
    """One document that holds one object (not a list) -> its outcome. Never raises on any input."""
    raw = document.value
    if not isinstance(raw, dict):
        return _unreadable(document, "Object", (), "must be a mapping with apiVersion and kind", raw)
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if not isinstance(kind, str) or not kind:
        return _unreadable(document, "Object", ("kind",), "must name the kind", kind)
    if kind == "List":
        return _unreadable(document, "Object", ("items",), "must be a list of objects", raw.get("items"))
    if not isinstance(version, str) or not version:
        if kind.lower() not in _MISPLACED:
            return _unreadable(document, "Object", ("apiVersion",), "must name the group and version", version)
        version = ""
    group, _, number = version.rpartition("/")
    if len(group) + len(kind) > _LONGEST_GROUP_KIND:
        return _unreadable(document, "Object", ("kind",), "longer than any kind", kind)
    spelled = _SPELLINGS.get((group.lower(), kind.lower()), (group, kind))
    rule = KIND_RULES.get(_WRONG_GROUPS.get(spelled, spelled))
    if rule is None:
        text = printable(f"{version} {kind}", NAME_LENGTH)
        ref = _unbuilt_ref(raw, kind) if (group, kind) in KNOWN_UNBUILT else None
        meant = "" if ref is not None else _meant(group, kind)
        if meant:
            return _unreadable(document, "Object", ("kind",), f"unknown kind {text}: did you mean {meant}?", kind)
        return Parsed(outcome=Skipped(kind=text, ref=ref))
    is_served = number == rule.version and group == spelled[0] and spelled not in _WRONG_GROUPS
    return _parse_known(document, raw, rule, is_served=is_served, kind=spelled[1])


def _meant(group: str, kind: str) -> str:
    """The protecting kind a misspelt one must have been: skipped as unknown, it would silently drop a protection."""
    said = f"{group}/{kind}".lower()
    for known in _PROTECTING:
        if SequenceMatcher(None, said, known.lower()).ratio() >= _ALIKE:
            return known
    return ""


def _parse_known(document: Document, raw: dict[str, Any], rule: KindRule, *, is_served: bool, kind: str) -> Parsed:
    """``kind``: how the manifest should spell it."""
    meta = raw.get("metadata")
    owner = meta if isinstance(meta, dict) else {}
    name, namespace = owner.get("name"), owner.get("namespace")
    is_named = isinstance(name, str) and (is_label_name(name) if rule.is_name_label else is_subdomain(name))
    shown = _stand_in_name(name) if not is_named else str(name)
    place = (namespace if namespace not in (None, "") else DEFAULT_NAMESPACE) if rule.is_namespaced else ""
    is_placed = not rule.is_namespaced or (isinstance(place, str) and is_label_name(place))
    ref = ObjectRef(rule.kind, place if is_placed else printable(str(place)), shown)
    said = (printable(name, NAME_LENGTH) if isinstance(name, str) else "") or "(no name)"
    report = _start_report(document, rule.kind, f"{ref.namespace}/{said}" if ref.namespace else said)
    _check_identity(report, rule, owner, is_named=is_named, is_placed=is_placed)
    if raw["kind"] != kind:
        report.refuse(("kind",), "unknown kind", value=raw["kind"], fix=f"did you mean {kind}?")
    if not is_served:
        wanted = next(group for group, entry in KIND_RULES if KIND_RULES[group, entry] is rule)
        fix = f"write {wanted}/{rule.version}" if wanted else f"write {rule.version}"
        report.refuse(("apiVersion",), "this version is not served", value=raw.get("apiVersion"), fix=fix)
    value = rule.parse(report, raw, read_metadata(report, raw, shown, place if is_placed else ""))
    stated = rule.stated(report, raw)
    warnings = tuple(Warning(ref=ref, text=text, source=source) for text, source in report.warnings)
    if not report.errors:
        source = document.positions.keep(parts=rule.keeps_parts, fields=rule.quoted)
        return Parsed(outcome=Item(ref=ref, value=value, source=source, stated=stated), warnings=warnings)
    closed = _stand_in(report, raw, value) if is_placed else None
    refused = Refused(
        ref=ref,
        errors=report.all_errors(),
        stand_in=closed,
        source=document.positions.at(),
        is_identified=is_named and is_placed and not (rule.kind == "EgressFirewall" and name != FIREWALL_NAME),
    )
    return Parsed(outcome=refused, warnings=warnings)


def _stand_in(report: Report, raw: Mapping[str, Any], best: Declared) -> NetworkPolicy | EgressFirewall | None:
    """What takes a refused object's place when nothing was accepted before it; None where nothing needs to."""
    if isinstance(best, NetworkPolicy):
        return stand_in(report, raw, best)
    return blocked(report, best) if isinstance(best, EgressFirewall) else None


def _check_identity(report: Report, rule: KindRule, owner: dict[str, Any], *, is_named: bool, is_placed: bool) -> None:
    path: Path = ("metadata", "name")
    name = owner.get("name")
    if name is None:
        fix = "generateName needs an API server; write a name" if owner.get("generateName") else ""
        report.refuse(path, "missing", fix=fix)
    elif not isinstance(name, str):
        report.refuse(path, "must be text", value=name, fix=f'write "{name}"' if type(name) is int else "")
    elif not is_named:
        reason = _LABEL_RULE if rule.is_name_label else _SUBDOMAIN_RULE
        report.refuse(path, reason, value=name)
    elif rule.is_singleton and name != SINGLETON:
        report.refuse(path, "only one is read, and its name is cluster", value=name, fix=f"write {SINGLETON}")
    if not is_placed:
        report.refuse(("metadata", "namespace"), _LABEL_RULE, value=owner.get("namespace"))
    if not rule.is_namespaced and owner.get("namespace") not in (None, ""):
        # The API server clears it, so that such a file is applied every day.
        report.warn(("metadata", "namespace"), f"means nothing: no {rule.kind} belongs to a namespace")


def problem_source(positions: Positions, problem: Problem) -> str:
    """Where a reading problem stands: its own line when the reader knew it, else the field's place."""
    place = positions.at(*problem.path)
    return f"{place.rpartition(':')[0]}:{problem.line}" if problem.line else place


def _start_report(document: Document, kind: str, name: str) -> Report:
    report = Report(kind, name, document.positions)
    for problem in document.problems:
        source = problem_source(document.positions, problem)
        report.refuse(problem.path, problem.reason, fix=problem.fix, source=source)
    return report


def _stand_in_name(name: Any) -> str:
    """A valid name for an object whose own is not: stable, and different for different texts."""
    if not isinstance(name, str) or not name:
        return "unnamed"
    return f"invalid-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def _unreadable(document: Document, kind: str, path: Path, reason: str, value: Any) -> Parsed:
    report = _start_report(document, kind, "")
    report.refuse(path, reason, value=value)
    source = document.positions.at()
    ref = ObjectRef(kind, "", source)
    return Parsed(outcome=Refused(ref=ref, errors=report.all_errors(), source=source))


def _unbuilt_ref(raw: Mapping[str, Any], kind: str) -> ObjectRef:
    meta = raw.get("metadata")
    owner = meta if isinstance(meta, dict) else {}
    name, namespace = owner.get("name"), owner.get("namespace")
    shown = printable(name, NAME_LENGTH) if isinstance(name, str) else "(no name)"
    place = printable(namespace) if isinstance(namespace, str) and namespace else DEFAULT_NAMESPACE
    return ObjectRef(kind, "" if kind in _UNBUILT_CLUSTER_KINDS else place, shown)


def flatten(document: Document) -> list[Document | Unreadable]:
    """A ``List`` (or ``PodList``, ...) -> its objects, however deeply lists nest; anything else -> itself.

    What is wrong with the list itself, outside its items, comes as ``Unreadable`` before them.
    """
    done: list[Document | Unreadable] = []
    pending: list[Document | Unreadable] = [document]
    while pending:
        entry = pending.pop()
        raw = entry.value if isinstance(entry, Document) else None
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if isinstance(entry, Unreadable) or not isinstance(raw, dict) or not isinstance(kind, str):
            done.append(entry)
        elif kind.endswith("List") and isinstance(raw.get("items"), list):
            pending.extend(reversed(_list_items(entry, raw, kind)))
        elif kind != "List" or raw.get("items") is not None:
            done.append(entry)
    return done


def _list_items(document: Document, raw: dict[str, Any], kind: str) -> list[Document | Unreadable]:
    """The entries of one list, each with its own part of the list's positions and problems."""
    entries: list[Document | Unreadable] = []
    own: dict[int, list[Problem]] = {}
    for problem in document.problems:
        index = problem.path[1] if len(problem.path) > 1 and problem.path[0] == "items" else None
        if isinstance(index, int) and index < len(raw["items"]):
            own.setdefault(index, []).append(msgspec.structs.replace(problem, path=problem.path[2:]))
        else:
            source = problem_source(document.positions, problem)
            entries.append(Unreadable(source=source, reason=problem.reason, fix=problem.fix))
    positions = document.positions.elements("items")
    inner = {"apiVersion": raw.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, value in enumerate(raw["items"]):
        # The API server leaves apiVersion and kind out inside typed lists.
        if inner["kind"] and isinstance(value, dict) and "kind" not in value and "apiVersion" not in value:
            value = {**value, **inner}
        entries.append(Document(value=value, positions=positions[index], problems=tuple(own.get(index, ()))))
    return entries
