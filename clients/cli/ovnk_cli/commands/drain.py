"""``drain`` and ``uncordon``: no egress IPs on a node that is to be rebooted, and again some after that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ovnk_cli.complete import nodes
from ovnk_cli.options import F
from ovnk_cli.place import ask, required_server, server_options, timeout_option

if TYPE_CHECKING:
    from ovnk_client import Client


def _node(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str:
    """``NAME``, ``node/NAME`` or ``node NAME``."""
    words = value[0].split("/") if len(value) == 1 else list(value)
    if len(words) == 2 and words[0] in ("node", "nodes", "no"):
        words = words[1:]
    if len(words) != 1 or not words[0]:
        raise click.BadParameter(f"{' '.join(value)}: name one node", ctx, param)
    return words[0]


def _node_argument(function: F) -> F:
    return click.argument("node", nargs=-1, required=True, metavar="NODE", callback=_node, shell_complete=nodes)(
        function
    )


@click.command()
@_node_argument
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until its addresses are where they go.")
@click.option("--dry-run", is_flag=True, help="Tell what would leave the node, and change nothing.")
@timeout_option("5m", says="Bounds the wait.")
@server_options
def drain(node: str, wait: bool, dry_run: bool, **given: Any) -> None:
    """Take the egress IPs off a node, and give it none until it is uncordoned.

    Exit status 1 when an address has nowhere to go. Pods stay where they are: this is about egress IPs alone.
    """
    server = required_server(given)
    from ovnk_cli.online.egress_ips import tell

    async def question(client: Client) -> int:
        answer = await client.drain(node, wait=wait, validate_only=dry_run)
        tell(answer.moves)
        click.echo(f"node/{node} drained{' (server dry run)' if dry_run else ''}")
        return int(wait and not dry_run and any(not each.to_node for each in answer.moves))

    raise click.exceptions.Exit(ask(server, question))


@click.command()
@_node_argument
@timeout_option()
@server_options
def uncordon(node: str, **given: Any) -> None:
    """Let a node hold egress IPs again. What moved away stays there (egressip --rebalance)."""
    server = required_server(given)

    async def question(client: Client) -> None:
        await client.undrain(node)

    ask(server, question)
    click.echo(f"node/{node} uncordoned")
