"""``ovnk version``."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

import click

from ovnk_cli.options import output_option
from ovnk_cli.output import emit


@click.command()
@output_option("table", "json", "yaml")
def version(output: str) -> None:
    """Print versions."""
    found = {"ovnk": installed("ovnk"), "python": platform.python_version()}
    if output == "table":
        click.echo(f"ovnk {found['ovnk']} (Python {found['python']})")
    else:
        emit(found, output)
