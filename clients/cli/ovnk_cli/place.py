"""Where a question goes: to files (``-f``) or to a server (``--server``). gRPC is loaded when a server is asked.

No command contacts a server that was not named, by the option or by OVNK_SERVER. Files win over the environment,
because they were written on the line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from ovnk_cli.complete import namespaces
from ovnk_cli.options import F
from ovnk_core.terms.struct import Value

if TYPE_CHECKING:
    from ovnk_client import Client, ClientError

T = TypeVar("T")
EXIT_REFUSED, EXIT_UNAVAILABLE = 1, 3
PATIENCE_S = 3.0
"""How long a server that cannot be reached is tried: longer than a restart takes, shorter than a person's patience."""
DEFAULT_NAMESPACE = "default"
_SECONDS = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
_OF_FILES = ("decisions_file", "platform", "node_prefix", "max_file_bytes", "dns", "northbound", "driver")
"""Options that change how files are read or computed, by their parameter names."""


class Server(Value, frozen=True, kw_only=True):
    """One server and how it is reached; ``timeout_s`` bounds each call."""

    address: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    timeout_s: float = 30.0


class ServerSaid(click.ClickException):
    """A call that failed, as one line for people and an exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance, as its own errors do

    def show(self, file: Any = None) -> None:
        click.echo(f"ovnk: {self.message}", err=True)


def duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """``30``, ``30s``, ``5m``, ``500ms`` -> seconds."""
    found = _SECONDS.fullmatch(value)
    seconds = float(found["number"]) * _UNITS[found["unit"] or "s"] if found else 0.0
    if not 0 < seconds < 1e7:
        raise click.BadParameter(f"{value}: write a time such as 30s or 5m", ctx, param)
    return seconds


def timeout_option(text: str = "30s", says: str = "Bounds each call.") -> Callable[[F], F]:
    """``--timeout`` of the commands that only a server answers."""
    return click.option("--timeout", default=text, callback=duration, show_default=True, metavar="TIME", help=says)


def server_options(function: F) -> F:
    """``--server`` and the certificates for it."""
    for option in reversed(
        (
            click.option(
                "--server",
                envvar="OVNK_SERVER",
                show_envvar=True,
                metavar="ADDRESS",
                help="Ask this server: unix:PATH or HOST:PORT.",
            ),
            *(
                click.option(f"--tls-{name}", envvar=f"OVNK_TLS_{name.upper()}", metavar="FILE", help=says)
                for name, says in (
                    ("ca", "Authority that signed the server's certificate (PEM)."),
                    ("cert", "Our certificate (PEM)."),
                    ("key", "Its key (PEM)."),
                )
            ),
        )
    ):
        function = option(function)
    return function


def namespace_option(function: F) -> F:
    """``-n``, which the environment can preset as ``oc project`` does."""
    return click.option(
        "-n",
        "--namespace",
        envvar="OVNK_NAMESPACE",
        show_envvar=True,
        metavar="NS",
        is_eager=True,
        shell_complete=namespaces,
        help=f"The namespace; {DEFAULT_NAMESPACE} if it is not given.",
    )(function)


def has_named_namespace() -> bool:
    """Whether the line itself has -n: the environment's namespace only fills in where nothing names one."""
    return click.get_current_context().get_parameter_source("namespace") is ParameterSource.COMMANDLINE


def taken_server(given: dict[str, Any]) -> Server | None:
    """Take the server's options out of ``given``; None when files are asked instead.

    Raises UsageError when both were named on the line, or neither was named at all.
    """
    context = click.get_current_context()
    server, has_files = _take(given), bool(given.get("paths"))
    if server is None and not has_files:
        raise click.UsageError("give -f PATH to ask files, or --server ADDRESS (or OVNK_SERVER) to ask a server")
    if server is None:
        return None
    if not has_files:
        refuse(_OF_FILES, "belongs to -f, and a server is asked")
        return server
    if context.get_parameter_source("server") is ParameterSource.COMMANDLINE:
        raise click.UsageError("give either -f or --server")
    return None


def server_for_files(given: dict[str, Any], *, is_wanted: bool) -> Server | None:
    """Take the server's options out of ``given``, where files go to a server or are compared with others. The
    environment's server is meant only if ``is_wanted``. Raises UsageError for one that was named and is not wanted."""
    context = click.get_current_context()
    server, is_named = _take(given), context.get_parameter_source("server") is ParameterSource.COMMANDLINE
    if is_named and not is_wanted:
        raise click.UsageError("--server: the line names another place already; leave one of them out")
    if server is not None and is_wanted:
        refuse(_OF_FILES, "belongs to files, and a server is asked")
    return server if is_wanted else None


def required_server(given: dict[str, Any]) -> Server:
    """Take the server's options out of ``given``. Raises UsageError without a server."""
    server = _take(given)
    if server is None:
        raise click.UsageError("give --server ADDRESS, or set OVNK_SERVER")
    return server


def _take(given: dict[str, Any]) -> Server | None:
    address = given.pop("server")
    files = {name: given.pop(f"tls_{name}") for name in ("ca", "cert", "key")}
    if address is None:
        return None
    if find_spec("grpc") is None:
        raise click.UsageError("asking a server needs packages that are not here: install ovnk[client]")
    if any(files.values()) and not all(files.values()):
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key belong together")
    return Server(address=address, timeout_s=float(given.get("timeout", 30.0)), **files)


def refuse(names: Collection[str], why: str) -> None:
    """Raises UsageError for the first of these options that was written on the line."""
    context = click.get_current_context()
    for param in context.command.params:
        if param.name in names and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{max(param.opts, key=len)} {why}")


def ask(server: Server, question: Callable[[Client], Awaitable[T]], *, patience_s: float = PATIENCE_S) -> T:
    """Put a question to a server. Raises ServerSaid for a call that failed, UsageError for what is no address."""
    from ovnk_client import Client, ClientError, Tls, Untrusted

    tls = Tls(server.ca, server.cert, server.key) if server.ca and server.cert and server.key else None

    async def run() -> T:
        patience = min(patience_s, server.timeout_s / 2)
        client = Client(server.address, tls=tls, deadline_s=server.timeout_s, patience_s=patience)
        try:
            await client.__aenter__()
        except ValueError as error:
            raise click.UsageError(f"--server {error}") from None
        try:
            return await question(client)
        finally:
            await client.__aexit__(None, None, None)

    try:
        return asyncio.run(run())
    except ClientError as error:
        has_none = tls is None and isinstance(error, Untrusted)
        told(error, hint=" (--tls-ca, --tls-cert, --tls-key)" if has_none else "")


def told(error: ClientError, *, hint: str = "") -> NoReturn:
    """Raises what a failed call means to a person at a terminal."""
    raise ServerSaid(message_of(error) + hint, exit_code_of(error)) from error


def message_of(error: ClientError) -> str:
    """One line, and another for each violation that the line does not hold."""
    lines = [str(error)]
    if len(error.violations) > 1:
        lines += [f"  {each.manifest_path or each.field}: {each.description}" for each in error.violations]
    return "\n".join(lines)


def exit_code_of(error: ClientError) -> int:
    """3 for what may pass (nobody answers, not in time, somebody else was faster), 1 for an answer that says no."""
    from ovnk_client import Denied, Exists, NotFound, Refused

    return EXIT_REFUSED if isinstance(error, Denied | Exists | NotFound | Refused) else EXIT_UNAVAILABLE
