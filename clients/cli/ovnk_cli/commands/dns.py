"""``ovnk dns``: which addresses a DNS name has on record, or had at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ovnk_cli.northbound import recorded
from ovnk_cli.options import northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_cli.place import ask, server_for_files, server_options
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
@server_options
@output_option("table", "json", "yaml")
def dns(names: tuple[str, ...], at_s: float | None, output: str, **given: Any) -> None:
    """Which addresses egress firewalls take DNS names to have, or took them to have at a time.

    From a file of decisions, a northbound database, or a server. Exit status 1 when a name is not on record for that
    time.
    """
    at_text = None if at_s is None else utc(at_s)
    documents = _asked(names, at_s, given)
    if output == "table":
        at = [] if at_text is None else [at_text]
        head = ["NAME", "ADDRESSES", *(["AT"] if at else ["SINCE"])]
        table(
            head, [[each["name"], _shown(each["addresses"]), *(at or [_since(each["history"])])] for each in documents]
        )
    else:
        emit({"names": documents}, output)
    raise click.exceptions.Exit(1 if any(each["addresses"] is None for each in documents) else 0)


def _asked(names: tuple[str, ...], at_s: float | None, given: dict[str, Any]) -> list[dict[str, Any]]:
    """A document for each name, from the one place that was named. Raises UsageError for none or several."""
    decisions_file, northbound = given["decisions_file"], given["northbound"]
    has_place = decisions_file is not None or northbound is not None
    server = server_for_files(given, is_wanted=not has_place)
    if (decisions_file is not None and northbound is not None) or (not has_place and server is None):
        raise click.UsageError("give either --decisions FILE or --northbound ADDRESS or --server ADDRESS")
    if server is not None:
        from ovnk_cli.online.asking import names as ask_names

        at = None if at_s is None else datetime.fromtimestamp(at_s, UTC)
        return ask(server, lambda client: ask_names(client, names, at, None if at_s is None else utc(at_s)))
    if decisions_file is not None:
        known = _of_file(decisions_file)
    else:
        known = recorded(northbound, given["driver"], given["timeout"]).dns
    return [_document(name, known.get(name), _addresses(known.get(name), at_s), at_s) for name in names]


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


def _shown(addresses: list[str] | None) -> str:
    return "not on record" if addresses is None else ",".join(addresses) or "none"


def _since(history: list[dict[str, Any]]) -> str:
    return str(history[-1]["at"]) if history else "-"


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
