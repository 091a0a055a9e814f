"""An egress firewall's accepted version as a record in parts, so that editing one of 8,000 rules rewrites one part.

The list is cut where a rule's own text says so (content-defined), hence equal stretches of two versions are equal parts
whatever was inserted before them, and the record is a function of the object. About 64 rules, 4 KiB, make a part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any
from zlib import crc32

from ovnk_core.model.egress_firewall import EgressFirewall, FirewallRule
from ovnk_core.model.manifest import manifest, rule_manifest

_CUT_EVERY = 64
_LONGEST_PART = 512
_ID_LENGTH = 16


def firewall_record(item: EgressFirewall) -> dict[str, str]:
    """Suffix of the record's key -> text. The empty suffix holds the manifest without its rules, and the order of the
    parts; ``/ID`` holds a part, a JSON list of rules."""
    head: dict[str, Any] = manifest(
        EgressFirewall(name=item.name, namespace=item.namespace, uid=item.uid, created=item.created)
    )
    found: dict[str, str] = {}
    order: list[str] = []
    part: list[str] = []
    for index, rule in enumerate(item.rules):
        text, is_cut = _rule(rule)
        part.append(text)
        if is_cut or len(part) == _LONGEST_PART or index == len(item.rules) - 1:
            content = f"[{','.join(part)}]"
            name = sha256(content.encode()).hexdigest()[:_ID_LENGTH]
            found[f"/{name}"] = content
            order.append(name)
            part = []
    head["spec"] = {"egress": order}
    return {"": json.dumps(head, sort_keys=True, separators=(",", ":")), **found}


def joined_record(texts: Mapping[str, str]) -> str:
    """The inverse: suffix -> text, back into one manifest as JSON text. Empty when a part is missing or damaged."""
    try:
        head = json.loads(texts[""])
        parts = [json.loads(texts[f"/{name}"]) for name in head["spec"]["egress"]]
        head["spec"]["egress"] = [rule for part in parts for rule in part]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ""
    return json.dumps(head)


@lru_cache(maxsize=1 << 16)
def _rule(rule: FirewallRule) -> tuple[str, bool]:
    """A rule's text, and whether a part ends after it."""
    text = json.dumps(rule_manifest(rule), sort_keys=True, separators=(",", ":"))
    return text, crc32(text.encode()) % _CUT_EVERY == 0
