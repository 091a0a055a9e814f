"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
MAX_FILE_BYTES = 64 << 20


def input_options(function: F) -> F:
    """``-f`` and what changes how files are read."""
    for option in reversed(
        (
            click.option(
                "-f",
                "--filename",
                "paths",
                multiple=True,
                required=True,
                metavar="PATH",
                help="File, folder or - for stdin; may be given several times.",
            ),
            click.option(
                "--decisions",
                "decisions_file",
                metavar="FILE",
                help="Recorded decisions (from sync --save-decisions); without it fresh ones are proposed.",
            ),
            click.option("--platform", default="", metavar="NAME", help="Platform type, overriding Infrastructure."),
            click.option(
                "--node-prefix",
                default="24,64",
                show_default=True,
                metavar="V4[,V6]",
                help="Link prefix lengths assumed for node addresses that come without one.",
            ),
            click.option(
                "--max-file-bytes", default=MAX_FILE_BYTES, show_default=True, metavar="N", help="Limit for one file."
            ),
        )
    ):
        function = option(function)
    return function


def output_option(*choices: str, default: str = "table") -> Callable[[F], F]:
    """``-o`` with the formats a command has."""
    return click.option(
        "-o", "--output", "output", type=click.Choice(choices), default=default, show_default=True, help="Format."
    )


def northbound_options(function: F) -> F:
    """Which northbound database, and through which driver."""
    for option in reversed(
        (
            click.option(
                "--northbound",
                required=True,
                metavar="ADDRESS",
                help="unix:PATH, tcp:HOST:PORT (several with commas), or memory.",
            ),
            click.option("--driver", type=click.Choice(["native", "ovsdbapp"]), default="native", show_default=True),
            click.option("--timeout", default=30.0, show_default=True, metavar="SECONDS"),
        )
    ):
        function = option(function)
    return function
