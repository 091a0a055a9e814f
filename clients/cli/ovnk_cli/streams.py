"""Standard output as a machine reads it, and what to do when nobody can take it any more."""

from __future__ import annotations

import io
import os
import sys

EXIT_UNAVAILABLE, EXIT_BROKEN_PIPE = 3, 141


def prepare() -> None:
    """UTF-8 whatever the locale; half a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def lost(error: OSError) -> int:
    """Stdout failed, or another file did: say so in one line unless the reader just left; the exit status."""
    # What is still buffered would fail once more when the interpreter ends.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE
    where = f"{error.filename}: " if error.filename else "output: "
    print(f"ovnk: {where}{error.strerror or error}", file=sys.stderr)
    return EXIT_UNAVAILABLE
