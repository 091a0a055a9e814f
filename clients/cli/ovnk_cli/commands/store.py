"""``ovnk store``: look after the store of servers that are stopped (SQLite), or of running ones (etcd).

``verify`` reads everything and says what is wrong, ``export`` writes the state as one JSON document, ``import`` makes a
document the state of a store. A SQLite file is open in one process at a time: stop the server first.

Exit status: 1 where a store that can be read has something wrong, or will not be changed; 3 where it cannot be reached
or read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from ovnk_cli.output import say
from ovnk_core.errors import GuardError, QuotaError, StoreCorrupt, StoreError
from ovnk_core.store.address import EtcdTls
from ovnk_core.store.entry import Base
from ovnk_core.store.open import open_log
from ovnk_core.store.port import Contents, Log
from ovnk_core.store.transfer import export_state, import_state, restore
from ovnk_core.store.transfer import verify as problems_of

EXIT_REFUSED, EXIT_UNAVAILABLE = 1, 3
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Work = Callable[[Log, Contents], Awaitable[T]]


@click.group()
def store() -> None:
    """Verify, export and import the store of a server."""


def store_options(function: F) -> F:
    """Which store, and how to reach it."""
    for option in reversed(
        (
            click.option(
                "--store",
                "address",
                required=True,
                envvar="OVNK_STORE",
                show_envvar=True,
                metavar="ADDRESS",
                help="sqlite:PATH or etcd:HOST:PORT,...[/PREFIX].",
            ),
            click.option("--etcd-ca", default="", metavar="FILE", help="Authorities of etcd's certificates."),
            click.option("--etcd-cert", default="", metavar="FILE", help="Our certificate towards etcd."),
            click.option("--etcd-key", default="", metavar="FILE", help="Its key."),
        )
    ):
        function = option(function)
    return function


def _log(address: str, tls: dict[str, str], *, may_create: bool) -> Log:
    scheme, _, path = address.partition(":")
    if scheme == "sqlite" and not may_create and not Path(path).is_file():
        raise click.UsageError(f"--store {address}: there is no such file")
    if address == "memory":
        raise click.UsageError("--store memory: ends with its server, so there is nothing to look after")
    files = EtcdTls(ca=tls["etcd_ca"], cert=tls["etcd_cert"], key=tls["etcd_key"]) if tls["etcd_ca"] else None
    try:
        return open_log(address, tls=files)
    except ValueError as error:
        raise click.UsageError(f"--store {error}") from None


def _run(log: Log, work: Work[T]) -> T:
    async def main() -> T:
        try:
            contents = await log.open()
            return await work(log, contents)
        finally:
            await log.close()

    try:
        return anyio.run(main)
    except GuardError as error:
        code, text = EXIT_REFUSED, f"{error}; give --replace to replace it"
    except QuotaError as error:
        code, text = EXIT_REFUSED, str(error)
    except StoreError as error:
        code, text = EXIT_UNAVAILABLE, str(error)
    say(f"ovnk: {text}")
    raise click.exceptions.Exit(code)


@store.command()
@store_options
def verify(address: str, **tls: str) -> None:
    """Read everything and print what is wrong, one line each; exit 1 if anything is."""

    async def work(log: Log, contents: Contents) -> list[str]:
        found = [*problems_of(contents), *await log.integrity()]
        say(f"{log.address}: revision {_last(contents)}, base {contents.base.revision}, {len(found)} problems")
        return found

    for problem in (found := _run(_log(address, tls, may_create=False), work)):
        click.echo(problem)
    raise click.exceptions.Exit(EXIT_REFUSED if found else 0)


def _last(contents: Contents) -> int:
    return contents.entries[-1].revision if contents.entries else contents.base.revision


@store.command()
@store_options
@click.option("-o", "--output", "file", default="-", metavar="FILE", help="Where to; - is standard output.")
def export(address: str, file: str, **tls: str) -> None:
    """Write the state (objects, decisions, request ids; not its history) as one JSON document."""

    async def work(log: Log, contents: Contents) -> dict[str, Any]:
        return export_state(contents)

    document = _run(_log(address, tls, may_create=False), work)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    if file == "-":
        click.echo(text, nl=False)
        return
    target = Path(file)
    # Manifests may hold what is not for everybody.
    target.touch(mode=0o600)
    target.write_text(text, encoding="utf-8")
    say(f"revision {document['revision']}: {len(document['items'])} items in {file}")


@store.command("import")
@store_options
@click.argument("file")
@click.option("--replace", "may_replace", is_flag=True, help="Replace what the store holds.")
def import_(address: str, file: str, may_replace: bool, **tls: str) -> None:
    """Make an exported document (FILE, or - for standard input) the state of a store."""
    base = _document(file)

    async def work(log: Log, contents: Contents) -> int:
        return await restore(log, contents, base, may_replace=may_replace)

    revision = _run(_log(address, tls, may_create=True), work)
    say(f"{address}: {len(base.items)} items, revision {revision}")


def _document(file: str) -> Base:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return import_state(json.loads(text))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"{file}: is not JSON: {error}") from None
    except StoreCorrupt as error:
        raise click.UsageError(f"{file}: {error}") from None
