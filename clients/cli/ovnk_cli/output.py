"""Results on stdout in the format asked for; words for people on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

API_VERSION = "ovnk/v1"
HIDDEN = "(hidden)"
"""In tables and lines what the caller may not read; null in JSON."""


def emit(document: Mapping[str, Any], output: str) -> None:
    """A result document as ``json`` or ``yaml``."""
    whole = {"apiVersion": API_VERSION, **document}
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(whole, sort_keys=False, width=120), nl=False)
    else:
        click.echo(json.dumps(whole, indent=None, separators=(", ", ": "), ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, has_headers: bool = True) -> None:
    """Left-aligned columns, as kubectl prints them."""
    cells = [*([list(head)] if has_headers else []), *([str(cell) for cell in row] for row in rows)]
    for line in aligned(cells)[0]:
        click.echo(line)


def aligned(rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> tuple[list[str], list[int]]:
    """Rows of cells -> lines with the columns two spaces apart, at least ``widths`` wide, and the widths used."""
    columns = max(map(len, rows), default=0)
    known = [*widths, *[0] * (columns - len(widths))]
    used = [max([known[column], *(len(row[column]) for row in rows)]) for column in range(columns)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, used, strict=True)).rstrip() for row in rows]
    return lines, used


def redaction(is_redacted: bool) -> dict[str, bool]:
    """What a document says where a server left something out; nothing where it is whole."""
    return {"is_redacted": True} if is_redacted else {}


def say_redaction(document: Mapping[str, Any]) -> None:
    """The same on stderr."""
    if document.get("is_redacted"):
        say("there is more to it that you may not read")


def say(text: str) -> None:
    """A word for people, on stderr."""
    click.echo(text, err=True)
