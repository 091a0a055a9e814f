"""An egress firewall's accepted version as a record in parts, so that editing one of 8,000 rules rewrites one part.

The list is cut where a rule's own text says so (content-defined), hence equal stretches of two versions are equal parts
whatever was inserted before them, and the record is a function of the object. About 64 rules, 4 KiB, make a part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Any
from zlib import crc32

from msgspec.structs import replace

from ovnk_core.model.egress_firewall import EgressFirewall, FirewallRule
from ovnk_core.model.manifest import manifest, rule_manifest

_CUT_EVERY = 64
_LONGEST_PART = 512
_ID_LENGTH = 16


def firewall_record(item: EgressFirewall) -> dict[str, str]:
    """Suffix of the record's key -> text. The empty suffix holds the manifest without its rules, and the order of the
    parts; ``/ID`` holds a part, a JSON list of rules."""
    head: dict[str, Any] = manifest(replace(item, rules=()))
    texts = list(map(_text, item.rules))
    cuts = [index for index, is_cut in enumerate(map(_is_cut, item.rules), 1) if is_cut]
    edges = [0, *cuts, len(texts)]
    found: dict[str, str] = {}
    order: list[str] = []
    for first, last in pairwise(edges):
        for start in range(first, last, _LONGEST_PART):
            content = f"[{','.join(texts[start : min(last, start + _LONGEST_PART)])}]"
            name = sha256(content.encode()).hexdigest()[:_ID_LENGTH]
            found[f"/{name}"] = content
            order.append(name)
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
def _text(rule: FirewallRule) -> str:
    return json.dumps(rule_manifest(rule), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=1 << 16)
def _is_cut(rule: FirewallRule) -> bool:
    """Whether a part ends after the rule."""
    return crc32(_text(rule).encode()) % _CUT_EVERY == 0
