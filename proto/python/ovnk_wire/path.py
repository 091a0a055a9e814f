"""Field paths: as a manifest writes them, and as the messages do.

``spec.egress[41].to.cidrSelector`` in a manifest is ``spec.egress[41].to.cidr_selector`` in its message. Both are cut
at dots and brackets; what stands below a map's key (an annotation that holds JSON) or is no field is kept as it is.
"""

from __future__ import annotations

import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ovnk_wire.kinds import Kind

_STEP = re.compile(r"\.?(?P<name>[^.\[\]]+)|\[[0-9]+\]")


def wire_path(kind: Kind, path: str) -> str:
    """A path in a manifest of ``kind`` -> the same in its message. Unknown fields stay as they are."""
    return _renamed(kind.descriptor, path, is_to_wire=True)


def manifest_path(kind: Kind, path: str) -> str:
    """The other way round."""
    return _renamed(kind.descriptor, path, is_to_wire=False)


def _renamed(descriptor: Descriptor, path: str, *, is_to_wire: bool) -> str:
    owner: Descriptor | None = descriptor
    text, at = "", 0
    while owner is not None and (step := _STEP.match(path, at)):
        if step["name"] is None:
            text += step[0]
        else:
            field = _field(owner, step["name"], is_to_wire=is_to_wire)
            if field is None:
                break
            text += ("." if text else "") + (field.name if is_to_wire else field.json_name)
            owner = None if is_map(field) else field.message_type
        at = step.end()
    return text + path[at:]


def _field(owner: Descriptor, name: str, *, is_to_wire: bool) -> FieldDescriptor | None:
    return next((field for field in owner.fields if name == (field.json_name if is_to_wire else field.name)), None)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
