"""``ovnk egressip``: which node holds which egress IP, of files or on a server, and why some are on none."""

from __future__ import annotations

from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import HIDDEN, emit, say, say_redaction, table
from ovnk_cli.place import ask, server_options, taken_server
from ovnk_core.analysis.egress_nodes import egress_nodes
from ovnk_core.cluster import Cluster
from ovnk_core.model.egress_ip_manifest import assignments, unassigned
from ovnk_core.model.tables import EGRESS_IP, EGRESS_IP_DECISION


@click.command()
@server_options
@input_options(is_required=False)
@northbound_options(is_required=False)
@click.option("--rebalance", is_flag=True, help="Spread the addresses evenly over the nodes first, with few moves.")
@click.option("--dry-run", is_flag=True, help="With --rebalance on a server: tell what would move, and move nothing.")
@output_option("table", "wide", "json", "yaml", "name")
def egressip(rebalance: bool, dry_run: bool, output: str, **given: Any) -> None:
    """Which node holds which egress IP, and why an address is on none.

    Of a server, --rebalance is a change: it waits until addresses are where they go, and tells on stderr what moved.
    Of files, what is on record stays where it is; an address that has to move is shown where it will be once the
    northbound no longer holds it on its old node.
    """
    server = taken_server(given)
    if dry_run and (server is None or not rebalance):
        raise click.UsageError("--dry-run belongs to --rebalance on a server; files are never changed")
    if server is not None:
        from ovnk_cli.online.egress_ips import balanced, placed

        _print(ask(server, balanced(dry_run) if rebalance else placed), output)
        return
    found = offline(Input(**given))
    if rebalance:
        found.cluster.rebalance()
        found.cluster.withdrawn(found.cluster.leaving)
    _print(_document(found.cluster), output)
    raise click.exceptions.Exit(found.exit_code)


def _print(document: dict[str, Any], output: str) -> None:
    say_redaction(document)
    if output in ("json", "yaml"):
        emit(document, output)
    elif output == "name":
        for each in document["egressips"]:
            click.echo(f"egressip.k8s.ovn.org/{each['name']}")
    else:
        _show(document, is_wide=output == "wide")


def _document(cluster: Cluster) -> dict[str, Any]:
    decided = cluster.engine.rows(EGRESS_IP_DECISION)
    return {
        "egressips": [
            {
                "name": key.name,
                "assignments": assignments(decided[key].assignments),
                "unassigned": unassigned(decided[key].unassigned),
            }
            for key in sorted(cluster.engine.rows(EGRESS_IP))
        ],
        "nodes": [
            {"name": each.name, "assignable": each.reason is None, "reason": each.reason, "load": each.load}
            for each in egress_nodes(cluster)
        ],
    }


def _show(document: dict[str, Any], *, is_wide: bool) -> None:
    """A line for each address; wide: with the reason in full, and then the nodes."""
    rows: list[list[object]] = []
    for each in document["egressips"]:
        rows += [[each["name"], one["egressIP"], one["node"] or HIDDEN, "-", "-"] for one in each["assignments"]]
        rows += [[each["name"], one["egressIP"], "-", one["reason"], one["message"]] for one in each["unassigned"]]
    if not rows and not (is_wide and document["nodes"]):
        say("nothing found")
        return
    columns = 5 if is_wide else 4
    table(["NAME", "EGRESSIP", "NODE", "REASON", "MESSAGE"][:columns], (row[:columns] for row in rows))
    if is_wide:
        click.echo()
        nodes = document["nodes"]
        table(
            ["NODE", "ASSIGNABLE", "REASON", "LOAD"],
            (
                [each["name"], "yes" if each["assignable"] else "no", each["reason"] or "-", each["load"]]
                for each in nodes
            ),
        )
