"""``ovnk completion SHELL``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    bash: source <(ovnk completion bash); zsh: the same; fish: ovnk completion fish | source
    """
    from ovnk_cli.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "ovnk", "_OVNK_COMPLETE").source())
