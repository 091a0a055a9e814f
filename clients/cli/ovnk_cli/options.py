"""Options that several commands share, and the types of their values: what is accepted here needs no second check."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
MAX_FILE_BYTES, LARGEST_FILE_BYTES = 64 << 20, 1 << 32
PORT_MAX = 65535
MAX_DNS_S = 3_600
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+")


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is not a positive number of seconds", ctx, param)
    return value


def dns_seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 <= value <= MAX_DNS_S:
        raise click.BadParameter(f"{value:g} is not a number of seconds from 0 to {MAX_DNS_S}", ctx, param)
    return value


def _remotes(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """``memory``, or the addresses of one database's servers with commas between them."""
    for remote in [] if value in (None, "memory") else value.split(","):
        fault = remote_fault(remote.strip())
        if fault:
            raise click.BadParameter(f"{remote!r}: {fault}", ctx, param)
    return value


def remote_fault(remote: str) -> str:
    """Why this is not the address of a database server; empty when it is."""
    scheme, _, rest = remote.partition(":")
    if scheme == "ssl":
        return "ssl needs certificates, which this command cannot be given; use the library, or a tunnel"
    if scheme == "unix":
        return "" if rest else "write unix:PATH"
    if scheme != "tcp":
        return "write unix:PATH, tcp:HOST:PORT or memory"
    host, colon, port = rest.rpartition(":")
    if not colon or not _HOST.fullmatch(host):
        return "write tcp:HOST:PORT, an IPv6 address in brackets"
    if not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        return f"the port must be 1 to {PORT_MAX}"
    return ""


def _platform(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value and not (value.isascii() and value.isalpha()):
        raise click.BadParameter("write letters only, such as BareMetal or VSphere", ctx, param)
    return value


def input_options(*, is_required: bool = True) -> Callable[[F], F]:
    """``-f`` and what changes how files are read. Not required: a server may be asked in their place."""

    def decorate(function: F) -> F:
        for option in reversed(_input_options(is_required)):
            function = option(function)
        return function

    return decorate


def _input_options(is_required: bool) -> tuple[Callable[[F], F], ...]:
    return (
        click.option(
            "-f",
            "--filename",
            "paths",
            multiple=True,
            required=is_required,
            metavar="PATH",
            help="File, folder or - for stdin; may be given several times.",
        ),
        click.option(
            "--decisions",
            "decisions_file",
            metavar="FILE",
            help="Recorded decisions (from sync --save-decisions); without it fresh ones are proposed.",
        ),
        click.option(
            "--platform",
            default="",
            metavar="NAME",
            callback=_platform,
            help="Platform type, overriding Infrastructure.",
        ),
        click.option(
            "--node-prefix",
            default="24,64",
            show_default=True,
            metavar="V4[,V6]",
            help="Link prefix lengths assumed for node addresses that come without one.",
        ),
        click.option(
            "--max-file-bytes",
            type=click.IntRange(1, LARGEST_FILE_BYTES),
            default=MAX_FILE_BYTES,
            show_default=True,
            metavar="N",
            help="Limit for one file.",
        ),
    )


def _stated(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        name, equals, addresses = text.partition("=")
        if not name or not equals or not addresses:
            raise click.BadParameter(f"{text!r}: write NAME=ADDRESS[,ADDRESS...]", ctx, param)
    return value


def dns_option(function: F) -> F:
    """``--dns``: what DNS names answer, where there is no resolver."""
    return click.option(
        "--dns",
        "dns",
        multiple=True,
        callback=_stated,
        metavar="NAME=ADDRESS[,...]",
        help="What a DNS name stands for, instead of what is on record; may be given several times.",
    )(function)


def output_option(*choices: str, default: str = "table") -> Callable[[F], F]:
    """``-o`` with the formats a command has."""
    return click.option(
        "-o", "--output", "output", type=click.Choice(choices), default=default, show_default=True, help="Format."
    )


def northbound_options(*, is_required: bool = True) -> Callable[[F], F]:
    """Which northbound database, and through which driver. Not required: its decisions are read instead of a file's."""
    source = "" if is_required else " Takes recorded decisions from there, instead of --decisions; nothing is written."

    def decorate(function: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--northbound",
                    required=is_required,
                    callback=_remotes,
                    metavar="ADDRESS",
                    help=f"unix:PATH, tcp:HOST:PORT (several with commas), or memory.{source}",
                ),
                click.option(
                    "--driver", type=click.Choice(["native", "ovsdbapp"]), default="native", show_default=True
                ),
                click.option(
                    "--timeout",
                    type=float,
                    default=30.0,
                    callback=_seconds,
                    show_default=True,
                    metavar="SECONDS",
                    help="Bounds connecting, and each wait for an acknowledgement.",
                ),
            )
        ):
            function = option(function)
        return function

    return decorate
