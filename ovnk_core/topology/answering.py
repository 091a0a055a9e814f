"""Which pods answer clients outside whom no gateway hides: endpoints of Services with externalTrafficPolicy Local.

What they answer must leave by the gateway that the connection came in by, whatever else is said of their packets.
"""

from __future__ import annotations

from ovnk_core.engine.table import SetTable
from ovnk_core.terms.address import Address
from ovnk_core.terms.port import Transport
from ovnk_core.terms.struct import Key


class Answering(Key, frozen=True, order=True, cache_hash=True):
    """The port such answers come from."""

    protocol: Transport
    port: int


ANSWERING = SetTable[Address, Answering]("answering")
"""By the endpoint's address."""
