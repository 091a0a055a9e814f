"""What the service has to know of each RPC before it is called: how long, how large, and whether it changes anything.

A method that is not named here is a read: short, small, and open to whoever is let in by its handler.
"""

from __future__ import annotations

from typing import Literal

from ovnk_core.terms.struct import Value

PACKAGE = "ovnk_api.v1"
Pace = Literal["call", "batch", "stream"]
"""Which limit of time: ``limits.call_s``, ``limits.batch_s``, or none."""

_BATCH = (
    "ObjectService/Apply",
    "ObjectService/Delete",
    "TraceService/Diff",
    "NorthboundService/WaitRevision",
    "EgressIPService/Rebalance",
    "EgressIPService/DrainNode",
)
_LARGE = ("ObjectService/Apply", "SyncService/Sync")
_CHANGES = (
    "ObjectService/Apply",
    "ObjectService/Delete",
    "SyncService/Sync",
    "DnsService/PushAnswers",
    "CertificateService/SignCertificate",
    "CertificateService/RotateAuthority",
    "EgressIPService/Rebalance",
    "EgressIPService/ReportReachability",
    "EgressIPService/DrainNode",
    "EgressIPService/UndrainNode",
)
_JUDGING = ("SyncService/Sync",)
_OPEN = ("grpc.health.v1.", "grpc.reflection.")
_FOR_EVERYBODY = (*_OPEN, f"{PACKAGE}.InfoService/")


class Method(Value, frozen=True, kw_only=True):
    """One RPC. ``name`` is ``ovnk_api.v1.ObjectService/Get``. ``is_open``: answered in every state of the server.
    ``needs_rule``: answered only to those whom a rule names, however little it allows them.
    ``is_judging``: its handler says itself what becomes of fields that are not known; of others the gate refuses them.
    """

    name: str
    pace: Pace
    is_large: bool
    is_change: bool
    is_open: bool
    needs_rule: bool
    is_judging: bool

    @property
    def is_reflection(self) -> bool:
        return self.name.startswith("grpc.reflection.")

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(f"{PACKAGE}.")


def method_of(path: str, *, is_stream: bool) -> Method:
    """``/ovnk_api.v1.ObjectService/Get`` -> what is known of it."""
    name = path.removeprefix("/")
    short = name.removeprefix(f"{PACKAGE}.")
    return Method(
        name=name,
        pace="stream" if is_stream else "batch" if short in _BATCH else "call",
        is_large=short in _LARGE,
        is_change=short in _CHANGES,
        is_open=name.startswith(_OPEN),
        needs_rule=not name.startswith(_FOR_EVERYBODY),
        is_judging=not name.startswith(f"{PACKAGE}.") or short in _JUDGING,
    )
