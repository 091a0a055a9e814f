"""The annotation by which a pod asks for secondary networks, as Multus reads it (15.12.2).

What cannot be read refuses the pod: Multus would not start it.
"""

from __future__ import annotations

from ovnk_core.ingest.json_reader import read_json
from ovnk_core.ingest.metadata import Metadata, annotation_path, is_label_name, is_subdomain, read_annotation
from ovnk_core.ingest.position import Path
from ovnk_core.ingest.report import Report
from ovnk_core.ingest.yaml_reader import Unreadable
from ovnk_core.model.egress_router import NETWORKS, Attachment, interface_names, is_interface_name


def read_attachments(report: Report, meta: Metadata) -> tuple[Attachment, ...]:
    """The secondary networks of a pod, in order: ``[NAMESPACE/]NAME[@INTERFACE], ...`` or a JSON list of objects."""
    text = (read_annotation(report, meta, NETWORKS) or "").strip()
    path = annotation_path(NETWORKS)
    if not text:
        return ()
    if text.startswith("["):
        entries = _listed(report, text, path)
    else:
        entries = [_spelled(part.strip()) for part in text.split(",")]
    found = []
    for namespace, network, interface in entries:
        shown = "/".join(each for each in (namespace, network) if each)
        if not is_subdomain(network) or not is_label_name(namespace or meta.namespace):
            report.refuse(path, "not the name of a network", value=shown, fix="write [NAMESPACE/]NAME[@INTERFACE]")
        elif interface and not is_interface_name(interface):
            report.refuse(path, "not an interface name", value=interface)
        else:
            found.append(Attachment(namespace=namespace or meta.namespace, network=network, interface=interface))
    names = interface_names(tuple(found))
    if "eth0" in names:
        report.refuse(path, "eth0 is the pod's interface on the cluster network", value=text)
    elif len(set(names)) < len(names):
        report.refuse(path, "two interfaces of one pod have the same name", value=text)
    return tuple(found)


def _spelled(text: str) -> tuple[str, str, str]:
    place, _, interface = text.partition("@")
    namespace, _, network = place.rpartition("/")
    return namespace.strip(), network.strip(), interface.strip()


def _listed(report: Report, text: str, path: Path) -> list[tuple[str, str, str]]:
    document = read_json(text, "")
    if isinstance(document, Unreadable):
        report.refuse(path, document.reason, value=text)
        return []
    found = []
    for index, entry in enumerate(document.value if isinstance(document.value, list) else ()):
        raw, at = report.as_mapping(entry, (*path, index)), (*path, index)
        if isinstance(entry, dict):
            found.append(
                (report.text(raw, at, "namespace"), report.text(raw, at, "name"), report.text(raw, at, "interface"))
            )
    return found
