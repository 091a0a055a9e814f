"""Changing parts of one object: ``label``, ``annotate``, ``patch``, ``edit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ovnk_cli.commands.change import order_options, taken_order
from ovnk_cli.commands.objects import resource_argument, selection_options, taken_selection
from ovnk_cli.complete import resources
from ovnk_cli.options import F
from ovnk_cli.output import say
from ovnk_cli.place import Server, ask, namespace_option, required_server

if TYPE_CHECKING:
    from ovnk_client import Client
    from ovnk_wire import Kind


def mark_options(function: F) -> F:
    """What ``label`` and ``annotate`` take."""
    for option in reversed(
        (
            click.argument(
                "words", nargs=-1, required=True, metavar="TYPE NAME... KEY=VALUE... KEY-...", shell_complete=resources
            ),
            selection_options,
            click.option("--all", "is_every", is_flag=True, help="All objects of the kind."),
            click.option("--overwrite", is_flag=True, help="Replace a value that is there already."),
            order_options(),
        )
    ):
        function = option(function)
    return function


def _marked(field: str, words: tuple[str, ...], given: dict[str, Any]) -> int:
    server = required_server(given)
    from ovnk_cli.online.changes import arrival, warn
    from ovnk_cli.online.marks import modify, parse_marks
    from ovnk_cli.online.names import shown, wanted
    from ovnk_cli.online.read import fetch

    names, marks = parse_marks(words, field, overwrites=given["overwrite"])
    meant, selection, order = wanted(names), taken_selection(given), taken_order(given, "table")
    if not given["is_every"] and not selection.labels and not selection.fields and not all(e.names for e in meant):
        raise click.UsageError("name the objects, select them with -l, or give --all")

    async def mark(client: Client) -> int:
        found: list[tuple[Kind, str, str | None]] = []
        for each in meant:
            if each.names:
                found += [(each.kind, name, selection.namespace) for name in each.names]
                continue
            for fetched in await fetch(client, [each], selection):
                found += [(each.kind, m["metadata"]["name"], m["metadata"].get("namespace")) for m in fetched.manifests]
        if not found:
            say("nothing found")
        revision = 0
        for kind, name, namespace in found:
            answer = await modify(client, kind, name, namespace, change=marks.change, is_dry=order.is_dry)
            warn(answer.results)
            click.echo(f"{shown(kind, name)} {marks.told(answer.results[0].outcome)}{_dry(order.is_dry)}")
            revision = answer.revision
        return await arrival(client, revision, order)

    return ask(server, mark)


def _dry(is_dry: bool) -> str:
    return " (server dry run)" if is_dry else ""


@click.command()
@mark_options
def label(words: tuple[str, ...], **given: Any) -> None:
    """Set labels (KEY=VALUE) and remove them (KEY-)."""
    raise click.exceptions.Exit(_marked("labels", words, given))


@click.command()
@mark_options
def annotate(words: tuple[str, ...], **given: Any) -> None:
    """Set annotations (KEY=VALUE) and remove them (KEY-)."""
    raise click.exceptions.Exit(_marked("annotations", words, given))


@click.command()
@resource_argument
@namespace_option
@click.option("-p", "--patch", "text", required=True, metavar="JSON", help="What to change; null removes a field.")
@click.option("--type", "kind_of_patch", type=click.Choice(["merge"]), default="merge", show_default=True)
@order_options()
def patch(words: tuple[str, ...], text: str, kind_of_patch: str, **given: Any) -> None:
    """Change fields of an object by a JSON merge patch."""
    server = required_server(given)
    from ovnk_cli.online.changes import arrival, warn
    from ovnk_cli.online.marks import modify, parse_patch, patch_told, patched

    kind, name = _one(words)
    change, order = patched(parse_patch(text)), taken_order(given, "table")

    async def send(client: Client) -> int:
        answer = await modify(client, kind, name, given["namespace"], change=change, is_dry=order.is_dry)
        warn(answer.results)
        click.echo(f"{patch_told(kind, name, answer.results[0].outcome)}{_dry(order.is_dry)}")
        return await arrival(client, answer.revision, order)

    raise click.exceptions.Exit(ask(server, send))


def _one(words: tuple[str, ...]) -> tuple[Kind, str]:
    from ovnk_cli.online.names import wanted

    (meant, *more) = wanted(words)
    if more or len(meant.names) != 1:
        raise click.UsageError("name one object: TYPE NAME or TYPE/NAME")
    return meant.kind, meant.names[0]


@click.command()
@resource_argument
@namespace_option
@order_options(has_dry_run=False)
def edit(words: tuple[str, ...], **given: Any) -> None:
    """Change an object in an editor (VISUAL, EDITOR, else vi)."""
    server: Server = required_server(given)
    order = taken_order(given, "table")
    from ovnk_cli.online.editing import edit as edit_object

    kind, name = _one(words)
    raise click.exceptions.Exit(edit_object(server, kind, name, given["namespace"], order=order))
