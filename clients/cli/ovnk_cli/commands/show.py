"""What the objects lead to: ``rows``, ``flows``, ``graph``, ``validate``."""

from __future__ import annotations

from typing import Any

import click

from ovnk_cli.inputs import Input, offline, remarks, report
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_core.analysis.firewall.rows import RuleAt, rules_of_rows
from ovnk_core.errors import ObjectError
from ovnk_core.flows.flow import STAGES
from ovnk_core.flows.listing import list_flows
from ovnk_core.flows.table import FlowTable
from ovnk_core.nb.desired import ROUTERS, SWITCHES
from ovnk_core.nb.row import RowId
from ovnk_core.nb.schema import parse_schema
from ovnk_core.northbound.memory_schema import SCHEMA
from ovnk_core.reconcile.listing import ListedRow, list_rows

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
@input_options
@northbound_options(is_required=False)
@output_option("table", "wide", "json", "yaml", "name")
def rows(output: str, **given: Any) -> None:
    """List the northbound rows that the objects lead to."""
    found = offline(Input(**given))
    listed = list_rows(found.cluster.engine, parse_schema(SCHEMA))
    rules = rules_of_rows(found.cluster) if output in ("wide", "json", "yaml") else {}
    if output in ("json", "yaml"):
        documents = [
            {"table": row.table, "uuid": row.uuid, "owner": owner_document(row.owner), "columns": row.columns}
            | rules_document(rules, row.owner)
            for row in listed
        ]
        emit({"rows": documents}, output)
    elif output == "name":
        for row in listed:
            click.echo(f"{row.table}/{row.uuid}")
    else:
        head, cells = ["TABLE", "OWNER", "ROLE", "NAME OR MATCH"], [_row_cells(row) for row in listed]
        if output == "wide":
            head += ["UUID", "RULES"]
            cells = [[*line, row.uuid, _numbers(rules, row.owner)] for line, row in zip(cells, listed, strict=True)]
        table(head, cells)
    raise click.exceptions.Exit(found.exit_code)


def _numbers(rules: Rules, row_id: RowId) -> str:
    """Indexes of a row's rules, the first few."""
    numbers = [str(each.rule) for each in rules.get(row_id, ())]
    return ",".join(numbers[:SHOWN_RULES]) + (f",+{len(numbers) - SHOWN_RULES}" if len(numbers) > SHOWN_RULES else "")


def _row_cells(row: ListedRow) -> list[str]:
    columns = row.columns
    telling = columns.get("match") or columns.get("name") or columns.get("ip_prefix") or columns.get("logical_ip") or ""
    return [row.table, str(row.owner.owner), row.owner.role, str(telling)[:100]]


@click.command()
@input_options
@output_option("table", "wide", "json", "yaml")
@click.option("--datapath", metavar="NAME", help="Only flows of one switch or router.")
@click.option("--stage", metavar="NAME", help="Only flows of one stage, such as ls_out_acl.")
def flows(output: str, datapath: str | None, stage: str | None, **given: Any) -> None:
    """List the logical flows that the objects lead to."""
    if stage is not None and stage not in STAGES:
        raise click.UsageError(f"--stage {stage}: no such stage; known: {', '.join(STAGES)}")
    found = offline(Input(**given))
    engine = found.cluster.engine
    places = {row.name for row in engine.rows(SWITCHES).values()} | {row.name for row in engine.rows(ROUTERS).values()}
    if datapath is not None and datapath not in places:
        raise click.UsageError(f"--datapath {datapath}: no switch or router is called so")
    listed = [
        flow
        for flow in list_flows(engine, FlowTable(engine))
        if (datapath is None or datapath in flow.datapaths) and (stage is None or stage == flow.stage)
    ]
    rules = rules_of_rows(found.cluster) if output != "table" else {}
    if output in ("table", "wide"):
        head = ["STAGE", "PRIORITY", "DATAPATHS", "MATCH", "ACTIONS", "OWNER"]
        cells = [[f.stage, f.priority, _some(f.datapaths), f.match, f.actions, f.owner.owner] for f in listed]
        if output == "wide":
            head.append("RULES")
            cells = [[*line, _numbers(rules, flow.owner)] for line, flow in zip(cells, listed, strict=True)]
        table(head, cells)
    else:
        documents = [
            {
                "datapaths": list(flow.datapaths),
                "pipeline": flow.pipeline,
                "stage": flow.stage,
                "priority": flow.priority,
                "match": flow.match,
                "actions": flow.actions,
                "source_row": {
                    "table": flow.owner.table,
                    "uuid": flow.owner.uuid,
                    "owner": owner_document(flow.owner),
                },
            }
            | rules_document(rules, flow.owner)
            for flow in listed
        ]
        emit({"flows": documents}, output)
    raise click.exceptions.Exit(found.exit_code)


def _some(names: tuple[str, ...]) -> str:
    return ",".join(names[:3]) + (f",+{len(names) - 3}" if len(names) > 3 else "")


@click.command()
@input_options
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
@input_options
@output_option("table", "json", "yaml")
def validate(output: str, **given: Any) -> None:
    """Check objects and say what is wrong, missing or assumed."""
    found = offline(Input(**given), quiet=True)
    loaded, cluster = found.loaded, found.cluster
    if output == "table":
        report(loaded, cluster)
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
                "warnings": list(remarks(loaded, cluster)),
                "unknown": [{"kind": kind, "count": count} for kind, count in loaded.unknown],
                "seconds": round(loaded.seconds, 3),
                "bytes": loaded.bytes,
            },
            output,
        )
    raise click.exceptions.Exit(found.exit_code)
