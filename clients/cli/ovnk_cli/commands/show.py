"""What the objects lead to: ``rows``, ``flows``, ``graph``, ``validate``."""

from __future__ import annotations

from typing import Any

import click

from ovnk_cli.inputs import Input, offline, remarks, report
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_cli.place import ask, server_options, taken_server
from ovnk_core.analysis.firewall.rows import RuleAt, rules_of_rows
from ovnk_core.errors import ObjectError
from ovnk_core.flows.flow import STAGES
from ovnk_core.flows.listing import ListedFlow, list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.reconcile.listing import list_rows

SHOWN_RULES = 8


def owner_document(row_id: RowId) -> dict[str, str]:
    owner = row_id.owner
    return {"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "role": row_id.role}


def error_document(error: ObjectError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "name": error.name,
        "path": error.path,
        "value": error.value,
        "reason": error.reason,
        "fix": error.fix,
        "source": error.source,
    }


Rules = dict[RowId, tuple[RuleAt, ...]]


def rules_document(rules: Rules, row_id: RowId) -> dict[str, Any]:
    """``rules`` of a row that stands for rules of an egress firewall; nothing for any other."""
    found = [{"rule": each.rule, "source": each.source} for each in rules.get(row_id, ())]
    return {"rules": found} if found else {}


@click.command()
@server_options
@input_options(is_required=False)
@northbound_options(is_required=False)
@output_option("table", "wide", "json", "yaml", "name")
def rows(output: str, **given: Any) -> None:
    """List the northbound rows that the objects lead to."""
    server = taken_server(given)
    if server is not None:
        from ovnk_cli.online.asking import rows as ask_rows

        _print_rows(ask(server, ask_rows), output)
        return
    found = offline(Input(**given))
    listed = list_rows(found.cluster.engine, parse_schema(SCHEMA))
    rules = rules_of_rows(found.cluster) if output in ("wide", "json", "yaml") else {}
    documents = [
        {"table": row.table, "uuid": row.uuid, "owner": owner_document(row.owner), "columns": row.columns}
        | rules_document(rules, row.owner)
        for row in listed
    ]
    _print_rows(documents, output)
    raise click.exceptions.Exit(found.exit_code)


def _print_rows(documents: list[dict[str, Any]], output: str) -> None:
    if output in ("json", "yaml"):
        emit({"rows": documents}, output)
    elif output == "name":
        for row in documents:
            click.echo(f"{row['table']}/{row['uuid']}")
    else:
        head, cells = ["TABLE", "OWNER", "ROLE", "NAME OR MATCH"], [_row_cells(row) for row in documents]
        if output == "wide":
            head += ["UUID", "RULES"]
            cells = [[*line, row["uuid"], _numbers(row)] for line, row in zip(cells, documents, strict=True)]
        table(head, cells)


def _numbers(document: dict[str, Any]) -> str:
    """Indexes of a row's rules, the first few."""
    numbers = [str(each["rule"]) for each in document.get("rules", ())]
    return ",".join(numbers[:SHOWN_RULES]) + (f",+{len(numbers) - SHOWN_RULES}" if len(numbers) > SHOWN_RULES else "")


def _owner(document: dict[str, str]) -> str:
    place = f"{document['namespace']}/" if document["namespace"] else ""
    return f"{document['kind']} {place}{document['name']}"


def _row_cells(row: dict[str, Any]) -> list[str]:
    columns = row["columns"]
    telling = columns.get("match") or columns.get("name") or columns.get("ip_prefix") or columns.get("logical_ip") or ""
    return [row["table"], _owner(row["owner"]), row["owner"]["role"], str(telling)[:100]]


@click.command()
@server_options
@input_options(is_required=False)
@output_option("table", "wide", "json", "yaml")
@click.option("--datapath", metavar="NAME", help="Only flows of one switch or router.")
@click.option("--stage", metavar="NAME", help="Only flows of one stage, such as ls_out_acl.")
def flows(output: str, datapath: str | None, stage: str | None, **given: Any) -> None:
    """List the logical flows that the objects lead to."""
    if stage is not None and stage not in STAGES:
        raise click.UsageError(f"--stage {stage}: no such stage; known: {', '.join(STAGES)}")
    server = taken_server(given)
    if server is not None:
        from ovnk_cli.online.asking import flows as ask_flows

        _print_flows(ask(server, lambda client: ask_flows(client, datapath, stage)), output)
        return
    found = offline(Input(**given))
    engine = found.cluster.engine
    places = {row.name for row in engine.rows(SWITCHES).values()} | {row.name for row in engine.rows(ROUTERS).values()}
    if datapath is not None and datapath not in places:
        raise click.UsageError(f"--datapath {datapath}: no switch or router is called so")
    rules = rules_of_rows(found.cluster) if output != "table" else {}
    documents = [
        _flow_document(flow, rules)
        for flow in list_flows(engine, FlowTable(engine))
        if (datapath is None or datapath in flow.datapaths) and (stage is None or stage == flow.stage)
    ]
    _print_flows(documents, output)
    raise click.exceptions.Exit(found.exit_code)


def _flow_document(flow: ListedFlow, rules: Rules) -> dict[str, Any]:
    row = {"table": flow.owner.table, "uuid": flow.owner.uuid, "owner": owner_document(flow.owner)}
    return {
        "datapaths": list(flow.datapaths),
        "pipeline": flow.pipeline,
        "stage": flow.stage,
        "priority": flow.priority,
        "match": flow.match,
        "actions": flow.actions,
        "source_row": row,
    } | rules_document(rules, flow.owner)


def _print_flows(documents: list[dict[str, Any]], output: str) -> None:
    if output in ("json", "yaml"):
        emit({"flows": documents}, output)
        return
    head = ["STAGE", "PRIORITY", "DATAPATHS", "MATCH", "ACTIONS", "OWNER"]
    fields = ("stage", "priority", "datapaths", "match", "actions")
    cells = [
        [*(_some(f[name]) if name == "datapaths" else f[name] for name in fields), _owner(f["source_row"]["owner"])]
        for f in documents
    ]
    if output == "wide":
        head.append("RULES")
        cells = [[*line, _numbers(flow)] for line, flow in zip(cells, documents, strict=True)]
    table(head, cells)


def _some(names: list[str]) -> str:
    return ",".join(names[:3]) + (f",+{len(names) - 3}" if len(names) > 3 else "")


@click.command()
@input_options()
@output_option("text", "dot", "json", default="text")
def graph(output: str, **given: Any) -> None:
    """Show the rule graph: what is computed from what, and how much work these objects were."""
    found = offline(Input(**given))
    engine = found.cluster.engine
    if output == "json":
        nodes = [{"name": name, **stat} for name, stat in engine.stats().items()]
        emit({"nodes": nodes, "graph": engine.describe("text").splitlines()}, output)
    else:
        click.echo(engine.describe(output), nl=False)
    raise click.exceptions.Exit(found.exit_code)


@click.command()
@input_options()
@output_option("table", "json", "yaml")
def validate(output: str, **given: Any) -> None:
    """Check objects and say what is wrong, missing or assumed."""
    found = offline(Input(**given), quiet=True)
    loaded, cluster = found.loaded, found.cluster
    if output == "table":
        report(loaded, cluster, found.record)
        refused = len(cluster.problems)
        click.echo(f"{cluster.count()} objects accepted, {refused} refused, {len(found.errors)} errors")
    else:
        emit(
            {
                "objects": cluster.count(),
                "refused": [
                    {
                        "kind": ref.kind,
                        "namespace": ref.namespace,
                        "name": ref.name,
                        "source": errors[0].source if errors else "",
                        "errors": [error_document(error) for error in errors],
                    }
                    for ref, errors in sorted(cluster.problems.items())
                ],
                "errors": [error_document(error) for error in found.errors],
                "warnings": list(remarks(loaded, cluster, found.record)),
                "unknown": [{"kind": kind, "count": count} for kind, count in loaded.unknown],
                "seconds": round(loaded.seconds, 3),
                "bytes": loaded.bytes,
            },
            output,
        )
    raise click.exceptions.Exit(found.exit_code)
