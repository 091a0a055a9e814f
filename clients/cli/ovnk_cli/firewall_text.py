"""An egress firewall in the layout of the manual's listing (15.6.1), with what that does not show below it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime

import click

from ovnk_core.ingest.text import printable
from ovnk_core.model.egress_firewall import EgressFirewall, rule_text
from ovnk_core.terms.label import Labels
from ovnk_core.terms.struct import Value

TAB = 8
"""Columns of a tab stop."""
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


class Judged(Value, frozen=True, kw_only=True):
    """What became of a firewall: its sentence, messages, and conditions as (type, status, reason, message)."""

    text: str
    messages: tuple[str, ...] = ()
    conditions: tuple[tuple[str, str, str, str], ...] = ()


def firewall_fields(item: EgressFirewall, judged: Judged, dns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(title, text) of each line. ``dns``: a line for each address of each name, already in words."""
    yield "Name", item.name
    yield "Namespace", item.namespace
    yield "Created", ago(item.created, time.time())
    yield "Labels", _pairs(item.labels)
    yield "Annotations", _pairs(item.annotations)
    for rule in item.rules:
        yield "Rule", rule_text(rule)
    yield "Status", judged.text
    for message in judged.messages:
        yield "Message", message
    for name, status, reason, message in judged.conditions:
        tail = f", {message}" if message and status == "True" else ""
        yield "Condition", f"{name}={status} ({reason}){tail}"
    for line in dns:
        yield "DNS", line


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Titles and texts in two columns, with tabs between them; a text stays on its line whatever is in it."""
    for title, text in fields:
        head = f"{title}:"
        click.echo(head + ("\t\t" if len(head) < TAB else "\t") + printable(text, len(text)))


def _pairs(pairs: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in pairs) or "<none>"


def ago(created: str, now_s: float) -> str:
    """RFC 3339 text -> ``20 minutes ago``."""
    if not created:
        return "<unknown>"
    past_s = max(0, int(now_s - datetime.fromisoformat(created).timestamp()))
    unit, size_s = next((each for each in _UNITS if past_s >= 2 * each[1]), _UNITS[-1])
    count = past_s // size_s
    return f"{count} {unit}{'' if count == 1 else 's'} ago"
