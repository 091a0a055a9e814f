"""``ovnk egressrouter``: what the egress router pods of files do, and what their platform must allow."""

from __future__ import annotations

from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_core.analysis.router_lint import platform_of, router_warnings
from ovnk_core.features.egress_router.plan import RouterPlan, cluster_routes, nft_ruleset, routing_table
from ovnk_core.features.egress_router.platform import requirements
from ovnk_core.features.egress_router.rules import ROUTER_PLAN
from ovnk_core.model.attachment_manifest import destination_text


@click.command()
@click.argument("pods", nargs=-1, metavar="[NAMESPACE/POD]...")
@input_options()
@northbound_options(is_required=False)
@output_option("table", "json", "yaml", "nft", "routes")
def egressrouter(pods: tuple[str, ...], output: str, **given: Any) -> None:
    """Show what egress router pods do: all, or those that are named.

    routes is the pod's routing table, nft the ruleset that redirects connections to its destinations; of several pods
    each begins with a line that names it.
    """
    found = offline(Input(**given))
    plans = {str(key): plan for key, plan in sorted(found.cluster.engine.rows(ROUTER_PLAN).items())}
    unknown = [pod for pod in pods if pod not in plans]
    if unknown:
        raise click.UsageError(f"{unknown[0]} is no egress router pod")
    chosen = [plans[pod] for pod in dict.fromkeys(pods or plans)]
    if output in ("nft", "routes"):
        for plan in chosen:
            if len(chosen) > 1:
                click.echo(f"# {plan.pod}")
            text = nft_ruleset(plan) if output == "nft" else "\n".join(routing_table(plan)) + "\n"
            click.echo(text, nl=False)
        raise click.exceptions.Exit(found.exit_code)
    warnings, platform = router_warnings(found.cluster), platform_of(found.cluster)
    documents = [_document(plan, platform, warnings[plan.pod]) for plan in chosen]
    if output in ("json", "yaml"):
        emit({"routers": documents}, output)
    else:
        table(["POD", "NODE", "INTERFACE", "ADDRESS", "GATEWAY", "DESTINATIONS", "WARNINGS"], map(_row, documents))
    raise click.exceptions.Exit(found.exit_code)


def _document(plan: RouterPlan, platform: str, warnings: tuple[str, ...]) -> dict[str, Any]:
    router = plan.router
    return {
        "pod": str(plan.pod),
        "node": plan.node,
        "network": str(plan.network),
        "interface": plan.interface,
        "interfaceType": router.interface,
        "parent": router.parent or None,
        "mode": router.mode or None,
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


def _row(each: dict[str, Any]) -> list[object]:
    shown = ", ".join(each["destinations"]) or "-"
    return [
        each["pod"],
        each["node"],
        each["interface"],
        each["address"],
        each["gateway"],
        shown,
        "; ".join(each["warnings"]) or "-",
    ]
