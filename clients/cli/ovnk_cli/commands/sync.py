"""Commands that change a northbound database: ``sync`` and ``purge``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from ovnk_cli.inputs import Input
from ovnk_cli.northbound import connect
from ovnk_cli.options import dns_seconds, input_options, northbound_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_cli.session import Order, Session
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import Unreachable

F = TypeVar("F", bound=Callable[..., Any])


def sync_options(function: F) -> F:
    """Everything that only ``sync`` takes."""
    for option in reversed(
        (
            click.option(
                "--wait",
                "stage",
                type=click.Choice(["none", "nb", "sb", "hv"]),
                default="nb",
                show_default=True,
                help="Until the rows are committed (nb), translated by northd (sb), or enforced on every chassis (hv). "
                "none is nb by another name: both return after the commit, and send nothing if there is nothing to do.",
            ),
            click.option("--watch", is_flag=True, help="Keep following the files; trouble is told, and tried again."),
            click.option(
                "--dry-run", is_flag=True, help="Only tell what would change; exit 1 when there is work to do."
            ),
            click.option(
                "--allow-prune", is_flag=True, help="Allow deleting more than 20 % of our rows, or all of them."
            ),
            click.option("--adopt", is_flag=True, help="Take over foreign rows that hold names we need."),
            click.option(
                "--dns-server",
                "dns_servers",
                multiple=True,
                envvar="OVNK_DNS_SERVER",
                show_envvar=True,
                metavar="IP[:PORT]",
                help="Ask this server for DNS names of egress firewalls, instead of those of /etc/resolv.conf; in the "
                "order given.",
            ),
            click.option(
                "--dns-timeout",
                type=float,
                callback=dns_seconds,
                default=5.0,
                show_default=True,
                envvar="OVNK_DNS_TIMEOUT",
                show_envvar=True,
                metavar="SECONDS",
                help="How long to wait for answers, after the rows are committed; 0 asks nobody. --watch goes on "
                "asking.",
            ),
            click.option("--save-decisions", metavar="FILE", help="Write the decisions in force to a file."),
        )
    ):
        function = option(function)
    return function


@click.command()
@input_options()
@northbound_options()
@sync_options
@output_option("table", "json", "yaml")
def sync(**given: Any) -> None:
    """Make a northbound database hold exactly what the objects declare; rows of others stay untouched."""
    order = Order(**{name: given.pop(name) for name in Order.__struct_fields__})
    source = Input(**given)
    saved = order.save_decisions
    if order.dry_run and (order.watch or saved is not None):
        raise click.UsageError(
            f"--dry-run does nothing, so leave out {'--watch' if order.watch else '--save-decisions'}"
        )
    if order.watch and "-" in source.paths:
        raise click.UsageError("--watch cannot follow standard input")
    if saved is not None:
        _check_writable(saved)
    resolver = order.resolver()

    async def run() -> int:
        plane = ControlPlane(
            connect(order.northbound, order.driver),
            settings=source.settings,
            decisions=source.decisions(),
            adopt=order.adopt,
            allow_prune=order.allow_prune,
            writes=not order.dry_run,
            timeout_s=order.timeout,
            resolver=resolver,
        )
        async with plane:
            session = Session(plane, order, source)
            if order.watch:
                await session.follow()
            return await session.once()

    raise click.exceptions.Exit(_run(run, order.northbound))


def _check_writable(file: str) -> None:
    """Before anything is written elsewhere. Raises UsageError."""
    path = Path(file)
    if path.is_dir():
        raise click.UsageError(f"--save-decisions {file}: is a folder")
    if not path.parent.is_dir():
        raise click.UsageError(f"--save-decisions {file}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.UsageError(f"--save-decisions {file}: may not be written")


def _run(run: Callable[[], Awaitable[int]], address: str) -> int:
    try:
        return anyio.run(run)
    except KeyboardInterrupt:
        say("interrupted; what was committed stays")
        return 130
    except TimeoutError as error:
        raise Unreachable(f"{address}: not acknowledged in time") from error


@click.command()
@northbound_options()
@output_option("table", "json", "yaml")
def purge(northbound: str, driver: str, timeout: float, output: str) -> None:
    """Remove exactly our rows from a northbound database."""

    async def run() -> int:
        async with ControlPlane(connect(northbound, driver), writes=False, timeout_s=timeout) as plane:
            operations = await plane.purge()
        if output == "table":
            table([verb.upper() for verb in operations], [list(operations.values())])
        else:
            emit({"operations": operations}, output)
        return 0

    raise click.exceptions.Exit(_run(run, northbound))
