"""Entry point. Commands are imported when run, so that ``--help`` costs no more than click itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "completion": ("ovnk_cli.commands.completion", "Print the completion script of a shell."),
    "flows": ("ovnk_cli.commands.show", "List the logical flows that the objects lead to."),
    "graph": ("ovnk_cli.commands.show", "Show the rule graph: what is computed from what."),
    "matrix": ("ovnk_cli.commands.trace", "Who may talk to whom, for every pair of pods."),
    "purge": ("ovnk_cli.commands.sync", "Remove exactly our rows from a northbound database."),
    "rows": ("ovnk_cli.commands.show", "List the northbound rows that the objects lead to."),
    "sync": ("ovnk_cli.commands.sync", "Make a northbound database hold what the objects declare."),
    "trace": ("ovnk_cli.commands.trace", "What happens to a packet, and which line decides."),
    "validate": ("ovnk_cli.commands.show", "Check objects and say what is wrong, missing or assumed."),
    "version": ("ovnk_cli.commands.version", "Print versions."),
}
"""Name -> (module, one-line help). The module defines the command under the same name."""

EXIT_REFUSED, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 2, 3


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_lines()))


def _lines() -> Iterator[tuple[str, str]]:
    for name in sorted(COMMANDS):
        yield name, COMMANDS[name][1]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """OVN northbound control plane: manifests in, OVN rows out, and why.

    Every command works on files (-f), without a cluster. Results go to stdout, everything else to stderr.
    Exit status: 0 fine, 1 refused objects or an answer that differs, 2 usage, 3 unavailable or conflict.
    """


def main() -> None:
    """Run the command line; every error of ours becomes one line and an exit status."""
    try:
        # Outside standalone mode click returns the code of ctx.exit and of Exit instead of raising it.
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    from ovnk_core.errors import BugError, Conflict, OvnkError, SouthError  # only now: --help must not pay for it
    from ovnk_core.trace.question import QuestionError

    if isinstance(error, ExceptionGroup):
        return _report(error.exceptions[0])
    if isinstance(error, TimeoutError):
        click.echo("ovnk: not in time", err=True)
        return EXIT_UNAVAILABLE
    if not isinstance(error, OvnkError) or isinstance(error, BugError):
        raise error
    click.echo(f"ovnk: {error}", err=True)
    if isinstance(error, QuestionError):
        return EXIT_USAGE
    return EXIT_UNAVAILABLE if isinstance(error, SouthError | Conflict) else EXIT_REFUSED


if __name__ == "__main__":
    main()
