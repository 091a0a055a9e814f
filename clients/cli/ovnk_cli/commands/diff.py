"""``ovnk diff``: what an edit changes, before it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from msgspec.structs import replace

from ovnk_cli.commands.trace import egress_document, ways_out
from ovnk_cli.inputs import Input, offline, report_edit
from ovnk_cli.options import dns_option, input_options, northbound_options, output_option
from ovnk_cli.output import emit, say, say_redaction, table
from ovnk_cli.place import Server, ask, server_for_files, server_options
from ovnk_core.analysis.diff import ClusterDiff, diff_clusters, edited
from ovnk_core.analysis.stated_egress_ips import Record
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.trace.question import Step

PARTS = ("objects", "rules", "connections", "sources", "rows")


@click.command()
@server_options
@input_options(is_required=False)
@click.option("--to", "targets", multiple=True, metavar="PATH", help="The files after the edit; not with --server.")
@dns_option
@northbound_options(is_required=False)
@output_option("table", "json", "yaml")
def diff(targets: tuple[str, ...], output: str, **given: Any) -> None:
    """What changes when the objects of -f become those of --to, or a server's become those of -f.

    Objects, rules of egress firewalls, connections that open or close, as whom servers outside see what pods send, and
    northbound rows. Exit status 0 when nothing differs, 1 when something does, or an object is refused.
    """
    if not given["paths"]:
        raise click.UsageError("give -f PATH")
    server = server_for_files(given, is_wanted=not targets)
    if server is not None:
        raise click.exceptions.Exit(_diff_server(server, given["paths"], output))
    if not targets:
        raise click.UsageError("give --to PATH to compare with other files, or --server ADDRESS with a server")
    if "-" in given["paths"] and "-" in targets:
        raise click.UsageError("standard input cannot hold both states (-f - and --to -)")
    source = Input(**given)
    before = offline(source)
    loaded = replace(source, paths=targets).load()
    after = edited(before.cluster, loaded)
    report_edit(loaded, after, Record(name="BEFORE", decisions=before.cluster.decisions.egress_ips))
    found = diff_clusters(before.cluster, after, parse_schema(SCHEMA))
    if not found.is_complete:
        say("warning: too many packets to compare them all: there may be more connections than are listed")
    is_refused = bool(after.errors or before.errors)
    _tell(_document(found), output, is_refused=is_refused)
    raise click.exceptions.Exit(0 if found.is_empty and not is_refused else 1)


def _diff_server(server: Server, paths: tuple[str, ...], output: str) -> int:
    from ovnk_cli.online.asking import diff as ask_diff
    from ovnk_cli.online.files import read_files

    stated = read_files(paths, None)
    found = ask(server, lambda client: ask_diff(client, stated))
    if not found["complete"]:
        say("warning: too many packets to compare them all: there may be more connections than are listed")
    _tell(found, output)
    say_redaction(found)
    return 1 if found.get("is_redacted") or any(found[part] for part in PARTS) else 0


def _tell(found: dict[str, Any], output: str, *, is_refused: bool = False) -> None:
    if output == "table":
        _print(found, is_refused=is_refused)
    else:
        emit(found, output)


def _print(found: dict[str, Any], *, is_refused: bool) -> None:
    if not any(found[part] for part in PARTS):
        if not found.get("is_redacted"):
            click.echo("nothing that is accepted differs" if is_refused else "nothing differs")
        return
    is_first = True
    for part, (head, cells) in _BLOCKS.items():
        if not found[part]:
            continue
        if not is_first:
            click.echo()
        is_first = False
        table(list(head), [cells(each) for each in found[part]])


def _object_cells(each: dict[str, Any]) -> list[object]:
    return [each["outcome"], each["kind"], each["namespace"], each["name"]]


def _rule_cells(each: dict[str, Any]) -> list[object]:
    hidden = f" (hidden by {', '.join(map(str, each['hidden_by']))})" if each["hidden_by"] else ""
    indexes = ["-" if index is None else index for index in (each["before"], each["after"])]
    return [each["change"], each["namespace"], *indexes, each["text"] + hidden, each["source"]]


def _connection_cells(each: dict[str, Any]) -> list[object]:
    example = each["example"]
    port = "" if example["port"] is None else f"/{example['port']}"
    return [
        each["change"],
        each["namespace"],
        each["direction"],
        each["pods"],
        f"{example['from']} -> {example['to']} {example['protocol']}{port}",
        _decided(each["before"]),
        _decided(each["after"]),
    ]


def _source_cells(each: dict[str, Any]) -> list[object]:
    return [each["namespace"], each["pods"], each["example"], *(ways_out(each[state]) for state in ("before", "after"))]


_BLOCKS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], list[object]]]] = {
    "objects": (("OBJECTS", "KIND", "NAMESPACE", "NAME"), _object_cells),
    "rules": (("RULE", "NAMESPACE", "BEFORE", "AFTER", "TEXT", "SOURCE"), _rule_cells),
    "connections": (
        ("CONNECTIONS", "NAMESPACE", "DIRECTION", "PODS", "EXAMPLE", "BEFORE", "AFTER"),
        _connection_cells,
    ),
    "sources": (("SOURCES", "PODS", "EXAMPLE", "BEFORE", "AFTER"), _source_cells),
    "rows": (("ROWS", "VERB", "OPERATIONS"), lambda each: [each["table"], each["verb"], each["operations"]]),
}


def _decided(step: dict[str, Any]) -> str:
    """What decided, in a few words."""
    ref = step["object"]
    if ref is None:
        return "nothing denies it" if step["verdict"] == "allow" else step["text"]
    where = f"{ref['namespace']}/{ref['name']}" if ref["namespace"] else ref["name"]
    return f"{ref['kind']} {where}" + (f" rule {step['rule']}" if step["rule"] is not None else "")


def _document(found: ClusterDiff) -> dict[str, Any]:
    return {
        "objects": [
            {"kind": each.ref.kind, "namespace": each.ref.namespace, "name": each.ref.name, "outcome": each.outcome}
            for each in found.objects
        ],
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
        "sources": [
            {
                "namespace": each.namespace,
                "family": each.family,
                "pods": each.pods,
                "example": str(each.pod),
                "before": egress_document(each.before),
                "after": egress_document(each.after),
            }
            for each in found.sources
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
