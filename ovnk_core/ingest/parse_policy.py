"""NetworkPolicy: validated and defaulted as the API server does it; unknown fields are refused throughout.

Two things are stricter than the API, both because the lenient reading opens a policy: a null list entry (which the
API reads as an empty rule, that is *allow everything*) is refused, and so are IPv4-mapped IPv6 prefixes.
``parse_policy`` answers a best effort in any case; ``stand_in`` makes the fail-closed policy of a refused one from it.
Source: Kubernetes networking/v1 types, defaults and validation; 15.2.1 of the manual for what the plug-in supports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import METADATA_FIELDS, OBJECT_FIELDS, Metadata, is_port_name, read_selector
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.text import printable
from ovnk_core.model.network_policy import IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.terms.label import EVERYTHING
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, TRANSPORTS, PortRange, Transport

_SPEC = ("podSelector", "ingress", "egress", "policyTypes")
_TYPES = ("Ingress", "Egress")
_SPEC_PATH: Path = ("spec",)


def parse_policy(report: Report, raw: Mapping[str, Any], meta: Metadata) -> NetworkPolicy:
    """networking.k8s.io/v1 NetworkPolicy -> the model; problems go to ``report``."""
    report.known(raw, (), OBJECT_FIELDS)
    report.known(report.mapping(raw, (), "metadata"), ("metadata",), METADATA_FIELDS)
    report.known(report.mapping(raw, (), "status"), ("status",), ("conditions",))
    for key, value in meta.annotations.items():
        report.as_text(value, ("metadata", "annotations", str(key)))
    spec = report.mapping(raw, (), "spec")
    report.known(spec, _SPEC_PATH, _SPEC)
    subject = read_selector(report, spec, _SPEC_PATH, "podSelector")
    if subject is None:
        report.warn(_SPEC_PATH, "no podSelector: the policy selects every pod of its namespace")
    is_ingress, is_egress = _policy_types(report, spec)
    ingress = _rules(report, spec, "ingress", "from")
    egress = _rules(report, spec, "egress", "to")
    for key, rules, applies in (("ingress", ingress, is_ingress), ("egress", egress, is_egress)):
        if rules and not applies:
            report.warn((*_SPEC_PATH, key), f"without effect, because policyTypes does not hold {key.capitalize()}")
    return NetworkPolicy(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        created=meta.created,
        subject=EVERYTHING if subject is None else subject,
        ingress=ingress if is_ingress else (),
        egress=egress if is_egress else (),
        is_ingress=is_ingress,
        is_egress=is_egress,
    )


def stand_in(report: Report, raw: Mapping[str, Any], best: NetworkPolicy) -> NetworkPolicy:
    """A refused policy's fail-closed stand-in: isolates what can be read of its subject and directions, allows nothing.

    What cannot be read with certainty is taken at its widest: every pod of the namespace, both directions.
    """
    spec = raw.get("spec")
    has_unknown = isinstance(spec, dict) and any(key not in _SPEC for key in spec)
    is_subject_read = not report.touches(("spec", "podSelector"))
    is_types_read = not report.touches(("spec", "policyTypes"))
    is_said = isinstance(spec, dict) and bool(spec.get("policyTypes"))
    is_egress = best.is_egress
    if not is_said:
        # A misspelt policyTypes looks like an absent one, and an unreadable egress list like rules.
        is_egress = has_unknown or is_egress or (isinstance(spec, dict) and bool(spec.get("egress")))
    reason = str(report.errors[0][1].reason) if report.errors else "refused"
    path = report.errors[0][1].path if report.errors else ""
    return NetworkPolicy(
        name=best.name,
        namespace=best.namespace,
        uid=best.uid,
        created=best.created,
        subject=best.subject if is_subject_read else EVERYTHING,
        is_ingress=best.is_ingress if is_types_read else True,
        is_egress=is_egress if is_types_read else True,
        blocked=f"{path}: {reason}" if path else reason,
    )


def _policy_types(report: Report, spec: Mapping[str, Any]) -> tuple[bool, bool]:
    path = (*_SPEC_PATH, "policyTypes")
    types = report.items(spec, _SPEC_PATH, "policyTypes")
    if not types:
        return True, bool(spec.get("egress"))
    if len(types) > len(_TYPES):
        report.refuse(path, "may not hold more than two types", error=LimitError)
    for index, word in enumerate(types[: len(_TYPES)]):
        if not (isinstance(word, str) and word in _TYPES):
            report.refuse((*path, index), "must be Ingress or Egress", value=word)
    return "Ingress" in types, "Egress" in types


def _rules(report: Report, spec: Mapping[str, Any], key: str, peers_key: str) -> tuple[PolicyRule, ...]:
    rules = []
    for index, entry in enumerate(report.items(spec, _SPEC_PATH, key)):
        path = (*_SPEC_PATH, key, index)
        raw = _entry(report, entry, path, "write {} to allow everything")
        report.known(raw, path, (peers_key, "ports"))
        peers = tuple(
            _peer(report, peer, (*path, peers_key, at)) for at, peer in enumerate(report.items(raw, path, peers_key))
        )
        ports = tuple(
            _port(report, port, (*path, "ports", at)) for at, port in enumerate(report.items(raw, path, "ports"))
        )
        rules.append(PolicyRule(peers, ports))
    return tuple(rules)


def _entry(report: Report, value: Any, path: Path, fix: str) -> dict[str, Any]:
    if value is None:
        report.refuse(path, "an entry may not be null", fix=fix)
        return {}
    return report.as_mapping(value, path)


def _peer(report: Report, entry: Any, path: Path) -> Peer:
    raw = _entry(report, entry, path, "name a peer, or leave the list out to allow any")
    if not isinstance(entry, dict):
        return Peer()
    report.known(raw, path, ("podSelector", "namespaceSelector", "ipBlock"))
    pods = read_selector(report, raw, path, "podSelector")
    namespaces = read_selector(report, raw, path, "namespaceSelector")
    has_block = raw.get("ipBlock") is not None
    if has_block and (pods is not None or namespaces is not None):
        report.refuse((*path, "ipBlock"), "may not stand beside a selector", fix="make two entries of it")
    if not has_block and pods is None and namespaces is None and not report.touches(path):
        fix = "give podSelector, namespaceSelector or ipBlock; {} as a selector means all"
        report.refuse(path, "must specify a peer", fix=fix)
    return Peer(pods, namespaces, _block(report, raw, (*path, "ipBlock")) if has_block else None)


def _block(report: Report, peer: Mapping[str, Any], path: Path) -> IpBlock | None:
    raw = report.as_mapping(peer["ipBlock"], path)
    if not isinstance(peer["ipBlock"], dict):
        return None
    report.known(raw, path, ("cidr", "except"))
    if raw.get("cidr") is None:
        report.refuse((*path, "cidr"), "missing", fix="write NETWORK/PREFIX")
    cidr = None if raw.get("cidr") is None else report.prefix(raw["cidr"], (*path, "cidr"), strict=False)
    excepts = set()
    for index, value in enumerate(report.items(raw, path, "except")):
        at = (*path, "except", index)
        hole = report.prefix(value, at, strict=False)
        if hole is None:
            continue
        excepts.add(hole)
        if cidr is not None and (not cidr.covers(hole) or hole.prefix <= cidr.prefix):
            report.refuse(at, f"must lie strictly inside {cidr}", value=value)
    return None if cidr is None else IpBlock(cidr, tuple(sorted(excepts)))


def _port(report: Report, entry: Any, path: Path) -> PolicyPort:
    raw = _entry(report, entry, path, "write {} for every TCP port")
    report.known(raw, path, ("protocol", "port", "endPort"))
    protocol = read_protocol(report, raw, path)
    port, end = raw.get("port"), raw.get("endPort")
    bounds = (PORT_MIN, PORT_MAX)
    if port is None:
        if end is not None:
            report.refuse((*path, "endPort"), "may not stand without port", value=end)
        return PolicyPort(protocol)
    if isinstance(port, str):
        if not is_port_name(port):
            fix = f"write {port} without quotes" if port.isascii() and port.isdigit() and len(port) < 6 else ""
            reason = "a port name must be 1-15 lower-case letters, digits and single inner dashes, with a letter"
            report.refuse((*path, "port"), reason, value=port, fix=fix)
        if end is not None:
            report.refuse((*path, "endPort"), "needs a numeric port", value=end)
        return PolicyPort(protocol, None, port)
    first = report.as_number(port, (*path, "port"), bounds)
    last = first if end is None else report.as_number(end, (*path, "endPort"), bounds)
    if first is None or last is None:
        return PolicyPort(protocol)
    if last < first:
        report.refuse((*path, "endPort"), f"must not be below port {first}", value=end, error=LimitError)
    return PolicyPort(protocol, PortRange(first, last))


def read_protocol(report: Report, raw: Mapping[str, Any], path: Path) -> Transport:
    """``protocol`` of a port: TCP when absent."""
    word = report.text(raw, path, "protocol", "TCP")
    for protocol in TRANSPORTS:
        if word == protocol:
            return protocol
    fix = f"write {word.upper()}" if word.upper() in TRANSPORTS else "write TCP, UDP or SCTP"
    report.refuse((*path, "protocol"), f"unknown protocol {printable(word)}", fix=fix)
    return "TCP"
