"""Asking nodes for their health over gRPC, where somebody serves it there."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ovnk_core.runtime.reachability import Dial
from ovnk_core.terms.address import Address

_SERVING = health_pb2.HealthCheckResponse.SERVING
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
"""Each question makes a connection of its own: one that backs off after a failure would miss a node's return."""


def health_dial(port: int) -> Dial:
    """Asks ``grpc.health.v1`` at this port; a node answers when it says SERVING."""

    async def dial(address: Address, timeout_s: float) -> bool | None:
        host = f"[{address}]" if address.family == 6 else str(address)
        try:
            async with (
                asyncio.timeout(timeout_s),
                grpc.aio.insecure_channel(f"{host}:{port}", options=_OPTIONS) as channel,
            ):
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        except (TimeoutError, grpc.aio.AioRpcError):
            return False
        return bool(answer.status == _SERVING)

    return dial
