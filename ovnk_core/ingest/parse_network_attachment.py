"""NetworkAttachmentDefinition: of an egress router's configuration all, of any other the plug-in's name.

``spec.config`` is JSON inside the manifest: an error names the field and the path inside (``spec.config:
ip.addresses[0]``). Only an egress router's configuration is read; what other plug-ins make of theirs is theirs.
Source: manual 15.11.1.1, 15.12.1, 15.12.2; the plug-in's configuration reference (docs/sources.md). The plug-in passes
over what it does not know and fails when a pod starts; we say it when the object is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ovnk_core.errors import LimitError, ObjectError, SchemaError
from ovnk_core.ingest.json_reader import read_json
from ovnk_core.ingest.metadata import Metadata
from ovnk_core.ingest.position import Path, path_text
from ovnk_core.ingest.report import UNSET, Report
from ovnk_core.ingest.yaml_reader import Unreadable
from ovnk_core.model.egress_router import (
    PLUGIN,
    EgressRouter,
    InterfaceType,
    NetworkAttachmentDefinition,
    Redirect,
    is_interface_name,
)
from ovnk_core.terms.address import Address, Family, InterfaceAddress, parse_address, parse_cidr, parse_interface
from ovnk_core.terms.port import PORT_MAX, PORT_MIN, Transport

_CONFIG: Path = ("spec", "config")
_CNI_KEYS = ("cniVersion", "name", "type", "dns", "capabilities", "args", "disableCheck", "runtimeConfig", "prevResult")
_ROUTER_KEYS = ("interfaceType", "interfaceArgs", "ip", "podIP", "ipConfig", "mode", "log_file", "log_level")
_IP_KEYS = ("addresses", "destinations", "gateway")
_MODES: dict[InterfaceType, tuple[str, ...]] = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}
_LOG_LEVELS = ("debug", "verbose", "warning", "error", "panic")
_PROXIES = ("http", "http-proxy", "dns", "dns-proxy")
_REDIRECT_ONLY = "the egress router CNI plug-in does not support HTTP proxy mode or DNS proxy mode (15.11.1.1)"
_FORMS = "write ADDRESS, PORT PROTOCOL ADDRESS or PORT PROTOCOL ADDRESS REMOTEPORT"
_TRANSPORTS: dict[str, Transport] = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
_MTU_MIN: dict[Family, int] = {4: 68, 6: 1280}
_MTU_MAX = 65_535
"""RFC 791, RFC 8200; Linux takes no more."""
_LINK_LOCAL = parse_cidr("fe80::/10")[0]


class _Inside(Report):
    """Problems inside ``spec.config``, recorded in the object's report."""

    def __init__(self, outer: Report) -> None:
        super().__init__(outer.kind, outer.name, outer.positions)
        self.outer = outer

    def refuse(
        self,
        path: Path,
        reason: str,
        *,
        value: Any = UNSET,
        fix: str = "",
        error: type[ObjectError] = SchemaError,
        source: str = "",
    ) -> None:
        text = f"{path_text(path)}: {reason}" if path else reason
        self.outer.refuse(_CONFIG, text, value=value, fix=fix, error=error, source=source)

    def warn(self, path: Path, text: str) -> None:
        self.outer.warn(_CONFIG, f"{path_text(path)}: {text}" if path else text)


def parse_network_attachment(report: Report, raw: Mapping[str, Any], meta: Metadata) -> NetworkAttachmentDefinition:
    """k8s.cni.cncf.io/v1 NetworkAttachmentDefinition -> the model."""
    spec = report.mapping(raw, (), "spec")
    text = report.text(spec, ("spec",), "config")
    plugin, router = _configuration(report, text) if text else ("", None)
    return NetworkAttachmentDefinition(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, created=meta.created, plugin=plugin, router=router
    )


def _configuration(outer: Report, text: str) -> tuple[str, EgressRouter | None]:
    report = _Inside(outer)
    document = read_json(text, "")
    if isinstance(document, Unreadable):
        line = f" (line {document.source[1:]} of the text)" if document.source else ""
        report.refuse((), f"{document.reason}{line}")
        return "", None
    for problem in document.problems:
        report.refuse(problem.path, problem.reason, fix=problem.fix)
    config = report.as_mapping(document.value, ())
    if not isinstance(document.value, dict):
        return "", None
    plugins = report.items(config, (), "plugins")
    kinds = [_plugin(report, entry, ("plugins", index)) for index, entry in enumerate(plugins)]
    if PLUGIN in kinds:
        at: Path = ("plugins", kinds.index(PLUGIN))
        report.refuse(at, "an egress router is no part of a list of plug-ins", fix="write its configuration by itself")
    if plugins:
        return kinds[0], None
    plugin = _plugin(report, config, ())
    return plugin, _read_router(report, config) if plugin == PLUGIN else None


