"""How far changes are, and what happened: ``status``, ``wait``, ``events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ovnk_cli.commands.change import STAGES
from ovnk_cli.complete import resources
from ovnk_cli.options import output_option
from ovnk_cli.place import ask, namespace_option, required_server, server_options, timeout_option

if TYPE_CHECKING:
    from ovnk_client import Client


@click.command()
@click.option("--revision", type=click.IntRange(0), metavar="N", help="Of this one; the last one if not given.")
@server_options
@timeout_option()
@output_option("table", "json", "yaml")
def status(revision: int | None, output: str, **given: Any) -> None:
    """How far changes have come, who writes the northbound, and whether it can be reached.

    Exit status 1 when it cannot.
    """
    server = required_server(given)
    from ovnk_cli.online.happenings import status as show_status

    raise click.exceptions.Exit(ask(server, lambda client: show_status(client, revision, output=output)))


@click.command()
@namespace_option
@click.option("--field-selector", "fields", default="", metavar="FIELDS", help="involvedObject.name=web,type=Warning.")
@click.option("--for", "about", metavar="TYPE/NAME", help="Only about this object.")
@server_options
@timeout_option()
@output_option("table", "json", "yaml")
def events(fields: str, about: str | None, output: str, **given: Any) -> None:
    """What happened lately: changes, refusals, turns, trouble with the northbound. In every namespace, unless -n names
    one."""
    server = required_server(given)
    from ovnk_cli.online.happenings import events as show_events
    from ovnk_cli.online.names import place_of, wanted

    place = given["namespace"] or ""
    if about is not None:
        (meant,) = wanted([about])
        place = place_of(meant.kind, given["namespace"])
        fields = ",".join(filter(None, (f"object.kind={meant.kind.name},object.name={meant.names[0]}", fields)))
    raise click.exceptions.Exit(ask(server, lambda client: show_events(client, fields, place, output=output)))


@click.command()
@click.argument("words", nargs=-1, metavar="[TYPE NAME... | TYPE/NAME...]", shell_complete=resources)
@namespace_option
@click.option(
    "--for",
    "target",
    metavar="WHAT",
    help="condition=TYPE[=STATUS] (Programmed, Realized, Enforced, or one of status), delete, create, or "
    "jsonpath={PATH}[=VALUE].",
)
@click.option("--stage", type=click.Choice(STAGES), help="Until the revision has reached it.")
@click.option("--revision", type=click.IntRange(0), metavar="N", help="With --stage; the last one if not given.")
@server_options
@timeout_option(says="How long to wait.")
def wait(words: tuple[str, ...], target: str | None, stage: str | None, revision: int | None, **given: Any) -> None:
    """Wait until objects are as they should be, or until a revision has reached a stage. Exit status 3: not in time."""
    server = required_server(given)
    timeout_s: float = given["timeout"]
    from ovnk_cli.online.convergence import converge, parse_target, wait_objects
    from ovnk_cli.online.names import wanted

    if (target is None) == (stage is None) or (target is None) == bool(words):
        raise click.UsageError("give TYPE NAME and --for WHAT, or --stage alone")
    if stage is not None:
        chosen = next(each for each in STAGES if each == stage)

        async def arrive(client: Client) -> int:
            last = (await client.status()).accepted_revision if revision is None else revision
            return await converge(client, last, chosen, timeout_s)  # type: ignore[arg-type]  # one of STAGES

        raise click.exceptions.Exit(ask(server, arrive))
    aim, meant = parse_target(str(target)), wanted(words)
    if not all(each.names for each in meant):
        raise click.UsageError("name the objects to wait for")

    async def follow(client: Client) -> int:
        codes = [
            await wait_objects(
                client, each.kind, each.names, namespace=given["namespace"], target=aim, timeout_s=timeout_s
            )
            for each in meant
        ]
        return max(codes)

    raise click.exceptions.Exit(ask(server, follow))
