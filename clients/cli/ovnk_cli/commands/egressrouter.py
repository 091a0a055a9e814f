"""``ovnk egressrouter``: what egress router pods do, of files or on a server, and what their platform must allow."""

from __future__ import annotations

from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_cli.place import ask, server_options, taken_server
from ovnk_core.analysis.router_lint import router_warnings
from ovnk_core.features.egress_router.plan import RouterPlan, cluster_routes, nft_ruleset, routing_table
from ovnk_core.features.egress_router.platform import requirements
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.model.attachment_manifest import destination_text
from ovnk_core.topology.platform import platform_in_force

Document = dict[str, Any]


@click.command()
@click.argument("pods", nargs=-1, metavar="[NAMESPACE/POD]...")
@server_options
@input_options(is_required=False)
@northbound_options(is_required=False)
@output_option("table", "json", "yaml", "nft", "routes")
def egressrouter(pods: tuple[str, ...], output: str, **given: Any) -> None:
    """Show what egress router pods do: all, or those that are named.

    routes is the pod's routing table, nft the ruleset that redirects connections to its destinations; of several pods
    each begins with a line that names it. A server tells the warnings to those who may list everything they can be
    about.
    """
    server = taken_server(given)
    if server is not None:
        from ovnk_cli.online.routers import routers

        _print(ask(server, routers), pods, output)
        return
    found = offline(Input(**given))
    warnings, platform = router_warnings(found.cluster), platform_in_force(found.cluster.engine)
    plans = found.cluster.engine.rows(ROUTER_PLAN)
    _print([_document(plan, platform, warnings[key]) for key, plan in sorted(plans.items())], pods, output)
    raise click.exceptions.Exit(found.exit_code)


def _print(documents: list[Document], pods: tuple[str, ...], output: str) -> None:
    known = {each["pod"]: each for each in documents}
    unknown = [pod for pod in pods if pod not in known]
    if unknown:
        raise click.UsageError(f"{unknown[0]} is no egress router pod")
    chosen = [known[pod] for pod in dict.fromkeys(pods or known)]
    if output in ("json", "yaml"):
        emit({"routers": chosen}, output)
    elif output in ("nft", "routes"):
        for each in chosen:
            if len(chosen) > 1:
                click.echo(f"# {each['pod']}")
            click.echo(each["nft"] if output == "nft" else "\n".join(each["routes"]) + "\n", nl=False)
    else:
        table(["POD", "NODE", "INTERFACE", "ADDRESS", "GATEWAY", "DESTINATIONS", "WARNINGS"], map(_row, chosen))


def _document(plan: RouterPlan, platform: str, warnings: tuple[str, ...]) -> Document:
    router = plan.router
    return {
        "pod": str(plan.pod),
        "node": plan.node,
        "network": str(plan.network),
        "interface": plan.interface,
        "interfaceType": router.interface,
        "parent": router.parent or None,
        "mode": router.mode or None,
        "mtu": router.mtu_bytes or None,
        "address": str(router.address),
        "gateway": str(router.gateway),
        "podAddress": str(plan.inner),
        "destinations": [destination_text(each) for each in router.redirects],
        "redirects": [
            {
                "protocol": None if each.protocol is None else each.protocol.lower(),
                "port": each.port or None,
                "destination": str(each.address),
                "destinationPort": each.target_port or each.port or None,
            }
            for each in router.redirects
        ],
        "routes": list(routing_table(plan)),
        "clusterRoutes": list(cluster_routes(plan)),
        "nft": nft_ruleset(plan),
        "requirements": list(requirements(platform, plan)),
        "warnings": list(warnings),
    }


def _row(each: Document) -> list[object]:
    shown = ", ".join(each["destinations"]) or "-"
    return [
        each["pod"],
        each["node"] or "-",
        each["interface"],
        each["address"],
        each["gateway"],
        shown,
        "; ".join(each["warnings"]) or "-",
    ]