def _plugin(report: Report, entry: Any, path: Path) -> str:
    raw = report.as_mapping(entry, path)
    if isinstance(entry, dict) and not raw.get("type"):
        report.refuse((*path, "type"), "missing: it names the plug-in")
    return report.text(raw, path, "type")


# ------------------------------------------------------------------------------------------- the egress router


def _read_router(report: Report, config: Mapping[str, Any]) -> EgressRouter | None:
    report.known(config, (), (*_CNI_KEYS, *_ROUTER_KEYS))
    mode = report.text(config, (), "mode").lower()
    if mode in _PROXIES:
        report.refuse(("mode",), _REDIRECT_ONLY, value=config["mode"], fix="leave mode out, or write redirect")
    elif mode not in ("", "redirect"):
        report.refuse(("mode",), "unknown mode: there is redirect only", value=config["mode"])
    report.text(config, (), "log_file")
    level = report.text(config, (), "log_level")
    if level and level.lower() not in _LOG_LEVELS:
        report.refuse(("log_level",), f"must be one of {', '.join(_LOG_LEVELS)}", value=level)
    interface = _interface(report, config)
    others = [key for key in ("podIP", "ipConfig") if config.get(key) is not None]
    for key in others:
        # The plug-in's documents describe both, its code reads neither, and the pod fails to start.
        report.refuse((key,), "the plug-in takes its addresses from ip alone", fix="write a definition for each pod")
    if config.get("ip") is None:
        if not others:
            report.refuse(("ip",), "missing")
        return None
    return _router(report, report.mapping(config, (), "ip"), interface)


class _Interface(NamedTuple):
    """The second interface, as ``EgressRouter`` has it."""

    interface: InterfaceType
    parent: str
    mode: str
    mtu_bytes: int


def _interface(report: Report, config: Mapping[str, Any]) -> _Interface:
    word = report.text(config, (), "interfaceType", "macvlan")
    args = report.mapping(config, (), "interfaceArgs")
    kind: InterfaceType = "ipvlan" if word == "ipvlan" else "macvlan"
    if word not in _MODES:
        report.refuse(("interfaceType",), "must be macvlan or ipvlan", value=word)
    report.known(args, ("interfaceArgs",), ("master", "mode", "mtu"))
    parent, mode = report.text(args, ("interfaceArgs",), "master"), report.text(args, ("interfaceArgs",), "mode")
    if parent and not is_interface_name(parent):
        report.refuse(("interfaceArgs", "master"), "not an interface name", value=parent)
    if mode and mode not in _MODES[kind]:
        reason = f"unknown mode of {kind}: there are {', '.join(_MODES[kind])}"
        report.refuse(("interfaceArgs", "mode"), reason, value=mode)
    if kind == "ipvlan":
        report.warn(("interfaceType",), "the plug-in's documents name ipvlan, its code makes macvlan alone")
    return _Interface(kind, parent, mode, _mtu(report, report.text(args, ("interfaceArgs",), "mtu")))


def _mtu(report: Report, text: str) -> int:
    """0 where none is said, or it is refused. The plug-in's arguments are texts."""
    if not text:
        return 0
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
    if not _MTU_MIN[4] <= number <= _MTU_MAX:
        reason = f"must be a number of bytes from {_MTU_MIN[4]} to {_MTU_MAX}"
        report.refuse(("interfaceArgs", "mtu"), reason, value=text, error=LimitError)
        return 0
    return number


def _router(report: Report, raw: Mapping[str, Any], interface: _Interface) -> EgressRouter | None:
    path: Path = ("ip",)
    report.known(raw, path, _IP_KEYS)
    address = _address(report, report.items(raw, path, "addresses"), (*path, "addresses"))
    gateway = None
    if raw.get("gateway") is None:
        # The plug-in's documents promise to find it; its code does not, and the pod fails to start.
        report.refuse((*path, "gateway"), "missing: the pod's default route needs it")
    else:
        gateway = report.address(raw["gateway"], (*path, "gateway"))
    if address is None:
        return None
    if gateway is not None:
        _check_gateway(report, address, gateway, (*path, "gateway"))
    redirects: list[Redirect] = []
    for index, entry in enumerate(report.items(raw, path, "destinations")):
        at = (*path, "destinations", index)
        found = _destination(report, entry, at, address)
        if found is None:
            continue
        if any(each.port in (0, found.port) and each.protocol in (None, found.protocol) for each in redirects):
            report.warn(at, "is never reached: a destination before it takes all that this one would")
        redirects.append(found)
    if not redirects and not raw.get("destinations"):
        report.warn((*path, "destinations"), "none: connections to the pod are not redirected")
    if gateway is None:
        return None
    if address.family == 6 and 0 < interface.mtu_bytes < _MTU_MIN[6]:
        reason = f"IPv6 needs {_MTU_MIN[6]} bytes"
        report.refuse(("interfaceArgs", "mtu"), reason, value=str(interface.mtu_bytes), error=LimitError)
    return EgressRouter(address=address, gateway=gateway, redirects=tuple(redirects), **interface._asdict())


