"""Waiting for changes to arrive, with a line on stderr for every stage that is reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import click
from ovnk_client import STAGES, Client, DeadlineExceeded, NotFound, StageName
from ovnk_wire import Kind, body_of, to_manifest

from ovnk_cli.jsonpath import PathError, path
from ovnk_cli.online.columns import at
from ovnk_cli.online.names import place_of, shown
from ovnk_cli.output import say
from ovnk_core.terms.struct import Value

EXIT_UNAVAILABLE = 3


async def converge(client: Client, revision: int, stage: StageName, timeout_s: float) -> int:
    """Until ``revision`` has reached ``stage``; the exit status. An interrupt says what state is left."""
    started = time.monotonic()
    say(f"accepted at revision {revision}")
    reached: StageName = "accepted"
    try:
        for each in STAGES[1 : STAGES.index(stage) + 1]:
            left_s = max(0.001, timeout_s - (time.monotonic() - started))
            waited = await client.wait(revision, each, timeout_s=left_s)
            if not waited.is_reached:
                lagging = f"; lagging: {', '.join(waited.lagging_chassis)}" if waited.lagging_chassis else ""
                why = f": {waited.message}" if waited.message else ""
                say(f"ovnk: {reached}, but not {each} within {timeout_s:g} s{why}{lagging}")
                return EXIT_UNAVAILABLE
            reached = each
            count = await _chassis(client, revision) if each == "enforced" else ""
            say(f"{each}{count} after {(time.monotonic() - started) * 1_000:.0f} ms")
    except asyncio.CancelledError:
        say(f"ovnk: interrupted; revision {revision} is {reached} and goes on without this command")
        raise
    return 0


async def _chassis(client: Client, revision: int) -> str:
    found = await client.status(revision)
    return f" {found.chassis - len(found.lagging_chassis)}/{found.chassis}" if found.HasField("chassis") else ""


class Target(Value, frozen=True, kw_only=True):
    """What ``wait --for`` waits for. ``condition`` with ``value``, ``is_deleted``, ``is_created``, or ``pick`` (a
    JSONPath) with ``value`` (None: anything)."""

    condition: str = ""
    is_deleted: bool = False
    is_created: bool = False
    pick: str = ""
    value: str | None = None

    def holds(self, manifest: dict[str, Any]) -> bool:
        """Whether an object that is there fulfils it."""
        if self.condition:
            found = at(manifest, "status", "conditions") or ()
            return any(
                each.get("type", "").lower() == self.condition.lower() and each.get("status") == self.value
                for each in found
            )
        if self.pick:
            picked = path(self.pick)(manifest)
            shown_as = [str(each).lower() if isinstance(each, bool) else str(each) for each in picked]
            return bool(picked) if self.value is None else self.value in shown_as
        return self.is_created


def parse_target(text: str) -> Target:
    """``delete``, ``create``, ``condition=Ready[=True]``, ``jsonpath={.status.phase}[=Running]``. Raises UsageError."""
    head, _, rest = text.partition("=")
    if text in ("delete", "create"):
        return Target(is_deleted=text == "delete", is_created=text == "create")
    if head == "condition" and rest:
        name, _, value = rest.partition("=")
        return Target(condition=name, value=value.capitalize() or "True")
    if head == "jsonpath" and rest:
        closing = rest.rfind("}") + 1
        pick, _, value = (rest[:closing], "", rest[closing:]) if closing else rest.partition("=")
        try:
            path(pick)
        except PathError as error:
            raise click.UsageError(f"--for {text}: {error}") from None
        return Target(pick=pick, value=value.removeprefix("=").strip("'\"") or None)
    raise click.UsageError(f"--for {text}: write delete, create, condition=TYPE[=STATUS] or jsonpath={{PATH}}[=VALUE]")


async def wait_objects(
    client: Client, kind: Kind, names: Sequence[str], *, namespace: str | None, target: Target, timeout_s: float
) -> int:
    """Until every named object fulfils the target; the exit status."""
    open_ = dict.fromkeys(names)
    place = place_of(kind, namespace)
    stage = next((each for each in STAGES if each == target.condition.lower() and target.value == "True"), None)
    try:
        async with asyncio.timeout(timeout_s):
            if stage is not None:
                await _stages(client, kind, names, place=place, stage=stage, timeout_s=timeout_s)
            else:
                await _follow(client, kind, open_, place=place, target=target)
    except TimeoutError:
        for name in open_:
            say(f"ovnk: {shown(kind, name)}: not within {timeout_s:g} s")
        return EXIT_UNAVAILABLE
    return 0


async def _stages(
    client: Client, kind: Kind, names: Sequence[str], *, place: str, stage: StageName, timeout_s: float
) -> None:
    """Objects are as far as the revision of their last change is."""
    for name in names:
        item = await client.get(kind.name, name, namespace=place)
        version = body_of(item).metadata.resource_version  # type: ignore[attr-defined]
        waited = await client.wait(int(version.removeprefix("r")), stage, timeout_s=timeout_s)
        if not waited.is_reached:
            raise DeadlineExceeded(f"{shown(kind, name)} is not {stage} in time: {waited.message}")
        click.echo(f"{shown(kind, name)} condition met")


async def _follow(client: Client, kind: Kind, open_: dict[str, None], *, place: str, target: Target) -> None:
    there: set[str] = set()
    async with client.watch(kind.name, namespace=place) as events:
        async for event in events:
            if event.type == "resync":
                there.clear()
            elif event.type == "synced":
                absent = [name for name in open_ if name not in there]
                if target.is_deleted:
                    for name in absent:
                        _met(kind, name, open_)
                elif absent and not target.is_created:
                    raise NotFound(f"{shown(kind, absent[0])} not found")
            elif event.object is not None:
                name = body_of(event.object).metadata.name  # type: ignore[attr-defined]
                if event.type != "deleted":
                    there.add(name)
                is_met = target.is_deleted if event.type == "deleted" else target.holds(to_manifest(event.object))
                if name in open_ and is_met:
                    _met(kind, name, open_)
            if not open_:
                return


def _met(kind: Kind, name: str, open_: dict[str, None]) -> None:
    del open_[name]
    click.echo(f"{shown(kind, name)} condition met")
