"""Egress firewalls of files: what ``get`` and ``describe`` say of them without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from ovnk_cli.firewall_text import Judged, firewall_fields, print_fields
from ovnk_cli.form import emit_objects
from ovnk_cli.inputs import Input, Offline, offline
from ovnk_cli.output import say, table
from ovnk_core.features.egress_firewall.status import FirewallStatus, firewall_status, status_manifest
from ovnk_core.features.egress_firewall.verdict import answered_since, utc
from ovnk_core.model.egress_firewall import NAME, DnsName, EgressFirewall
from ovnk_core.model.manifest import manifest
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value

KINDS = tuple(
    f"{word}{group}" for word in ("egressfirewall", "egressfirewalls", "ef") for group in ("", ".k8s.ovn.org")
)


class Shown(Value, frozen=True, kw_only=True):
    """One firewall as it was declared or stands: ``item`` is None where a refused one changed nothing."""

    key: NamespacedName
    item: EgressFirewall | None
    status: FirewallStatus


def named(words: Sequence[str]) -> str | None:
    """The name that a command's words ask for, None for all firewalls. Raises UsageError for any other kind."""
    kind, slash, name = words[0].partition("/")
    names = [name] if slash else list(words[1:])
    if kind.lower() not in KINDS:
        raise click.UsageError(f"{kind}: files are asked for egressfirewall only; --server knows every kind")
    if len(names) > 1 or (slash and words[1:]):
        raise click.UsageError("files are asked for one egressfirewall or all of them")
    return names[0] if names else None


def _find(found: Offline, namespace: str | None, name: str | None) -> list[Shown]:
    """Firewalls in force and refused ones, by name. Raises UsageError when the one that was named does not exist."""
    cluster = found.cluster
    rows, decisions = cluster.engine.rows(EGRESS_FIREWALL), cluster.engine.rows(DNS_DECISION)
    refused = {ref.key: each.errors for ref, each in cluster.refused.items() if ref.kind == "EgressFirewall"}
    keys = sorted(
        key
        for key in {*rows, *refused}
        if (namespace is None or key.namespace == namespace) and (name is None or key.name == name)
    )
    if name is not None and not keys:
        place = "any namespace" if namespace is None else f"namespace {namespace}"
        raise click.UsageError(f"egressfirewall {name}: there is none in {place}; its name is always {NAME}")
    return [
        Shown(
            key=key,
            item=rows.get(key),
            status=firewall_status(rows.get(key), refused.get(key, ()), lambda asked: decisions.get(asked)),
        )
        for key in keys
    ]


def show_firewalls(given: Input, name: str | None, namespace: str | None, output: str) -> int:
    """``get``; the exit status."""
    found = offline(given)
    shown = _find(found, namespace, name)
    if output == "name":
        for each in shown:
            click.echo(f"egressfirewall/{each.key.namespace}/{each.key.name}")
    elif output in ("table", "wide"):
        head = ["NAMESPACE", "NAME", "STATUS", "RULES"]
        cells = [_cells(each) for each in shown]
        if output == "wide":
            head += ["CONDITIONS", "SOURCE"]
            cells = [[*row, *_more(found, each)] for row, each in zip(cells, shown, strict=True)]
        table(head, cells)
    else:
        for each in shown:
            if each.item is None or each.item.blocked:
                say(f"note: {each.key}: its rules are not known, because it was refused: no spec is shown")
        emit_objects([_manifest(each) for each in shown], output, is_one=name is not None)
    return found.exit_code


def _manifest(shown: Shown) -> dict[str, Any]:
    """What is in force under the name, with its status; of a stand-in only the name and the status."""
    if shown.item is not None and not shown.item.blocked:
        return manifest(shown.item) | {"status": status_manifest(shown.status)}
    identity = EgressFirewall(name=shown.key.name, namespace=shown.key.namespace)
    found = manifest(shown.item or identity)
    del found["spec"]
    return found | {"status": status_manifest(shown.status)}


def _cells(shown: Shown) -> list[object]:
    rules = len(shown.item.rules) if shown.item is not None else 0
    return [shown.key.namespace, shown.key.name, shown.status.text, rules]


def _more(found: Offline, shown: Shown) -> list[object]:
    ref = ObjectRef("EgressFirewall", shown.key.namespace, shown.key.name)
    refused = found.cluster.refused.get(ref)
    source = found.cluster.sources.get(ref) or (refused.source if refused is not None else "")
    return [",".join(each.type for each in shown.status.conditions if each.holds), source]


def describe_firewalls(given: Input, name: str | None, namespace: str | None) -> int:
    """``describe``; the exit status."""
    found = offline(given)
    for index, each in enumerate(_find(found, namespace, name)):
        if index:
            click.echo()
        item = each.item or EgressFirewall(name=each.key.name, namespace=each.key.namespace)
        judged = Judged(
            text=each.status.text,
            messages=each.status.messages,
            conditions=tuple((c.type, c.status, c.reason, c.message) for c in each.status.conditions),
        )
        print_fields(firewall_fields(item, judged, _dns(found, item)))
    return found.exit_code


def _dns(found: Offline, item: EgressFirewall) -> Iterator[str]:
    decisions = found.cluster.engine.rows(DNS_DECISION)
    for name in sorted({rule.to.name for rule in item.rules if isinstance(rule.to, DnsName)}):
        decision = decisions.get(name)
        if decision is None:
            yield f"{name}: never answered"
            continue
        for address in sorted({*decision.live, *decision.sticky}):
            since_s = answered_since(decision, address)
            when = f" since {utc(since_s)}" if since_s is not None else ""
            only = "" if address in decision.live else " (Deny rules only)"
            yield f"{name}: {address}{when}{only}"
        if not decision.live and not decision.sticky:
            yield f"{name}: no address"
