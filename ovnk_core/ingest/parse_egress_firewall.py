"""EgressFirewall: what the CRD and the manual's examples say, read so that a mistake never opens a namespace.

Lenient where the manual's own examples need it (15.5.2.2): an address without a prefix length is one host, a port
without a protocol is that port of any protocol. Strict otherwise: unknown fields, null entries and every spelling of
an address that two readers may read differently are refused. Sources: 15.5.1.1, 15.5.2; k8s.ovn.org/v1 EgressFirewall.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from ovnk_core.errors import LimitError
from ovnk_core.ingest.metadata import (
    LABEL_LENGTH,
    METADATA_FIELDS,
    OBJECT_FIELDS,
    SUBDOMAIN_LENGTH,
    Metadata,
    read_selector,
)
from ovnk_core.ingest.position import JsonPositions, Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.text import printable
from ovnk_core.model.egress_firewall import (
    MAX_RULES,
    NAME,
    Destination,
    DnsName,
    EgressFirewall,
    FirewallPort,
    FirewallRule,
    NodeSelector,
)
from ovnk_core.terms.address import Cidr, parse_address
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, TRANSPORTS

_DESTINATIONS = ("cidrSelector", "dnsName", "nodeSelector")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NOWHERE = Cidr(4, 0, 0)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KEPT = "until then the last accepted version stays enforced; without one, nothing leaves the namespace"


def parse_egress_firewall(report: Report, raw: Mapping[str, Any], meta: Metadata) -> EgressFirewall:
    """k8s.ovn.org/v1 EgressFirewall -> the model; problems go to ``report``."""
    report.known(raw, (), OBJECT_FIELDS)
    report.known(report.mapping(raw, (), "metadata"), ("metadata",), METADATA_FIELDS)
    if meta.name != NAME and not report.touches(("metadata", "name")):
        reason = "a namespace has one egress firewall, and its name is default; nothing is changed"
        report.refuse(("metadata", "name"), reason, value=meta.name, fix=f"write {NAME}")
    spec = report.mapping(raw, (), "spec")
    report.known(spec, ("spec",), ("egress",))
    path: Path = ("spec", "egress")
    if spec.get("egress") is None and not report.touches(path):
        report.refuse(path, "missing", fix="list the rules; [] restricts nothing")
    entries = report.items(spec, ("spec",), "egress")
    if len(entries) > MAX_RULES:
        reason = f"{len(entries):,} rules, and a firewall may have {MAX_RULES:,}"
        report.refuse(path, reason, error=LimitError, fix=f"remove {len(entries) - MAX_RULES:,}; {_KEPT}")
        entries = []
    elif not entries and not report.errors:
        report.warn(path, "no rules: nothing is restricted")
    rules = [_known(entry) or _rule(report, entry, (*path, index)) for index, entry in enumerate(entries)]
    return EgressFirewall(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        created=meta.created,
        labels=meta.labels,
        annotations=_annotations(meta),
        rules=tuple(rules),
    )


def _annotations(meta: Metadata) -> tuple[tuple[str, str], ...]:
    """Annotations that are text, without the copy of the whole object that kubectl leaves there."""
    found = ((key, value) for key, value in meta.annotations.items() if isinstance(value, str))
    return tuple(sorted((key, value) for key, value in found if key != _LAST_APPLIED))


def blocked(report: Report, best: EgressFirewall) -> EgressFirewall | None:
    """The stand-in of a refused firewall: nothing leaves the namespace. None for one that could never be the
    namespace's firewall, because its name is another's: it changes nothing."""
    if best.name != NAME:
        return None
    first = report.errors[0][1] if report.errors else None
    reason = "refused" if first is None else f"{first.path}: {first.reason}" if first.path else str(first.reason)
    return EgressFirewall(name=NAME, namespace=best.namespace, uid=best.uid, created=best.created, blocked=reason)


# ------------------------------------------------------------------------------------------- one rule


def _known(entry: Any) -> FirewallRule | None:
    """The rule of an entry, remembered by what it says; None for one that is new in a faulty way or worth a warning.

    Rules repeat from edit to edit: reading 8,000 of them again costs a twentieth, and equal rules are one object, so
    that comparing two versions of a list is comparing pointers.
    """
    try:
        return _read(msgspec.json.encode(entry))
    except (TypeError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=1 << 16)
def _read(text: bytes) -> FirewallRule | None:
    report = Report("EgressFirewall", "", JsonPositions("", "", None))
    found = _rule(report, msgspec.json.decode(text), ())
    return None if report.errors or report.warnings else found


def _rule(report: Report, entry: Any, path: Path) -> FirewallRule:
    if entry is None:
        report.refuse(path, "an entry may not be null", fix="remove it")
        return FirewallRule(False, _NOWHERE)
    raw = report.as_mapping(entry, path)
    if raw is entry:
        report.known(raw, path, ("type", "to", "ports"))
    said = raw.get("type")
    word = said if isinstance(said, str) else ""
    if word not in ("Allow", "Deny") and raw is entry:
        fix = f"write {word.capitalize()}" if word.capitalize() in ("Allow", "Deny") else "write Allow or Deny"
        report.refuse((*path, "type"), "must be Allow or Deny", value=said, fix=fix)
    to = _destination(report, report.mapping(raw, path, "to"), (*path, "to"))
    return FirewallRule(word == "Allow", to, _ports(report, raw, path))


def _destination(report: Report, raw: Mapping[str, Any], path: Path) -> Destination:
    report.known(raw, path, _DESTINATIONS)
    given = [key for key in _DESTINATIONS if raw.get(key) is not None]
    if len(given) != 1:
        if not report.touches(path):
            reason = "must hold exactly one of cidrSelector, dnsName and nodeSelector"
            fix = f"make {len(given)} rules of it" if given else 'write "cidrSelector: 0.0.0.0/0" for everything'
            report.refuse(path, reason, fix=fix)
        return _NOWHERE
    at = (*path, given[0])
    if given[0] == "cidrSelector":
        return _cidr(report, raw["cidrSelector"], at) or _NOWHERE
    if given[0] == "dnsName":
        return _dns(report, raw["dnsName"], at) or _NOWHERE
    found = read_selector(report, raw, path, "nodeSelector")
    return _NOWHERE if found is None else NodeSelector(found)


def _cidr(report: Report, value: Any, path: Path) -> Cidr | None:
    if isinstance(value, str) and "/" not in value:
        try:
            return parse_address(value).host
        except ValueError as reason:
            report.refuse(path, str(reason), value=value, fix="write NETWORK/PREFIX, or one address")
            return None
    return report.prefix(value, path, strict=False)


def _ports(report: Report, owner: Mapping[str, Any], path: Path) -> tuple[FirewallPort, ...]:
    found: set[FirewallPort] = set()
    entries = report.items(owner, path, "ports")
    if owner.get("ports") == []:
        report.warn((*path, "ports"), "an empty list is no list: the rule is about every protocol")
    for index, entry in enumerate(entries):
        at = (*path, "ports", index)
        if entry is None:
            report.refuse(at, "an entry may not be null", fix="leave ports out for every protocol")
            continue
        raw = report.as_mapping(entry, at)
        if raw is not entry:
            continue
        report.known(raw, at, ("port", "protocol"))
        port = report.number(raw, at, "port", (PORT_MIN, PORT_MAX))
        word = report.text(raw, at, "protocol")
        protocols = [each for each in TRANSPORTS if word in ("", each)]
        if not protocols:
            fix = f"write {word.upper()}" if word.upper() in TRANSPORTS else "write TCP, UDP or SCTP"
            report.refuse((*at, "protocol"), f"unknown protocol {printable(word)}", fix=fix)
        elif not word and raw.get("port") is None and not report.touches(at):
            report.refuse(at, "names neither a port nor a protocol", fix="leave ports out for every protocol")
        elif not word and port is not None:
            report.warn(at, f"no protocol: port {port} of TCP, UDP and SCTP is meant")
        found |= {FirewallPort(protocol, port or 0) for protocol in protocols}
    return _absorbed(found)


def _absorbed(ports: set[FirewallPort]) -> tuple[FirewallPort, ...]:
    """Sorted; a port beside "every port" of its protocol says nothing."""
    whole = {each.protocol for each in ports if not each.port}
    return tuple(sorted(each for each in ports if not each.port or each.protocol not in whole))


# ------------------------------------------------------------------------------------------- names


def _dns(report: Report, value: Any, path: Path) -> DnsName | None:
    text = report.as_text(value, path)
    if not isinstance(value, str):
        return None
    try:
        name = dns_name(text)
    except ValueError as reason:
        report.refuse(path, str(reason), value=value)
        return None
    if "." not in name.name:
        report.warn(path, f"{printable(text)} is a single label and asked as it stands, without a search domain")
    return name


@lru_cache(maxsize=1 << 14)
def dns_name(text: str) -> DnsName:
    """A host name as lower-case A-labels without the final dot. Raises ValueError with the reason.

    Whatever passes holds letters, digits, inner dashes and dots only (and ``*.`` in front): nothing that could end a
    match expression. Source: RFC 1123 2.1, RFC 5891 (IDNA 2008).
    """
    body = text.removesuffix(".")
    star = body.startswith("*.")
    name = body[2:] if star else body
    if not name:
        raise ValueError("the name is empty")
    if len(name) > 4 * SUBDOMAIN_LENGTH:
        raise ValueError(f"longer than {SUBDOMAIN_LENGTH} characters")
    if not name.isascii() or "xn--" in name.lower():
        name = _a_labels(name)
    name = name.lower()
    if len(name) + 2 * star > SUBDOMAIN_LENGTH:
        raise ValueError(f"longer than {SUBDOMAIN_LENGTH} characters")
    labels = name.split(".")
    for label in labels:
        if "*" in label:
            raise ValueError("a wildcard stands for the first label alone: *.example.com")
        if len(label) > LABEL_LENGTH or not _LABEL.fullmatch(label):
            raise ValueError("each label must be 1-63 letters, digits and inner dashes")
    if labels[-1].isdigit():
        raise ValueError("looks like an address: use cidrSelector")
    return DnsName(f"*.{name}" if star else name)


def _a_labels(name: str) -> str:
    import idna  # needed by few, and 8 ms to import

    try:
        return idna.encode(name, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError) as reason:
        raise ValueError(f"not a name in IDNA 2008: {reason}") from None
