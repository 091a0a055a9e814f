"""Services that wait: what they state is not served, so a listing does not show it as theirs."""

from __future__ import annotations

from msgspec.structs import replace
from ovnk_client import Client, Denied

from ovnk_cli.online.columns import PENDING, WHY, Manifest, at
from ovnk_cli.online.read import Fetched, Selection


async def with_waiting(client: Client, found: Fetched, selection: Selection) -> Fetched:
    """Services with ``<pending>`` for a cluster IP they do not have, and with why; anything else as it is."""
    if found.kind.name != "Service":
        return found
    waits: dict[tuple[str, str], str] = {}
    try:
        async for each in client.conditions("Service", namespace=selection.listed_in(found.kind)):
            why = next((one.message for one in each.conditions if one.reason == "Waiting"), "")
            if why:
                waits[each.reference.namespace, each.reference.name] = why
    except Denied:
        return found
    return replace(found, manifests=tuple(_shown(each, waits) for each in found.manifests))


def _shown(manifest: Manifest, waits: dict[tuple[str, str], str]) -> dict[str, object]:
    name, namespace = (str(at(manifest, "metadata", key) or "") for key in ("name", "namespace"))
    why = waits.get((namespace, name))
    if why is None:
        return dict(manifest)
    return {**manifest, "spec": {**(manifest.get("spec") or {}), "clusterIP": PENDING}, WHY: why}
