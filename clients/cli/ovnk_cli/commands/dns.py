"""``ovnk dns``: which addresses a DNS name has on record, or had at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ovnk_cli.northbound import recorded
from ovnk_cli.options import northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_core.allocate.dns import addresses_at
from ovnk_core.features.egress_firewall.verdict import utc
from ovnk_core.ingest.decisions import read_decisions
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.model.decision import DnsDecision
from ovnk_core.terms.address import Address


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """RFC 3339 -> Unix seconds; without an offset it is UTC."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        found_s = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        utc(found_s)  # the offset may lead out of the calendar
        return found_s
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value}: write a time as 2006-01-02T15:04:05Z", ctx, param) from None


def _names(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dns_name(text).name for text in value)
    except ValueError as reason:
        raise click.BadParameter(f"{', '.join(value)}: {reason}", ctx, param) from None


@click.command()
@click.argument("names", nargs=-1, required=True, callback=_names, metavar="NAME...")
@click.option("--at", "at_s", callback=_time, metavar="TIME", help="The addresses at a time (RFC 3339), from history.")
@click.option("--decisions", "decisions_file", metavar="FILE", help="Recorded decisions (sync --save-decisions).")
@northbound_options(is_required=False)
@output_option("table", "json", "yaml")
def dns(
    names: tuple[str, ...],
    at_s: float | None,
    decisions_file: str | None,
    northbound: str | None,
    driver: str,
    timeout: float,
    output: str,
) -> None:
    """Which addresses egress firewalls take DNS names to have, or took them to have at a time.

    From a file of decisions or from a northbound database. Exit status 1 when a name is not on record for that time.
    """
    if (decisions_file is None) == (northbound is None):
        raise click.UsageError("give either --decisions FILE or --northbound ADDRESS")
    known = _of_file(decisions_file) if decisions_file is not None else recorded(str(northbound), driver, timeout).dns
    found = {name: _addresses(known.get(name), at_s) for name in names}
    if output == "table":
        at = [] if at_s is None else [utc(at_s)]
        head = ["NAME", "ADDRESSES", *(["AT"] if at else ["SINCE"])]
        table(head, [[name, _shown(each), *(at or [_since(known.get(name))])] for name, each in found.items()])
    else:
        emit({"names": [_document(name, known.get(name), found[name], at_s) for name in names]}, output)
    raise click.exceptions.Exit(1 if any(each is None for each in found.values()) else 0)


def _of_file(file: str) -> dict[str, DnsDecision]:
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--decisions {file}: {error.strerror}") from error
    return read_decisions(text, source=file).dns


def _addresses(decision: DnsDecision | None, at_s: float | None) -> tuple[Address, ...] | None:
    """None: not on record."""
    if decision is None:
        return None
    return decision.live if at_s is None else addresses_at(decision, at_s)


def _shown(addresses: tuple[Address, ...] | None) -> str:
    if addresses is None:
        return "not on record"
    return ",".join(map(str, addresses)) or "none"


def _since(decision: DnsDecision | None) -> str:
    return utc(decision.history[-1].at_s) if decision is not None and decision.history else "-"


def _document(
    name: str, decision: DnsDecision | None, addresses: tuple[Address, ...] | None, at_s: float | None
) -> dict[str, Any]:
    known = decision or DnsDecision()
    # What Deny rules keep is known for now only: history says what a name had.
    kept = {"deny_addresses": list(map(str, known.sticky))} if at_s is None else {}
    return {
        "name": name,
        "at": None if at_s is None else utc(at_s),
        "addresses": None if addresses is None else list(map(str, addresses)),
        **kept,
        "history": [
            {"at": utc(each.at_s), "cause": each.cause, "addresses": list(map(str, each.addresses))}
            for each in known.history
        ],
    }
