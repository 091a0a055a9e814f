"""Entry point: help without click, everything else through ``ovnk_cli.cli``."""

from __future__ import annotations

import os
import sys

from ovnk_cli.catalogue import help_text


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == [] and "_OVNK_COMPLETE" not in os.environ:
        print(help_text(), file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] in (["-h"], ["--help"]) and "_OVNK_COMPLETE" not in os.environ:
        try:
            print(help_text(), flush=True)
        except OSError as error:
            from ovnk_cli.streams import lost

            sys.exit(lost(error))
        sys.exit(0)
    from ovnk_cli.cli import run

    run()


if __name__ == "__main__":
    main()
