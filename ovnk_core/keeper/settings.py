"""What a keeper is told."""

from __future__ import annotations

from ovnk_core.runtime.reachability import ProberSettings
from ovnk_core.runtime.resolver import ResolverSettings
from ovnk_core.terms.struct import Value
from ovnk_core.topology.place import Settings


class KeeperSettings(Value, frozen=True, kw_only=True):
    """``holder`` names this server to the others. ``history_changes`` and ``history_bytes`` bound what watches and
    pages can go back to, looked at every ``housekeeping_s``. ``take_over``: write although a server on another store
    had the last turn. The rest as for ``ControlPlane``."""

    holder: str = "ovnk"
    cluster: Settings | None = None
    adopt: bool = False
    allow_prune: bool = False
    take_over: bool = False
    timeout_s: float = 30.0
    resolver: ResolverSettings | None = None
    prober: ProberSettings | None = None
    history_changes: int = 100_000
    history_bytes: int = 256 << 20
    housekeeping_s: float = 30.0
