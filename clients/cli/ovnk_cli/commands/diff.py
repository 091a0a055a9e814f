"""``ovnk diff``: what an edit changes, before it is made."""

from __future__ import annotations

from typing import Any

import click
from msgspec.structs import replace

from ovnk_cli.inputs import Input, offline, report_edit
from ovnk_cli.options import dns_option, input_options, northbound_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_core.analysis.connections import Connection
from ovnk_core.analysis.diff import ClusterDiff, RuleChange, diff_clusters, edited
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.trace.question import Step


@click.command()
@input_options
@click.option("--to", "targets", multiple=True, required=True, metavar="PATH", help="The files after the edit, as -f.")
@dns_option
@northbound_options(is_required=False)
@output_option("table", "json", "yaml")
def diff(targets: tuple[str, ...], output: str, **given: Any) -> None:
    """What changes when the objects of -f become those of --to.

    Rules of egress firewalls, connections that open or close, and northbound rows. Exit status 0 when nothing differs,
    1 when something does, or an object is refused.
    """
    if "-" in given["paths"] and "-" in targets:
        raise click.UsageError("standard input cannot hold both states (-f - and --to -)")
    source = Input(**given)
    before = offline(source)
    loaded = replace(source, paths=targets).load()
    after = edited(before.cluster, loaded)
    report_edit(loaded, after)
    found = diff_clusters(before.cluster, after, parse_schema(SCHEMA))
    if not found.is_complete:
        say("warning: too many packets to compare them all: there may be more connections than are listed")
    if output == "table":
        _print(found)
    else:
        emit(_document(found), output)
    raise click.exceptions.Exit(0 if found.is_empty and not after.errors and not before.errors else 1)


def _print(found: ClusterDiff) -> None:
    if found.is_empty:
        click.echo("nothing differs")
        return
    if found.rules:
        head = ["RULE", "NAMESPACE", "BEFORE", "AFTER", "TEXT", "SOURCE"]
        table(head, [_rule_cells(each) for each in found.rules])
    if found.connections:
        click.echo()
        head = ["CONNECTIONS", "NAMESPACE", "DIRECTION", "PODS", "EXAMPLE", "BEFORE", "AFTER"]
        table(head, [_connection_cells(each) for each in found.connections])
    if found.rows:
        click.echo()
        table(["ROWS", "VERB", "OPERATIONS"], [[each.table, each.verb, each.count] for each in found.rows])


def _rule_cells(each: RuleChange) -> list[object]:
    hidden = f" (hidden by {', '.join(map(str, each.hidden_by))})" if each.hidden_by else ""
    indexes = ["-" if index is None else index for index in (each.before, each.after)]
    return [each.change, each.namespace, *indexes, each.text + hidden, each.source]


def _connection_cells(each: Connection) -> list[object]:
    port = "" if each.port is None else f"/{each.port}"
    example = f"{each.source} -> {each.target} {each.protocol}{port}"
    return [
        each.change,
        each.namespace,
        each.direction.lower(),
        each.pods,
        example,
        _decided(each.before),
        _decided(each.after),
    ]


def _decided(step: Step) -> str:
    """What decided, in a few words."""
    if step.object is None:
        return "nothing denies it" if step.verdict == "allow" else step.text
    return f"{step.object}" + (f" rule {step.rule}" if step.rule is not None else "")


def _document(found: ClusterDiff) -> dict[str, Any]:
    return {
        "rules": [
            {
                "change": each.change,
                "namespace": each.namespace,
                "before": each.before,
                "after": each.after,
                "text": each.text,
                "source": each.source,
                "hidden_by": list(each.hidden_by),
            }
            for each in found.rules
        ],
        "connections": [
            {
                "change": each.change,
                "namespace": each.namespace,
                "direction": each.direction.lower(),
                "pods": each.pods,
                "example": {
                    "from": str(each.source),
                    "to": str(each.target),
                    "protocol": each.protocol,
                    "port": each.port,
                },
                "before": _step(each.before),
                "after": _step(each.after),
            }
            for each in found.connections
        ],
        "rows": [{"table": each.table, "verb": each.verb, "operations": each.count} for each in found.rows],
        "complete": found.is_complete,
    }


def _step(step: Step) -> dict[str, Any]:
    ref = step.object
    return {
        "verdict": step.verdict,
        "object": None if ref is None else {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name},
        "rule": step.rule,
        "source": step.source,
        "text": step.text,
    }
