"""Commands that reach a northbound database: ``sync`` and ``purge``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import click

from ovnk_cli.inputs import Input, report
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane, Stage
from ovnk_core.errors import BugError, GuardError, OvnkError, Unreachable
from ovnk_core.ingest.load import Loaded
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.northbound.port import Northbound
from ovnk_core.reconcile import diff

if TYPE_CHECKING:
    from ovnk_core.runtime.resolver import ResolverSettings

POLL_S, RETRY_S = 0.5, 3.0


def connect(address: str, driver: str) -> Northbound:
    """A driver for an address. ``memory`` is an empty embedded northbound that lives as long as the command."""
    if address == "memory":
        from ovnk_core.northbound.memory import MemoryNorthbound

        return MemoryNorthbound()
    if driver == "ovsdbapp":
        from ovnk_core.northbound.ovsdbapp import OvsdbappNorthbound

        return OvsdbappNorthbound(address)
    from ovnk_core.northbound.native import NativeNorthbound

    return NativeNorthbound(address)


@click.command()
@input_options
@northbound_options()
@click.option(
    "--wait",
    "stage",
    type=click.Choice(["none", "nb", "sb", "hv"]),
    default="nb",
    show_default=True,
    help="Until the rows are committed (nb), translated by northd (sb), or enforced on every chassis (hv). "
    "none is nb by another name: both return after the commit, and send nothing when there is nothing to do.",
)
@click.option("--watch", is_flag=True, help="Keep following the files; trouble is told, and tried again.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change; exit 1 when there is work to do.")
@click.option("--allow-prune", is_flag=True, help="Allow deleting more than 20 % of our rows, or all of them.")
@click.option("--adopt", is_flag=True, help="Take over foreign rows that hold names we need.")
@click.option(
    "--dns-server",
    "dns_servers",
    multiple=True,
    envvar="OVNK_DNS_SERVER",
    metavar="IP[:PORT]",
    help="Ask this server for DNS names of egress firewalls, instead of those of /etc/resolv.conf; in the order given.",
)
@click.option(
    "--dns-timeout",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    envvar="OVNK_DNS_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="How long to wait for answers, after the rows are committed; 0 asks nobody. --watch goes on asking.",
)
@click.option("--save-decisions", metavar="FILE", help="Write the decisions in force to a file.")
@output_option("table", "json", "yaml")
def sync(
    northbound: str,
    driver: str,
    timeout: float,
    stage: str,
    watch: bool,
    dry_run: bool,
    allow_prune: bool,
    adopt: bool,
    dns_servers: tuple[str, ...],
    dns_timeout: float,
    save_decisions: str | None,
    output: str,
    **given: Any,
) -> None:
    """Make a northbound database hold exactly what the objects declare; rows of others stay untouched."""
    if dry_run and (watch or save_decisions is not None):
        raise click.UsageError(f"--dry-run does nothing, so leave out {'--watch' if watch else '--save-decisions'}")
    resolver = None if dry_run or not dns_timeout else _resolver(dns_servers)
    source = Input(**given)
    if watch and "-" in source.paths:
        raise click.UsageError("--watch cannot follow standard input")
    if save_decisions is not None:
        _check_writable(save_decisions)

    async def run() -> int:
        plane = ControlPlane(
            connect(northbound, driver),
            settings=source.settings,
            decisions=source.decisions(),
            adopt=adopt,
            allow_prune=allow_prune,
            writes=not dry_run,
            timeout_s=timeout,
            resolver=resolver,
        )
        async with plane:
            if watch:
                await _follow(source.paths, lambda: once(plane))
            return await once(plane)

    async def once(plane: ControlPlane) -> int:
        loaded = await anyio.to_thread.run_sync(source.load)
        started = time.perf_counter()
        await plane.replace(loaded)
        report(loaded, plane.cluster)
        if dry_run:
            return _dry(plane, loaded, started, allow_prune, output)
        await plane.wait(timeout_s=timeout)
        flushed = plane.last_flush
        if resolver is not None and not watch and plane.cluster.dns_names:
            await plane.resolve_dns(dns_timeout)
            await plane.wait(timeout_s=timeout)
            _tell_unanswered(plane)
        if save_decisions is not None:
            text = json.dumps(decisions_manifest(plane.decisions), indent=1) + "\n"
            await anyio.Path(save_decisions).write_text(text)
        try:
            if stage in ("sb", "hv"):
                await _acknowledged(plane, northbound, _stage(stage), timeout)
        finally:  # The rows are committed, whoever acknowledges them or not.
            document = _document(plane.cluster, loaded, started, flushed.operations, plane.revision)
            _print({**document, "rows_owned": flushed.rows_owned, "rows_foreign": flushed.rows_foreign}, output)
        return 1 if plane.errors else 0

    raise click.exceptions.Exit(_run(run, northbound))


def _resolver(servers: tuple[str, ...]) -> ResolverSettings:
    """Raises UsageError for what is no server."""
    from ovnk_core.runtime.dns_query import parse_server
    from ovnk_core.runtime.resolver import ResolverSettings

    try:
        return ResolverSettings(servers=tuple(parse_server(text) for text in servers))
    except ValueError as error:
        raise click.UsageError(f"--dns-server: {error}") from None


def _tell_unanswered(plane: ControlPlane) -> None:
    for _, status in sorted(plane.dns_status().items()):
        for warning in status.warnings:
            say(f"warning: {warning}")


async def _acknowledged(plane: ControlPlane, address: str, stage: Stage, timeout_s: float) -> None:
    if address == "memory":
        raise Unreachable(f"memory: no northd and no chassis reads it, so nobody can acknowledge {stage}")
    try:
        await plane.wait(stage=stage, timeout_s=timeout_s)
    except TimeoutError as error:
        raise Unreachable(f"{address}: committed, but {stage} was not acknowledged in {timeout_s:g} s") from error


async def _follow(paths: tuple[str, ...], once: Callable[[], Awaitable[int]]) -> NoReturn:
    """Synchronise whenever the files change, and every few seconds while the last attempt failed."""
    while True:
        seen = _stamp(paths)  # before reading: what changes while we read is seen next time
        try:
            await once()
        except BugError:
            raise
        except OvnkError as error:
            say(f"ovnk: {error}")
        except TimeoutError:
            say("ovnk: not acknowledged in time")
        else:
            await _changed(paths, seen)
            continue
        with anyio.move_on_after(RETRY_S):
            await _changed(paths, seen)


def _check_writable(file: str) -> None:
    """Before anything is written elsewhere. Raises UsageError."""
    path = Path(file)
    if path.is_dir():
        raise click.UsageError(f"--save-decisions {file}: is a folder")
    if not path.parent.is_dir():
        raise click.UsageError(f"--save-decisions {file}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.UsageError(f"--save-decisions {file}: may not be written")


def _dry(plane: ControlPlane, loaded: Loaded, started: float, allow_prune: bool, output: str) -> int:
    found = plane.pending()
    counts = found.count()
    document = _document(plane.cluster, loaded, started, counts, plane.revision)
    _print({**document, "rows_owned": found.rows_owned, "rows_foreign": found.rows_foreign}, output)
    before = found.rows_owned - counts["insert"] + counts["delete"]
    objects = plane.cluster.count() + len(plane.cluster.refused)
    try:
        diff.guard(found, rows_before=before, objects=objects, allow_prune=allow_prune)
    except GuardError as error:
        say(f"warning: {error}")
    return 1 if found.operations or plane.errors else 0


def _stage(text: str) -> Stage:
    return "sb" if text == "sb" else "hv"


def _document(
    cluster: Cluster, loaded: Loaded, started: float, operations: dict[str, int], revision: int
) -> dict[str, Any]:
    return {
        "revision": revision,
        "objects": cluster.count(),
        "refused": len(cluster.problems),
        "operations": operations,
        "seconds": round(time.perf_counter() - started, 3),
        "load_seconds": round(loaded.seconds, 3),
    }


def _print(document: dict[str, Any], output: str) -> None:
    if output != "table":
        emit(document, output)
        return
    operations = document["operations"]
    table(
        ["REVISION", "OBJECTS", "REFUSED", "INSERT", "UPDATE", "MUTATE", "DELETE", "OWNED", "FOREIGN", "SECONDS"],
        [
            [
                document["revision"],
                document["objects"],
                document["refused"],
                *(operations[verb] for verb in ("insert", "update", "mutate", "delete")),
                document["rows_owned"],
                document["rows_foreign"],
                document["seconds"],
            ]
        ],
    )


Stamps = dict[str, tuple[int, int]]


async def _changed(paths: tuple[str, ...], seen: Stamps) -> Stamps:
    """Until a file below the paths is added, removed or written. Polling: works on every file system."""
    while (now := _stamp(paths)) == seen:
        await anyio.sleep(POLL_S)
    return now


def _stamp(paths: tuple[str, ...]) -> Stamps:
    """Modification time and size of every file."""
    found: Stamps = {}
    for text in paths:
        path = Path(text)
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            try:
                stat = each.stat()
            except OSError:
                continue
            found[str(each)] = (stat.st_mtime_ns, stat.st_size)
    return found


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
