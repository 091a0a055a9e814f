"""Shell completion with live names: the server is asked for a moment, and silence is an answer too."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem

PATIENCE_S = 0.7
SERVICE = "svc:"
"""What the name of a Service as the end of a packet begins with."""
TYPES = (
    "egressfirewalls",
    "egressips",
    "endpoints",
    "endpointslices",
    "infrastructures",
    "namespaces",
    "network-attachment-definitions",
    "networkpolicies",
    "networks",
    "networks.operator.openshift.io",
    "nodes",
    "pods",
    "services",
)
"""Written out, because completing a kind must not cost an import of the API; a test compares."""


def resources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``TYPE NAME...`` and ``TYPE/NAME...``."""
    words = list(ctx.params.get(param.name or "") or ())
    kind, slash, _ = incomplete.partition("/")
    if slash:
        return [
            CompletionItem(f"{kind}/{name}") for name in _names(ctx, kind) if f"{kind}/{name}".startswith(incomplete)
        ]
    if not words:
        return [CompletionItem(each) for each in TYPES if each.startswith(incomplete)]
    if "/" in words[0]:
        return []
    return [CompletionItem(name) for name in _names(ctx, words[0]) if name.startswith(incomplete) and name not in words]


def namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _names(ctx, "namespaces") if name.startswith(incomplete)]


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _names(ctx, "nodes") if name.startswith(incomplete)]


def ends(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``NS/POD``, and ``svc:NS/NAME``: first the namespace, then what is in it."""
    head = SERVICE if incomplete.startswith(SERVICE) else ""
    namespace, slash, _ = incomplete.removeprefix(head).partition("/")
    if slash:
        kind = "services" if head else "pods"
        found = [f"{head}{namespace}/{name}" for name in _names(ctx, kind, namespace)]
    else:
        found = [f"{head}{name}/" for name in _names(ctx, "namespaces")] + ([] if head else [SERVICE])
    return [CompletionItem(each) for each in found if each.startswith(incomplete)]


def _names(ctx: click.Context, kind: str, namespace: str = "") -> list[str]:
    """Names of a kind at the server that the line or the environment names; none when anything at all goes wrong."""
    found: dict[str, Any] = {
        name: ctx.params.get(name) or os.environ.get(f"OVNK_{name.upper()}")
        for name in ("server", "tls_ca", "tls_cert", "tls_key", "namespace")
    }
    found["namespace"] = namespace or found["namespace"]
    if not found["server"]:
        return []
    try:
        return _asked(found, kind)
    except (Exception, click.exceptions.Exit):
        return []


def _asked(found: dict[str, Any], kind: str) -> list[str]:
    from ovnk_cli.online.names import kind_meant, place_of
    from ovnk_cli.place import Server, ask

    meant = kind_meant(kind)
    server = Server(
        address=found["server"],
        ca=found["tls_ca"],
        cert=found["tls_cert"],
        key=found["tls_key"],
        timeout_s=PATIENCE_S,
    )

    async def names(client: Any) -> list[str]:
        items = client.objects(meant.name, namespace=place_of(meant, found["namespace"]))
        return sorted([getattr(item, meant.field).metadata.name async for item in items])

    return ask(server, names, patience_s=PATIENCE_S)
