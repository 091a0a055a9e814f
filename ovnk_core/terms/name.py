"""Names: who owns what, and the hashed names OVN rows carry.

``ObjectRef`` is the identity of a declared object. ``hashed_name`` gives the names that OVN-Kubernetes uses for
address sets and port groups, so that a reader of ``ovn-nbctl`` finds what they know (ADR 0004).
"""

from __future__ import annotations

from functools import lru_cache

from ovnk_core.terms.struct import Key

FNV64_OFFSET, FNV64_PRIME, FNV64_MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
DEFAULT_CONTROLLER = "default-network-controller"


class NamespacedName(Key, frozen=True, order=True, cache_hash=True):
    """namespace + name; cluster-scoped objects have an empty namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ObjectRef(Key, frozen=True, order=True, cache_hash=True):
    """kind + namespace + name: how users and every report name an object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def key(self) -> NamespacedName:
        return NamespacedName(self.namespace, self.name)


def fnv1a_64(text: str) -> int:
    """FNV-1a, 64 bit, over the UTF-8 bytes of ``text``."""
    digest = FNV64_OFFSET
    for byte in text.encode():
        digest = ((digest ^ byte) * FNV64_PRIME) & FNV64_MASK
    return digest


@lru_cache(maxsize=65536)
def hashed_name(*parts: str) -> str:
    """``a`` + decimal FNV-1a-64 of ``<controller>:<part>:<part>...``.

    OVN's match language needs a letter first, and names of namespaces may not be valid there.
    """
    return f"a{fnv1a_64(':'.join((DEFAULT_CONTROLLER, *parts)))}"
