"""Entry point: help without click, everything else through ``ovnk_cli.cli``."""

from __future__ import annotations

import os
import sys

from ovnk_cli.catalogue import help_text


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] in ([], ["-h"], ["--help"]) and "_OVNK_COMPLETE" not in os.environ:
        print(help_text())
        sys.exit(0 if sys.argv[1:] else 2)
    from ovnk_cli.cli import run

    run()


if __name__ == "__main__":
    main()
