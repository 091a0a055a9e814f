"""One run of ``ovnk sync``: the objects of files brought into a northbound, once or for as long as it is followed.

A one-shot run commits, asks for DNS names, and commits what was answered: its counts are of both, its seconds leave out
the wait for DNS. While following, trouble is told when it appears and when it changes, and recorded decisions are
written again whenever a commit changed them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import click

from ovnk_cli.inputs import Input, report_lines
from ovnk_cli.output import emit, say, table
from ovnk_core.cluster import Cluster
from ovnk_core.control_plane import ControlPlane
from ovnk_core.errors import BugError, GuardError, OvnkError, Unreachable
from ovnk_core.ingest.load import Loaded
from ovnk_core.model.manifest import decisions_manifest
from ovnk_core.reconcile import diff
from ovnk_core.runtime.programmer import Stage
from ovnk_core.terms.struct import Value

if TYPE_CHECKING:
    from ovnk_core.runtime.resolver import NameStatus, ResolverSettings

POLL_S, RETRY_S = 0.5, 3.0
VERBS = ("insert", "update", "mutate", "delete")


class Order(Value, frozen=True, kw_only=True):
    """What the options of ``sync`` say, by their names; times in seconds."""

    northbound: str
    driver: str
    timeout: float
    stage: str
    watch: bool
    dry_run: bool
    allow_prune: bool
    adopt: bool
    dns_servers: tuple[str, ...]
    dns_timeout: float
    save_decisions: str | None
    output: str

    def resolver(self) -> ResolverSettings | None:
        """None: nobody is asked. Raises UsageError for what is no server."""
        from ovnk_core.runtime.dns_query import parse_server
        from ovnk_core.runtime.resolver import ResolverSettings

        try:
            servers = tuple(parse_server(text) for text in self.dns_servers)
        except ValueError as error:
            raise click.UsageError(f"--dns-server: {error}") from None
        if self.dry_run or not self.dns_timeout:
            return None
        return ResolverSettings(servers=servers, keeps_asking=self.watch)


class Session:
    """A control plane that is kept in step with files."""

    def __init__(self, plane: ControlPlane, order: Order, source: Input) -> None:
        self._plane, self._order, self._source = plane, order, source
        self._told: dict[str, frozenset[str]] = {}
        self._is_committed, self._saved_revision, self._saved = False, -1, ""

    async def once(self) -> int:
        """Read the files and bring the database there; the exit status."""
        plane, order = self._plane, self._order
        loaded = await anyio.to_thread.run_sync(self._source.load)
        started, before = time.perf_counter(), plane.operations.copy()
        await plane.replace(loaded)
        self._tell("input", {line: line for line in report_lines(loaded, plane.cluster)})
        if order.dry_run:
            return self._dry(loaded, started)
        await plane.wait(timeout_s=order.timeout)
        self._is_committed = True
        if not order.watch:
            started += await self._ask()
            await self._save()
        try:
            if order.stage in ("sb", "hv"):
                await self._acknowledged("sb" if order.stage == "sb" else "hv")
        finally:  # The rows are committed, whoever acknowledges them or not.
            counts = {verb: plane.operations[verb] - before[verb] for verb in VERBS}
            document = _document(plane.cluster, loaded, started, counts, plane.revision)
            owned, foreign = plane.last_flush.rows_owned, plane.last_flush.rows_foreign
            _print({**document, "rows_owned": owned, "rows_foreign": foreign}, order.output)
        return 1 if plane.errors else 0

    async def follow(self) -> NoReturn:
        """Synchronise whenever the files change, and every few seconds while the last attempt failed."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_telling)
            while True:
                seen = _stamp(self._source.paths)  # before reading: what changes while we read is seen next time
                if await self._attempt():
                    await _changed(self._source.paths, seen)
                else:
                    with anyio.move_on_after(RETRY_S):
                        await _changed(self._source.paths, seen)
        raise AssertionError("following ends only by an error")

    async def _attempt(self) -> bool:
        trouble = ""
        try:
            await self.once()
        except BugError:
            raise
        except OvnkError as error:
            trouble = f"ovnk: {error}"
        except TimeoutError:
            trouble = "ovnk: not acknowledged in time"
        self._tell("attempt", {trouble: trouble} if trouble else {})
        return not trouble

    # ------------------------------------------------------------------ what happens beside the files

    async def _keep_telling(self) -> None:
        while True:
            await anyio.sleep(POLL_S)
            self._tell_dns()
            try:
                await self._save()
            except (OvnkError, TimeoutError):
                continue  # Nothing new was committed, and why is told by the attempt that failed.
            except OSError as error:
                self._tell("save", {str(error): f"ovnk: --save-decisions: {error}"})
            else:
                self._tell("save", {})

    def _tell_dns(self) -> None:
        for name, status in self._plane.dns_status().items():
            self._tell(name, dict(_keyed(status)))

    def _tell(self, topic: str, lines: Mapping[str, str]) -> None:
        """Say what was not so the last time. Lines are compared by key, as some hold an age."""
        known = self._told.get(topic, frozenset())
        for key, line in lines.items():
            if key not in known:
                say(line)
        self._told[topic] = frozenset(lines)

    async def _save(self) -> None:
        """Write the decisions if they changed since the last time, as soon as they are committed."""
        file, plane = self._order.save_decisions, self._plane
        if file is None or not self._is_committed or plane.revision == self._saved_revision:
            return
        await plane.wait(timeout_s=self._order.timeout)
        revision, text = plane.revision, json.dumps(decisions_manifest(plane.decisions), indent=1) + "\n"
        if text != self._saved:
            await anyio.Path(file).write_text(text)
        self._saved_revision, self._saved = revision, text

    async def _ask(self) -> float:
        """Ask for every DNS name, once, and commit the answers; how long the asking took."""
        plane, order = self._plane, self._order
        if order.resolver() is None or not plane.cluster.dns_names:
            return 0.0
        asked = time.perf_counter()
        await plane.resolve_dns(order.dns_timeout)
        asking_s = time.perf_counter() - asked
        await plane.wait(timeout_s=order.timeout)
        self._tell_dns()
        return asking_s

    async def _acknowledged(self, stage: Stage) -> None:
        address, timeout_s = self._order.northbound, self._order.timeout
        if address == "memory":
            raise Unreachable(f"memory: no northd and no chassis reads it, so nobody can acknowledge {stage}")
        try:
            await self._plane.wait(stage=stage, timeout_s=timeout_s)
        except TimeoutError as error:
            raise Unreachable(f"{address}: committed, but {stage} was not acknowledged in {timeout_s:g} s") from error

    def _dry(self, loaded: Loaded, started: float) -> int:
        plane, order = self._plane, self._order
        found = plane.pending()
        counts = found.count()
        document = _document(plane.cluster, loaded, started, counts, plane.revision)
        _print({**document, "rows_owned": found.rows_owned, "rows_foreign": found.rows_foreign}, order.output)
        before = found.rows_owned - counts["insert"] + counts["delete"]
        objects = plane.cluster.count() + len(plane.cluster.refused)
        try:
            diff.guard(found, rows_before=before, objects=objects, allow_prune=order.allow_prune)
        except GuardError as error:
            say(f"warning: {error}")
        return 1 if found.operations or plane.errors else 0


def _keyed(status: NameStatus) -> Iterable[tuple[str, str]]:
    """(what it is about, warning): a failure's own words, without how old the answer in use is."""
    for warning in status.warnings:
        is_failure = bool(status.failure) and warning.startswith(f"{status.name}: {status.failure}")
        yield (status.failure if is_failure else warning), f"warning: {warning}"


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
