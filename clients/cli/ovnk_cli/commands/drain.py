"""``drain``, ``uncordon`` and ``report``: what an operator says of nodes that hold egress IPs."""

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
@click.option("--dry-run", is_flag=True, help="Tell where each address would go, and change nothing.")
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
        tell(answer)
        click.echo(f"node/{node} drained{' (server dry run)' if dry_run else ''}")
        return int((wait or dry_run) and any(each.message for each in answer.moves))

    raise click.exceptions.Exit(ask(server, question))


@click.command()
@_node_argument
@timeout_option()
@server_options
def uncordon(node: str, **given: Any) -> None:
    """Let a node hold egress IPs again. What moved away stays there (egressip --rebalance)."""
    server = required_server(given)

    async def question(client: Client) -> bool:
        return (await client.undrain(node)).was_drained

    click.echo(f"node/{node} {'uncordoned' if ask(server, question) else 'was not drained'}")


def _heard(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, bool]:
    """``NODE=up`` and ``NODE=down``, each node once."""
    heard: dict[str, bool] = {}
    for word in value:
        name, _, state = word.removeprefix("node/").partition("=")
        if not name or name in heard or state not in ("up", "down"):
            raise click.BadParameter(f"{word}: say NODE=up or NODE=down, each node once", ctx, param)
        heard[name] = state == "up"
    return heard


@click.command()
@click.argument("heard", nargs=-1, required=True, metavar="NODE=up|down...", callback=_heard)
@timeout_option()
@server_options
def report(heard: dict[str, bool], **given: Any) -> None:
    """Say of nodes that they answer (up) or do not (down): one that does not holds no egress IP.

    A server that asks nodes itself finds out for itself with its next round.
    """
    server = required_server(given)

    async def question(client: Client) -> None:
        await client.report_reachability(heard)

    ask(server, question)
    for name, is_up in heard.items():
        click.echo(f"node/{name} reported {'up' if is_up else 'down'}")
