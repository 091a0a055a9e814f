"""``describe`` on a server: an egress firewall in the manual's layout, every other kind field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from ovnk_api.v1.event_service_pb2 import ListEventsRequest
from ovnk_client import Client, Denied, NotFound
from ovnk_wire import Kind, to_manifest

from ovnk_cli.firewall_text import Judged, firewall_fields, print_fields
from ovnk_cli.online.columns import Manifest, plug_in
from ovnk_cli.online.endpoints_text import SERVICE_NAME, endpoints_lines, service_endpoints, slice_lines
from ovnk_cli.online.happenings import event_table
from ovnk_cli.online.names import Wanted
from ovnk_cli.online.read import Selection, fetch, missing_text
from ovnk_cli.online.routers import router_tree
from ovnk_cli.output import say
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.egress_firewall import DnsName, EgressFirewall
from ovnk_core.model.egress_router import NETWORKS


async def describe(client: Client, wanted: Sequence[Wanted], selection: Selection) -> int:
    """Print everything that is known of objects; the exit status."""
    code, is_first = 0, True
    for found in await fetch(client, wanted, selection):
        for name in found.missing:
            say(f"ovnk: {missing_text(found.kind, name, selection.namespace)}")
            code = 1
        for manifest in found.manifests:
            if not is_first:
                click.echo()
            is_first = False
            if found.kind.name == "EgressFirewall":
                await _firewall(client, manifest)
            else:
                await _other(client, found.kind, manifest)
    return code


async def _firewall(client: Client, manifest: Manifest) -> None:
    stated = {key: value for key, value in manifest.items() if key != "status"}
    loaded = parse_objects((stated,))
    meta = manifest["metadata"]
    known = loaded.items[0].value if loaded.items else None
    item = (
        known if isinstance(known, EgressFirewall) else EgressFirewall(name=meta["name"], namespace=meta["namespace"])
    )
    status = manifest.get("status") or {}
    judged = Judged(
        text=status.get("status", ""),
        messages=tuple(status.get("messages", ())),
        conditions=tuple(
            (each.get("type", ""), each.get("status", ""), each.get("reason", ""), each.get("message", ""))
            for each in status.get("conditions", ())
        ),
    )
    lines = [line async for line in _dns(client, item)]
    print_fields(firewall_fields(item, judged, lines))


async def _dns(client: Client, item: EgressFirewall) -> Any:
    for name in sorted({rule.to.name for rule in item.rules if isinstance(rule.to, DnsName)}):
        try:
            known = await client.dns(name)
        except (NotFound, Denied):
            yield f"{name}: never answered"
            continue
        for address in sorted({*known.addresses, *known.deny_addresses}):
            since = [change.at for change in known.history if address in change.addresses]
            when = f" since {since[-1].ToJsonString()}" if since else ""
            yield f"{name}: {address}{when}" + ("" if address in known.addresses else " (Deny rules only)")
        if not known.addresses and not known.deny_addresses:
            yield f"{name}: no address" if known.is_on_record else f"{name}: never answered"


async def _other(client: Client, kind: Kind, manifest: Manifest) -> None:
    meta = manifest["metadata"]
    width = 16
    for title, text in _head(kind, meta):
        click.echo(f"{title + ':':<{width}}{text}" if title else f"{'':<{width}}{text}")
    router = await _router(client, manifest) if kind.name == "Pod" else {}
    if router or (kind.name == "NetworkAttachmentDefinition" and plug_in(manifest) == "egress-router"):
        click.echo(f"{'Support:':<{width}}Technology Preview (15.12): not for production")
    shown = {"Spec": manifest.get("spec"), "Status": manifest.get("status"), "Egress Router": router}
    for part, value in shown.items():
        if value:
            click.echo(f"{part}:")
            for line in _tree(value, 1):
                click.echo(line)
    if kind.name == "Service":
        await _endpoints(client, manifest)
    for line in _PARTS[kind.name](manifest) if kind.name in _PARTS else ():
        click.echo(line)
    await _conditions(client, kind, meta)
    await _events(client, kind, meta)


async def _router(client: Client, manifest: Manifest) -> Manifest:
    """The plan of an egress router pod, as far as the caller may read it."""
    meta = manifest["metadata"]
    if NETWORKS not in (meta.get("annotations") or {}):
        return {}
    try:
        return await router_tree(client, meta.get("namespace", ""), meta["name"])
    except Denied:
        return {}


_PARTS: dict[str, Callable[[Manifest], Iterator[str]]] = {"EndpointSlice": slice_lines, "Endpoints": endpoints_lines}
"""Kinds that say what they have to say beside spec and status."""


async def _endpoints(client: Client, manifest: Manifest) -> None:
    """Who serves each port of a Service, as far as the caller may read it."""
    namespace = manifest["metadata"].get("namespace", "")
    try:
        label = f"{SERVICE_NAME}={manifest['metadata']['name']}"
        slices = [
            to_manifest(each) async for each in client.objects("EndpointSlice", namespace=namespace, labels=label)
        ]
        named = f"metadata.name={manifest['metadata']['name']}"
        plain = [to_manifest(each) async for each in client.objects("Endpoints", namespace=namespace, fields=named)]
    except Denied:
        return
    lines = list(service_endpoints(manifest, slices, plain))
    if lines:
        click.echo("Endpoints:")
    for port, text in lines:
        click.echo(f"  {port}: {text}")


def _head(kind: Kind, meta: Manifest) -> Iterator[tuple[str, str]]:
    yield "Name", meta["name"]
    if kind.is_namespaced:
        yield "Namespace", meta.get("namespace", "")
    for title, key in (("Labels", "labels"), ("Annotations", "annotations")):
        pairs = [f"{name}={value}" for name, value in sorted((meta.get(key) or {}).items())] or ["<none>"]
        yield title, pairs[0]
        yield from (("", pair) for pair in pairs[1:])
    yield "Created", meta.get("creationTimestamp") or "<unknown>"


def _tree(value: Any, depth: int) -> Iterator[str]:
    """A value as indented lines, the way kubectl describes kinds that it knows nothing of."""
    space = "  " * depth
    entries = value.items() if isinstance(value, dict) else (("-", each) for each in value)
    for key, each in entries:
        if isinstance(each, dict | list) and each:
            yield f"{space}{key}:" if key != "-" else f"{space}-"
            yield from _tree(each, depth + 1)
        else:
            shown = "<empty>" if each in ({}, [], "") else str(each).lower() if isinstance(each, bool) else str(each)
            yield f"{space}{key}: {shown}" if key != "-" else f"{space}- {shown}"


async def _conditions(client: Client, kind: Kind, meta: Manifest) -> None:
    try:
        found = [
            each async for each in client.conditions(kind.name, namespace=meta.get("namespace", ""), name=meta["name"])
        ]
    except Denied:
        return
    lines = [(c.type, c.status, c.reason, c.message) for each in found for c in each.conditions]
    if lines:
        click.echo("Conditions:")
    for name, status, reason, message in lines:
        told = f": {message}" if message else ""
        click.echo(f"  {name}={status} ({reason}){told}")


async def _events(client: Client, kind: Kind, meta: Manifest) -> None:
    asked = ListEventsRequest(kind=kind.name, namespace=meta.get("namespace", ""), name=meta["name"], limit=20)
    try:
        found = await client.events(asked)
    except Denied:
        return
    lines = event_table(found.events)
    click.echo("Events:" if lines[1:] else "Events:         <none>")
    for line in lines if lines[1:] else ():
        click.echo(f"  {line}")
