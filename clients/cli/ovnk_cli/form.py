"""``-o`` of the commands that show objects, and printing objects in that form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ovnk_cli.jsonpath import PathError, Template, path
from ovnk_cli.options import F
from ovnk_cli.output import emit

FORMS = ("table", "wide", "json", "yaml", "name")
_JSONPATH = "jsonpath="


def _form(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in FORMS:
        if not value.startswith(_JSONPATH):
            raise click.BadParameter(f"{value}: write one of {', '.join(FORMS)}, or jsonpath=TEMPLATE", ctx, param)
        try:
            Template(value.partition("=")[2])
        except PathError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value


def form_option(default: str = "table") -> Callable[[F], F]:
    """``-o`` with kubectl's forms."""
    return click.option(
        "-o",
        "--output",
        "output",
        default=default,
        show_default=True,
        callback=_form,
        metavar="|".join((*FORMS, "jsonpath=...")),
        help="Format.",
    )


def whole(items: Sequence[Mapping[str, Any]], *, is_one: bool) -> Mapping[str, Any]:
    """One object as it is, several as a List."""
    return items[0] if is_one and len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(items)}


def emit_objects(items: Sequence[Mapping[str, Any]], output: str, *, is_one: bool) -> None:
    """Manifests as ``json``, ``yaml`` or by a JSONPath template; ``is_one``: one object was asked for by name."""
    document = whole(items, is_one=is_one)
    if output in ("json", "yaml"):
        emit(document, output)
    else:
        click.echo(Template(output.partition("=")[2]).render(document), nl=False)


def sort_key(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """``--sort-by``: what to sort objects by; those without the field come first, numbers before texts."""
    try:
        pick = path(text)
    except PathError as error:
        raise click.BadParameter(str(error), param_hint="--sort-by") from None

    def key(manifest: Mapping[str, Any]) -> tuple[int, float, str]:
        found = pick(manifest)
        first = found[0] if found else None
        if first is None:
            return (0, 0.0, "")
        if isinstance(first, int | float):
            return (1, float(first), "")
        return (2, 0.0, str(first))

    return key