def _address(report: Report, entries: list[Any], path: Path) -> InterfaceAddress | None:
    if len(entries) != 1:
        reason = "a single IP address in CIDR notation must be given (15.12.1)"
        if entries:
            written = ", ".join(each for each in entries if isinstance(each, str))
            report.refuse(path, f"{reason}, not {len(entries)}", value=written)
        else:
            report.refuse(path, f"missing: {reason}")
        return None
    found = report.interface(entries[0], (*path, 0))
    if found is None:
        return None
    fault = host_fault(found)
    if fault:
        report.refuse((*path, 0), fault, value=entries[0])
        return None
    return found


def host_fault(interface: InterfaceAddress) -> str:
    """Why no host can have the address in its subnet; empty when one can."""
    subnet, address = interface.subnet, interface.address
    if _is_special(address):
        return "is no address of a host"
    if subnet.size > 2 and address.value == subnet.value:
        return f"is the network address of {subnet}"
    if subnet.size > 2 and address.family == 4 and address.value == subnet.last:
        return f"is the broadcast address of {subnet}"
    return ""


def _is_special(address: Address) -> bool:
    """Unspecified, loopback, multicast, or reserved above it."""
    if address.family == 4:
        first = address.value >> 24
        return first in (0, 127) or first >= 224
    return address.value in (0, 1) or address.value >> 120 == 0xFF


def _check_gateway(report: Report, address: InterfaceAddress, gateway: Address, path: Path) -> None:
    subnet = address.subnet
    # What an IPv6 router announces itself by: the route to it names the interface.
    is_on_link = subnet.contains(gateway) or _LINK_LOCAL.contains(gateway)
    if not is_on_link:
        report.refuse(path, f"outside the subnet {subnet} of the address", value=str(gateway))
    elif gateway == address.address:
        report.refuse(path, "is the router's own address", value=str(gateway))
    elif fault := host_fault(InterfaceAddress(gateway, address.prefix)):
        report.refuse(path, fault, value=str(gateway))


def _destination(report: Report, entry: Any, path: Path, address: InterfaceAddress) -> Redirect | None:
    words = report.as_text(entry, path).split()
    if not isinstance(entry, str):
        return None
    if len(words) not in (1, 3, 4):
        report.refuse(path, "not a destination", value=entry, fix=_FORMS)
        return None
    place = words[0] if len(words) == 1 else words[2]
    found = _place(report, place, path)
    if found is not None and found.family != address.family:
        report.refuse(path, f"is IPv{found.family}, the router's address IPv{address.family}", value=entry)
    elif found is not None and (_is_special(found) or found == address.address):
        report.refuse(path, "no connection can be redirected there", value=entry)
    if len(words) == 1:
        return None if found is None else Redirect(address=found)
    protocol = _TRANSPORTS.get(words[1].lower())
    if protocol is None:
        report.refuse(path, "the protocol must be tcp, udp or sctp", value=words[1], fix=_FORMS)
    ports = [_port(report, word, path) for word in (words[0], *words[3:])]
    if found is None or protocol is None or 0 in ports:
        return None
    return Redirect(address=found, protocol=protocol, port=ports[0], target_port=ports[1] if len(ports) > 1 else 0)


def _place(report: Report, text: str, path: Path) -> Address | None:
    try:
        if "/" not in text:
            return parse_address(text)
        found = parse_interface(text)
    except ValueError as reason:
        report.refuse(path, str(reason), value=text, fix=_FORMS)
        return None
    if found.subnet.size > 1:
        report.warn(path, f"the mask of {text} means nothing: connections are redirected to {found.address} alone")
    return found.address


def _port(report: Report, word: str, path: Path) -> int:
    """0 when refused. The plug-in takes 0, to which nothing can connect."""
    number = int(word) if word.isascii() and word.isdigit() and len(word) <= 6 else -1
    if not PORT_MIN <= number <= PORT_MAX:
        reason = f"a port must be a number from {PORT_MIN} to {PORT_MAX}"
        report.refuse(path, reason, value=word, error=LimitError, fix="" if number >= 0 else _FORMS)
        return 0
    return number
