"""A NetworkAttachmentDefinition, and a pod's list of networks, back into manifest form (``manifest``)."""

from __future__ import annotations

import json
from typing import Any

from ovnk_core.model.egress_router import Attachment, EgressRouter, NetworkAttachmentDefinition, Redirect


def attachment_body(item: NetworkAttachmentDefinition, metadata: dict[str, Any]) -> dict[str, Any]:
    """spec of a definition: of an egress router as it was read, of another plug-in its type alone."""
    if not item.plugin:
        return {"spec": {}}
    config: dict[str, Any] = {"cniVersion": "0.4.0", "type": item.plugin, "name": item.name}
    config |= _router(item.router) if item.router is not None else {}
    return {"spec": {"config": json.dumps(config, sort_keys=True, separators=(",", ":"))}}


def _router(router: EgressRouter) -> dict[str, Any]:
    args = {"master": router.parent, "mode": router.mode, "mtu": str(router.mtu_bytes or "")}
    return {
        "interfaceType": router.interface,
        "interfaceArgs": {key: text for key, text in args.items() if text},
        "ip": {
            "addresses": [str(router.address)],
            "destinations": [destination_text(each) for each in router.redirects],
            "gateway": str(router.gateway),
        },
    }


def destination_text(redirect: Redirect) -> str:
    """A destination as 15.12.1 writes it: ``192.168.12.91/32``, ``80 tcp 192.168.12.91 8080``."""
    if redirect.protocol is None:
        return str(redirect.address.host)
    target = f" {redirect.target_port}" if redirect.target_port else ""
    return f"{redirect.port} {redirect.protocol.lower()} {redirect.address}{target}"


def networks_text(attachments: tuple[Attachment, ...]) -> str:
    """The annotation of a pod."""
    return ",".join(
        f"{each.namespace}/{each.network}" + (f"@{each.interface}" if each.interface else "") for each in attachments
    )
