"""``ovnk serve``, also as ``python -m ovnk_server``. Flags are made of the settings; grpc is loaded when serving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ovnk_core.errors import OvnkError
from ovnk_core.failpoint import arm_from
from ovnk_server.configure import configure, keys, show

DOT = "__"
"""In place of a key's dot, which the names of parameters cannot have."""
F = TypeVar("F", bound=Callable[..., Any])


def _setting_options(function: F) -> F:
    """One flag for each key."""
    for setting in reversed(keys().values()):
        option: Callable[[F], F]
        name = setting.name.replace(".", DOT)
        says = f"{setting.says} [{setting.variable}]"
        if setting.is_switch:
            off = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
            option = click.option(off, name, default=None, help=says)
        else:
            option = click.option(
                setting.flag, name, default=None, multiple=setting.is_list, metavar="VALUE", help=says
            )
        function = option(function)
    return function


@click.command()
@click.option("--config", metavar="FILE", envvar="OVNK_CONFIG", show_envvar=True, help="TOML file with settings.")
@click.option("--show-config", is_flag=True, help="Print every setting with its value and where it is from, and end.")
@_setting_options
def serve(config: str | None, show_config: bool, **given: Any) -> None:
    """Serve the API: keep objects, program the northbound, answer questions.

    Flags win over OVNK_* variables, these over the file, that over defaults. Exit status: 0 stopped, 1 failed,
    2 settings that cannot work, 3 a store that cannot be read.
    """
    flags = {name.replace(DOT, "."): value for name, value in given.items() if value is not None and value != ()}
    configured = configure(config, os.environ, flags)
    if show_config:
        click.echo(show(configured), nl=False)
        return
    arm_from(os.environ.get("OVNK_FAILPOINTS", ""))
    try:
        from ovnk_server.transport import prepare_environment

        prepare_environment()
        from ovnk_server.app import serve as run
        from ovnk_server.log import configure_log
    except ImportError as error:
        raise MissingPackage(f"serving needs the package {error.name}: install ovnk[server]") from error
    configure_log(configured.settings.log)
    raise click.exceptions.Exit(asyncio.run(run(configured.settings)))


class MissingPackage(OvnkError):
    """A package of an extra is not installed."""

    is_usage = True
