"""``edit``: an object in an editor, and back to the server if nobody was faster."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml
from ovnk_client import Client, ClientError, Conflict
from ovnk_wire import Kind, to_manifest

from ovnk_cli.online.changes import Order, tell_applied
from ovnk_cli.online.files import Stated, located, read_files
from ovnk_cli.online.marks import stated
from ovnk_cli.online.names import place_of, shown
from ovnk_cli.output import say
from ovnk_cli.place import Server, ask

_HEAD = """\
# {what}: save and close to send it; close unchanged, or empty it, to leave it as it is.
# Status is not shown, because it is not yours to state.
#
"""


def edit(server: Server, kind: Kind, name: str, namespace: str | None, *, order: Order) -> int:
    """Fetch, edit, send; the exit status. The connection is closed while the editor is open."""
    place = place_of(kind, namespace)

    async def fetch(client: Client) -> dict[str, Any]:
        return stated(to_manifest(await client.get(kind.name, name, namespace=place)))

    before = ask(server, fetch)
    text = _HEAD.format(what=shown(kind, name)) + yaml.safe_dump(before, sort_keys=False, width=120)
    file = _file(text, f"{kind.name.lower()}-{name}")
    _open(file)
    edited = file.read_text()
    if edited == text or not any(line.strip() and not line.startswith("#") for line in edited.splitlines()):
        file.unlink()
        say("Edit cancelled, no changes made.")
        return 0
    try:
        items = read_files([str(file)], place or None)
    except click.exceptions.Exit:
        say(f"ovnk: nothing was changed; your edit is kept: correct it and run ovnk replace -f {file}")
        raise
    if len(items) != 1 or items[0].kind is not kind or (items[0].name, items[0].namespace) != (name, place):
        say(f"ovnk: the edit names another object than {shown(kind, name)}; it is kept in {file}")
        return 1

    async def send(client: Client) -> int:
        try:
            answer = await client.apply([items[0].item], mode="replace")
        except ClientError as error:
            _keep(error, items[0], file)
        file.unlink()
        return await tell_applied(client, answer, order, changed="edited")

    return ask(server, send)


def _keep(error: ClientError, item: Stated, file: Path) -> None:
    """Raises what the error means, having said where the edit is and how to go on."""
    if isinstance(error, Conflict):
        say(
            f"ovnk: {shown(item.kind, item.name)} was changed by somebody else meanwhile. Your edit is kept: compare it"
            f" with what is there (ovnk diff -f {file}), take metadata.resourceVersion out, and run"
            f" ovnk replace -f {file}"
        )
    else:
        say(f"ovnk: your edit is kept: correct it and run ovnk replace -f {file}")
    raise located(error, [item]) from error


def _file(text: str, name: str) -> Path:
    handle, path = tempfile.mkstemp(prefix=f"ovnk-{name}-", suffix=".yaml")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return Path(path)


def _open(file: Path) -> None:
    """Run the editor and wait. Raises UsageError when it cannot be run or fails."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(command), str(file)], check=False)
    except OSError as error:
        raise click.UsageError(f"the editor {command!r} cannot be run: {error.strerror}; set EDITOR") from None
    if done.returncode:
        raise click.UsageError(f"the editor {command!r} failed with status {done.returncode}; {file} is as it left it")
