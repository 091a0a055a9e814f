"""Between manifests and the wire: the kinds of the API, and their messages from and to Kubernetes-shaped manifests.

Server and clients share this; it knows neither of them, nor the core, and reads a manifest only as far as its shape:
what values mean is decided where objects are accepted.
"""

from ovnk_wire.fault import WireError
from ovnk_wire.kinds import KINDS, Kind, body_of, find_kind, kind_named, kind_of, reference_of
from ovnk_wire.manifest import from_manifest, single_fields, to_manifest
from ovnk_wire.path import manifest_path, wire_path
from ovnk_wire.unknown import unknown_field

__all__ = [
    "KINDS",
    "Kind",
    "WireError",
    "body_of",
    "find_kind",
    "from_manifest",
    "kind_named",
    "kind_of",
    "manifest_path",
    "reference_of",
    "single_fields",
    "to_manifest",
    "unknown_field",
    "wire_path",
]
