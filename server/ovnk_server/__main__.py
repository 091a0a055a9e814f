"""Entry point: ``python -m ovnk_server``. The command itself is ``ovnk serve``."""

from __future__ import annotations

import sys

import click

from ovnk_core.errors import OvnkError
from ovnk_server.command import serve


def main() -> None:
    """Run the command and exit."""
    try:
        code = serve.main(prog_name="ovnk-server", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OvnkError as error:
        print(f"ovnk: {error}", file=sys.stderr)
        sys.exit(2 if error.is_usage else 1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
