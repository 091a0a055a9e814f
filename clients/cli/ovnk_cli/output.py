"""Results on stdout in the format asked for; words for people on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

API_VERSION = "ovnk/v1"


def emit(document: Mapping[str, Any], output: str) -> None:
    """A result document as ``json`` or ``yaml``."""
    whole = {"apiVersion": API_VERSION, **document}
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(whole, sort_keys=False, width=120), nl=False)
    else:
        click.echo(json.dumps(whole, indent=None, separators=(", ", ": "), ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Left-aligned columns, two spaces apart, as kubectl prints them."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def say(text: str) -> None:
    """A word for people, on stderr."""
    click.echo(text, err=True)
