"""The command group. Commands are imported when run; every error of ours becomes one line and an exit status."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ovnk_cli.catalogue import COMMANDS, SUMMARY, help_text
from ovnk_cli.streams import EXIT_UNAVAILABLE, lost, prepare
from ovnk_core.errors import BugError, Conflict, OvnkError, SouthError

EXIT_REFUSED, EXIT_USAGE = 1, 2


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Here, because click's own main would make it 1, which means refused.
            raise click.exceptions.Exit(lost(error)) from error

    def get_help(self, ctx: click.Context) -> str:
        return help_text()


@click.group(
    cls=LazyGroup, help=SUMMARY, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def cli() -> None:
    """The group itself; ``catalogue`` holds its help."""


def run() -> None:
    """Run the command line and exit."""
    prepare()
    # Read when grpc is loaded, by whichever command: what its core prints on stderr repeats what a call says.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        # Outside standalone mode click returns the code of ctx.exit and of Exit instead of raising it.
        code = cli.main(prog_name="ovnk", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """One line on stderr and the exit status. Bugs keep their traceback."""
    if isinstance(error, ExceptionGroup):
        return _report(error.exceptions[0])
    if isinstance(error, TimeoutError):
        click.echo("ovnk: not in time", err=True)
        return EXIT_UNAVAILABLE
    if isinstance(error, OSError):
        return lost(error)
    if not isinstance(error, OvnkError) or isinstance(error, BugError):
        raise error
    click.echo(f"ovnk: {error}", err=True)
    if error.is_usage:
        return EXIT_USAGE
    return EXIT_UNAVAILABLE if isinstance(error, SouthError | Conflict) else EXIT_REFUSED
