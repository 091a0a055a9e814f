"""Changing objects on a server: ``create``, ``apply``, ``replace``, ``plan``, ``delete``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from ovnk_cli.commands.objects import selection_options, taken_selection
from ovnk_cli.complete import resources
from ovnk_cli.form import form_option
from ovnk_cli.options import F
from ovnk_cli.place import ask, has_named_namespace, namespace_option, required_server, server_options, timeout_option

if TYPE_CHECKING:
    from ovnk_cli.online.changes import Order

STAGES = ("accepted", "programmed", "realized", "enforced")


def order_options(*, has_dry_run: bool = True, has_wait: bool = True) -> Callable[[F], F]:
    """How a change is made, told and waited for."""

    def decorate(function: F) -> F:
        dry_run = click.option(
            "--dry-run",
            type=click.Choice(["none", "server"]),
            default="none",
            show_default=True,
            help="server: change nothing, tell what would change.",
        )
        wait = (
            click.option("--wait", "is_waiting", is_flag=True, help="Until the change has reached --stage."),
            click.option(
                "--stage",
                type=click.Choice(STAGES),
                default="programmed",
                show_default=True,
                help="programmed: in the northbound; realized: translated by northd; enforced: on every chassis.",
            ),
        )
        bound = timeout_option(says="Bounds each call, and the wait.") if has_wait else timeout_option()
        for option in reversed(
            (*([dry_run] if has_dry_run else []), *(wait if has_wait else ()), bound, server_options)
        ):
            function = option(function)
        return function

    return decorate


def taken_order(given: dict[str, Any], output: str) -> Order:
    """Take the options of ``order_options`` out of ``given``."""
    from ovnk_cli.online.changes import Order

    stage, is_waiting = given.pop("stage", None), given.pop("is_waiting", False)
    return Order(
        output=output,
        is_dry=given.pop("dry_run", "none") == "server",
        stage=stage if is_waiting else None,
        timeout_s=given.pop("timeout"),
    )


def file_options(function: F) -> F:
    """``-f`` of the commands that send files to a server."""
    paths = click.option(
        "-f",
        "--filename",
        "paths",
        multiple=True,
        required=True,
        metavar="PATH",
        help="File, folder or - for stdin; may be given several times.",
    )
    return paths(namespace_option(function))


def _applied(mode: Literal["apply", "create", "replace"], given: dict[str, Any]) -> int:
    from ovnk_cli.online.changes import apply_stated
    from ovnk_cli.online.files import read_files

    server = required_server(given)
    order = taken_order(given, given["output"])
    stated = read_files(given["paths"], given["namespace"], is_preset=not has_named_namespace())
    return ask(server, lambda client: apply_stated(client, stated, mode, order))


@click.command()
@file_options
@order_options()
@form_option()
def apply(**given: Any) -> None:
    """Make a server's objects what the files state, all of them or none.

    A file states its whole object: a field that it leaves out is not there afterwards, except identity and status.
    """
    raise click.exceptions.Exit(_applied("apply", given))


@click.command()
@file_options
@order_options()
@form_option()
def create(**given: Any) -> None:
    """Create the objects of files, all of them or none; those that exist already are an error."""
    raise click.exceptions.Exit(_applied("create", given))


@click.command()
@file_options
@order_options()
@form_option()
def replace(**given: Any) -> None:
    """Replace objects by those of files, all of them or none; those that do not exist are an error.

    A file that came from get holds the version it was read at, and is refused when the object changed since.
    """
    raise click.exceptions.Exit(_applied("replace", given))


@click.command()
@file_options
@order_options(has_dry_run=False, has_wait=False)
@form_option()
def plan(**given: Any) -> None:
    """Tell what apply would change: objects, and operations on northbound rows (-o json lists them)."""
    raise click.exceptions.Exit(_applied("apply", given | {"dry_run": "server"}))


@click.command()
@click.argument("words", nargs=-1, metavar="[TYPE NAME... | TYPE/NAME...]", shell_complete=resources)
@click.option("-f", "--filename", "paths", multiple=True, metavar="PATH", help="Delete the objects that files name.")
@selection_options
@click.option("--all", "is_every", is_flag=True, help="All objects of the kind.")
@click.option("--ignore-not-found", is_flag=True, help="Exit with 0 when an object is not there.")
@order_options()
@click.option("-o", "--output", type=click.Choice(["table", "name"]), default="table", show_default=True)
def delete(words: tuple[str, ...], paths: tuple[str, ...], output: str, **given: Any) -> None:
    """Delete objects, all of them or none; a namespace takes everything in it along."""
    if bool(words) == bool(paths):
        raise click.UsageError("name what to delete: TYPE NAME..., or -f PATH")
    server = required_server(given)
    from ovnk_cli.online.changes import Doomed
    from ovnk_cli.online.changes import delete as delete_objects
    from ovnk_cli.online.files import read_files
    from ovnk_cli.online.names import wanted

    order, selection = taken_order(given, output), taken_selection(given)
    doomed = Doomed(
        wanted=tuple(wanted(words)) if words else (),
        stated=tuple(read_files(paths, selection.namespace, is_preset=not has_named_namespace())) if paths else (),
        is_every=given["is_every"],
        ignores_missing=given["ignore_not_found"],
    )
    raise click.exceptions.Exit(ask(server, lambda client: delete_objects(client, doomed, selection, order)))
