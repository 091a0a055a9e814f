"""Looking at declared objects: ``get``, ``describe`` and ``watch``. Files are asked about egress firewalls only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ovnk_cli.complete import resources
from ovnk_cli.form import form_option
from ovnk_cli.options import F, dns_option, input_options, northbound_options
from ovnk_cli.place import (
    Server,
    ask,
    namespace_option,
    refuse,
    required_server,
    server_options,
    taken_server,
    timeout_option,
)

if TYPE_CHECKING:
    from ovnk_cli.online.read import Selection

_OF_SERVERS = (
    "labels",
    "fields",
    "sort_by",
    "show_labels",
    "no_headers",
    "ignore_not_found",
    "watch_",
    "watch_only",
)


def _everywhere(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value and ctx.get_parameter_source("namespace") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("-A means every namespace, so leave out -n")
    return value


def resource_argument(function: F) -> F:
    """``TYPE [NAME...]`` or ``TYPE/NAME...``."""
    return click.argument(
        "words", nargs=-1, required=True, metavar="TYPE [NAME...] | TYPE/NAME...", shell_complete=resources
    )(function)


def selection_options(function: F) -> F:
    """Which objects: ``-n``, ``-A``, ``-l``."""
    for option in reversed(
        (
            namespace_option,
            click.option(
                "-A", "--all-namespaces", "everywhere", is_flag=True, callback=_everywhere, help="Every namespace."
            ),
            click.option(
                "-l", "--selector", "labels", default="", metavar="LABELS", help="Only such labels: a=b,c!=d."
            ),
            click.option(
                "--field-selector", "fields", default="", metavar="FIELDS", help="Only such fields: spec.nodeName=n1."
            ),
        )
    ):
        function = option(function)
    return function


def taken_selection(given: dict[str, Any]) -> Selection:
    """Take the options of ``selection_options`` out of ``given``."""
    from ovnk_cli.online.read import Selection

    return Selection(
        namespace=given.pop("namespace"),
        is_everywhere=given.pop("everywhere"),
        labels=given.pop("labels"),
        fields=given.pop("fields"),
    )


@click.command()
@resource_argument
@selection_options
@click.option("--sort-by", metavar="PATH", help="Sort by a field: {.spec.nodeName}.")
@click.option("-w", "--watch", "watch_", is_flag=True, help="Then show what changes, until interrupted.")
@click.option("--watch-only", is_flag=True, help="Show only what changes.")
@click.option("--show-labels", is_flag=True, help="A column with all labels.")
@click.option("--no-headers", is_flag=True, help="No line of titles.")
@click.option("--ignore-not-found", is_flag=True, help="Exit with 0 when an object is not there.")
@form_option()
@server_options
@input_options(is_required=False)
@dns_option
@northbound_options(is_required=False)
def get(words: tuple[str, ...], output: str, **given: Any) -> None:
    """Show objects as they stand.

    From a server: any kind, by name or selected, in the namespace of -n. From files (-f): egress firewalls with their
    status, of every namespace unless -n names one.
    """
    look = {name: given.pop(name) for name in _OF_SERVERS if name not in ("labels", "fields")}
    server = taken_server(given)
    if server is None:
        refuse(_OF_SERVERS, "needs --server")
        raise click.exceptions.Exit(_get_files(words, output, given))
    raise click.exceptions.Exit(_get_server(server, words, output, given | look))


def _get_files(words: tuple[str, ...], output: str, given: dict[str, Any]) -> int:
    from ovnk_cli.firewalls import named, show_firewalls
    from ovnk_cli.inputs import Input

    name, namespace = named(words), None if given.pop("everywhere") else given["namespace"]
    for option in ("labels", "fields", "namespace"):
        del given[option]
    return show_firewalls(Input(**given), name, namespace, output)


def _get_server(server: Server, words: tuple[str, ...], output: str, given: dict[str, Any]) -> int:
    from ovnk_cli.online.happenings import events
    from ovnk_cli.online.listing import Look, show
    from ovnk_cli.online.names import wanted

    selection = taken_selection(given)
    if words[0].lower() in ("events", "event", "ev"):
        place = "" if selection.is_everywhere else selection.namespace or ""
        has_headers = not given["no_headers"]
        return ask(
            server, lambda client: events(client, selection.fields, place, output=output, has_headers=has_headers)
        )
    meant = wanted(words)
    look = Look(
        output=output,
        sort_by=given["sort_by"],
        has_labels=given["show_labels"],
        has_headers=not given["no_headers"],
        ignores_missing=given["ignore_not_found"],
        is_watched=given["watch_"] or given["watch_only"],
        is_watch_only=given["watch_only"],
    )
    return ask(server, lambda client: show(client, meant, selection, look))


@click.command()
@resource_argument
@selection_options
@server_options
@input_options(is_required=False)
@dns_option
@northbound_options(is_required=False)
def describe(words: tuple[str, ...], **given: Any) -> None:
    """Describe objects: what they say, what became of it, and what happened to them.

    From files (-f): egress firewalls, with their rules, status, and what their DNS names stand for.
    """
    server = taken_server(given)
    if server is None:
        from ovnk_cli.firewalls import describe_firewalls, named
        from ovnk_cli.inputs import Input

        refuse(("labels", "fields"), "needs --server")
        name, namespace = named(words), None if given.pop("everywhere") else given["namespace"]
        for option in ("labels", "fields", "namespace"):
            del given[option]
        raise click.exceptions.Exit(describe_firewalls(Input(**given), name, namespace))
    from ovnk_cli.online.description import describe as describe_objects
    from ovnk_cli.online.names import wanted

    meant, selection = wanted(words), taken_selection(given)
    raise click.exceptions.Exit(ask(server, lambda client: describe_objects(client, meant, selection)))


@click.command()
@resource_argument
@selection_options
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@server_options
@timeout_option()
def watch(words: tuple[str, ...], output: str, **given: Any) -> None:
    """Follow changes of several kinds: objects as they are, synced, then every change in order.

    A lost connection is taken up again where it was lost; resync says that everything is listed anew.
    """
    server, selection = required_server(given), taken_selection(given)
    from ovnk_cli.online.listing import follow_events
    from ovnk_cli.online.names import wanted

    meant = wanted(words)
    raise click.exceptions.Exit(ask(server, lambda client: follow_events(client, meant, selection, output=output)))
