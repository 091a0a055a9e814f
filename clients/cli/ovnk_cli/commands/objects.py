"""Looking at declared objects: ``get`` and ``describe``, for egress firewalls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from ovnk_cli.inputs import Input, Offline, offline
from ovnk_cli.options import F, dns_option, input_options, northbound_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_core.features.egress_firewall.status import FirewallStatus, firewall_status, status_manifest
from ovnk_core.features.egress_firewall.verdict import answered_since, utc
from ovnk_core.ingest.text import printable
from ovnk_core.model.egress_firewall import NAME, DnsName, EgressFirewall, rule_text
from ovnk_core.model.manifest import manifest
from ovnk_core.model.tables import DNS_DECISION, EGRESS_FIREWALL
from ovnk_core.terms.label import Labels
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.terms.struct import Value

KINDS = ("egressfirewall", "egressfirewalls")
TAB = 8
"""Columns of a tab stop."""
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def _everywhere(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.params.get("namespace") is not None:
        raise click.UsageError("-A means every namespace, so leave out -n")


def _which(function: F) -> F:
    """What ``get`` and ``describe`` are about, and where it is read from."""
    for option in reversed(
        (
            click.argument("kind", type=click.Choice(KINDS)),
            click.argument("name", required=False),
            click.option("-n", "--namespace", metavar="NS", is_eager=True, help="Only one namespace."),
            click.option(
                "-A",
                "--all-namespaces",
                is_flag=True,
                expose_value=False,
                callback=_everywhere,
                help="Every namespace, which is what happens without -n too.",
            ),
            input_options,
            dns_option,
            northbound_options(is_required=False),
        )
    ):
        function = option(function)
    return function


class Shown(Value, frozen=True, kw_only=True):
    """One firewall as it was declared or stands: ``item`` is None where a refused one changed nothing."""

    key: NamespacedName
    item: EgressFirewall | None
    status: FirewallStatus


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


@click.command()
@_which
@output_option("table", "wide", "json", "yaml", "name")
def get(kind: str, name: str | None, namespace: str | None, output: str, **given: Any) -> None:
    """Show egress firewalls as they stand, with their status."""
    found = offline(Input(**given))
    shown = _find(found, namespace, name)
    if output in ("json", "yaml"):
        items = [_manifest(each) for each in shown]
        for each in shown:
            if each.item is None or each.item.blocked:
                say(f"note: {each.key}: its rules are not known, because it was refused: no spec is shown")
        emit(items[0] if name is not None and len(items) == 1 else _list(items), output)
    elif output == "name":
        for each in shown:
            click.echo(f"egressfirewall/{each.key.namespace}/{each.key.name}")
    else:
        head = ["NAMESPACE", "NAME", "STATUS", "RULES"]
        cells = [_cells(each) for each in shown]
        if output == "wide":
            head += ["CONDITIONS", "SOURCE"]
            cells = [[*row, *_more(found, each)] for row, each in zip(cells, shown, strict=True)]
        table(head, cells)
    raise click.exceptions.Exit(found.exit_code)


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


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


# ------------------------------------------------------------------------------------------- describe


@click.command()
@_which
def describe(kind: str, name: str | None, namespace: str | None, **given: Any) -> None:
    """Describe egress firewalls: their rules, status, and what their DNS names stand for."""
    found = offline(Input(**given))
    for index, each in enumerate(_find(found, namespace, name)):
        if index:
            click.echo()
        for title, text in _description(found, each):
            head = f"{title}:"
            click.echo(head + ("\t\t" if len(head) < TAB else "\t") + printable(text, len(text)))
    raise click.exceptions.Exit(found.exit_code)


def _description(found: Offline, shown: Shown) -> Iterator[tuple[str, str]]:
    """(title, text) as in the layout of 15.6.1, and what it does not show."""
    item = shown.item or EgressFirewall(name=shown.key.name, namespace=shown.key.namespace)
    yield "Name", item.name
    yield "Namespace", item.namespace
    yield "Created", _age(item.created, time.time())
    yield "Labels", _pairs(item.labels)
    yield "Annotations", _pairs(item.annotations)
    for rule in item.rules:
        yield "Rule", rule_text(rule)
    yield "Status", shown.status.text
    for message in shown.status.messages:
        yield "Message", message
    for condition in shown.status.conditions:
        tail = f", {condition.message}" if condition.message and condition.holds else ""
        yield "Condition", f"{condition.type}={condition.status} ({condition.reason}){tail}"
    decisions = found.cluster.engine.rows(DNS_DECISION)
    for dns_name in sorted({rule.to.name for rule in item.rules if isinstance(rule.to, DnsName)}):
        decision = decisions.get(dns_name)
        if decision is None:
            yield "DNS", f"{dns_name}: never answered"
            continue
        for address in sorted({*decision.live, *decision.sticky}):
            since_s = answered_since(decision, address)
            when = f" since {utc(since_s)}" if since_s is not None else ""
            only = "" if address in decision.live else " (Deny rules only)"
            yield "DNS", f"{dns_name}: {address}{when}{only}"
        if not decision.live and not decision.sticky:
            yield "DNS", f"{dns_name}: no address"


def _pairs(pairs: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in pairs) or "<none>"


def _age(created: str, now_s: float) -> str:
    if not created:
        return "<unknown>"
    past_s = max(0, int(now_s - datetime.fromisoformat(created).timestamp()))
    unit, size_s = next((each for each in _UNITS if past_s >= 2 * each[1]), _UNITS[-1])
    count = past_s // size_s
    return f"{count} {unit}{'' if count == 1 else 's'} ago"
