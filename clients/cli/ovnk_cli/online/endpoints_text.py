"""Who serves a Service, as kubectl describes it: the parts of EndpointSlices and Endpoints, and the endpoints of a
Service's ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ovnk_cli.online.columns import NONE, UNSET, Manifest, at, some
from ovnk_cli.output import aligned

SERVICE_NAME = "kubernetes.io/service-name"


def slice_lines(manifest: Manifest) -> Iterator[str]:
    """An EndpointSlice below its head."""
    yield f"{'AddressType:':<16}{manifest.get('addressType') or UNSET}"
    yield from _port_lines(manifest.get("ports"), "")
    endpoints = manifest.get("endpoints") or ()
    yield "Endpoints:" if endpoints else f"{'Endpoints:':<16}{NONE}"
    for each in endpoints:
        yield f"  - Addresses:  {','.join(each.get('addresses') or ()) or NONE}"
        yield "    Conditions:"
        for name in ("ready", "serving", "terminating"):
            said = at(each, "conditions", name)
            yield f"      {name.capitalize() + ':':<13}{UNSET if said is None else str(said).lower()}"
        yield f"    Hostname:   {each.get('hostname') or UNSET}"
        yield f"    TargetRef:  {_target(each) or UNSET}"
        yield f"    NodeName:   {each.get('nodeName') or UNSET}"
        yield f"    Zone:       {each.get('zone') or UNSET}"


def endpoints_lines(manifest: Manifest) -> Iterator[str]:
    """Endpoints below their head: kubectl's layout, and for each address the node and the pod."""
    subsets = manifest.get("subsets") or ()
    yield "Subsets:" if subsets else f"{'Subsets:':<16}{NONE}"
    for subset in subsets:
        for title, key in (("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")):
            yield f"  {title + ':':<20}{','.join(each.get('ip', '') for each in subset.get(key) or ()) or NONE}"
            for each in subset.get(key) or ():
                whose = [f"node {each['nodeName']}"] if each.get("nodeName") else []
                whose += [target] if (target := _target(each)) else []
                if whose:
                    yield f"    {each.get('ip', '')}: {', '.join(whose)}"
        yield from _port_lines(subset.get("ports"), "  ")


def _target(endpoint: Mapping[str, Any]) -> str:
    found = endpoint.get("targetRef") or {}
    return "/".join(filter(None, (found.get("kind"), found.get("namespace"), found.get("name"))))


def _port_lines(ports: Sequence[Mapping[str, Any]] | None, space: str) -> Iterator[str]:
    if not ports:
        yield f"{space}{'Ports:':<16}{UNSET}"
        return
    cells = [["Name", "Port", "Protocol"], ["----", "----", "--------"]]
    cells += [[p.get("name") or UNSET, str(p.get("port") or UNSET), p.get("protocol") or "TCP"] for p in ports]
    yield f"{space}Ports:"
    yield from (f"{space}  {line}" for line in aligned(cells, [])[0])


def service_endpoints(
    service: Manifest, slices: Iterable[Manifest], endpoints: Iterable[Manifest]
) -> Iterator[tuple[str, str]]:
    """(port, ADDRESS:PORT of each ready endpoint) of a Service; from its Endpoints where it has no slice."""
    name = at(service, "metadata", "name")
    own = [each for each in slices if (at(each, "metadata", "labels") or {}).get(SERVICE_NAME) == name]
    groups: list[tuple[list[str], Sequence[Mapping[str, Any]]]] = []
    for each in own:
        ready = [one for one in each.get("endpoints") or () if at(one, "conditions", "ready") is not False]
        groups.append(([one["addresses"][0] for one in ready if one.get("addresses")], each.get("ports") or ()))
    for each in () if own else (one for one in endpoints if at(one, "metadata", "name") == name):
        for subset in each.get("subsets") or ():
            groups.append(([one.get("ip", "") for one in subset.get("addresses") or ()], subset.get("ports") or ()))
    for port in at(service, "spec", "ports") or ():
        found = [
            f"[{address}]:{listening['port']}" if ":" in address else f"{address}:{listening['port']}"
            for addresses, ports in groups
            for listening in ports
            if listening.get("port") and _is_for(port, listening)
            for address in addresses
        ]
        yield (
            port.get("name") or f"{port.get('port')}/{port.get('protocol') or 'TCP'}",
            some(list(dict.fromkeys(found)), NONE),
        )


def _is_for(port: Mapping[str, Any], listening: Mapping[str, Any]) -> bool:
    is_named = not port.get("name") or port.get("name") == listening.get("name")
    return is_named and (port.get("protocol") or "TCP") == (listening.get("protocol") or "TCP")
