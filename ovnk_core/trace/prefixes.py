"""An address set as the flow tracer asks it: is this address in it?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ovnk_core.terms.address import BITS, Cidr, parse_address, parse_cidr


class Prefixes:
    """An address set read once: whether it holds an address costs one lookup per prefix length in it."""

    def __init__(self, members: Iterable[Any]) -> None:
        self._networks: dict[tuple[int, int], set[int]] = {}
        for text in members:
            block = _block(str(text))
            shift = BITS[block.family] - block.prefix
            self._networks.setdefault((block.family, shift), set()).add(block.value >> shift)

    def contains(self, family: int, value: int) -> bool:
        return any(value >> shift in networks for (mine, shift), networks in self._networks.items() if mine == family)


def _block(text: str) -> Cidr:
    return parse_cidr(text)[0] if "/" in text else parse_address(text).host
