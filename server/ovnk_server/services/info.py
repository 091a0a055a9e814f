"""InfoService: versions, limits, features. Whoever is let in may ask."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from google.protobuf.duration_pb2 import Duration
from ovnk_api.v1 import info_service_pb2 as wire
from ovnk_api.v1 import info_service_pb2_grpc
from ovnk_wire import KINDS

from ovnk_core.errors import Unreachable
from ovnk_core.keeper.proposal import REQUEST_TTL_S
from ovnk_core.keeper.watching import MAX_LAG
from ovnk_core.model.egress_firewall import MAX_RULES
from ovnk_core.northbound.port import Northbound
from ovnk_server.convert import DEFAULT_PAGE, MAX_ITEMS, MAX_PAGE
from ovnk_server.services.features import FEATURES
from ovnk_server.settings import ServerSettings


class InfoService(info_service_pb2_grpc.InfoServiceServicer):
    """About one northbound and the settings it is served with."""

    def __init__(self, northbound: Northbound, settings: ServerSettings) -> None:
        self._northbound, self._settings = northbound, settings

    async def GetInfo(self, request: wire.GetInfoRequest, context: Any) -> wire.GetInfoResponse:
        return wire.GetInfoResponse(
            versions=wire.Versions(
                product=version("ovnk"),
                api="v1",
                northbound_schema=self._schema_version(),
                python=platform.python_version(),
            ),
            limits=self._limits(),
            server=self._settings.holder,
            store=self._settings.store.partition(":")[0],
            kinds=[kind.name for kind in KINDS],
        )

    def _schema_version(self) -> str:
        try:
            return self._northbound.schema.version
        except Unreachable:
            return ""

    def _limits(self) -> wire.Limits:
        limits = self._settings.limits
        return wire.Limits(
            firewall_rules=MAX_RULES,
            batch_items=MAX_ITEMS,
            receive_bytes=limits.large_message_bytes,
            default_page_size=DEFAULT_PAGE,
            max_page_size=MAX_PAGE,
            watch_lag=MAX_LAG,
            request_id_ttl=Duration(seconds=REQUEST_TTL_S),
            concurrent_calls=limits.calls,
        )

    async def ListFeatures(self, request: wire.ListFeaturesRequest, context: Any) -> wire.ListFeaturesResponse:
        return wire.ListFeaturesResponse(
            features=[
                wire.Feature(
                    name=each.name,
                    support=(
                        wire.SUPPORT_PLANNED
                        if not each.is_built
                        else wire.SUPPORT_PARTIAL
                        if each.is_partial
                        else wire.SUPPORT_FULL
                    ),
                    note=each.note,
                    room=each.room if each.is_built else "",
                )
                for each in FEATURES
            ]
        )
