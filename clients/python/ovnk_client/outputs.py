"""What nodes and pods are told of their place: for adapters that write it back to where they are declared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING

import grpc
from ovnk_api.v1.output_service_pb2 import (
    ListOutputsRequest,
    Output,
    OutputsResync,
    WatchOutputsRequest,
    WatchOutputsResponse,
)
from ovnk_api.v1.output_service_pb2_grpc import OutputServiceStub

from ovnk_client.connection import Backoff, Connection, is_passing
from ovnk_client.errors import ClientError, Unavailable, error_of

if TYPE_CHECKING:
    # Names of the type checker's only: the stub of an asynchronous channel is the same class.
    from ovnk_api.v1.output_service_pb2_grpc import OutputServiceAsyncStub


class OutputCalls(Connection):
    """What a client asks of OutputService."""

    @property
    def _outputs(self) -> OutputServiceAsyncStub:
        return OutputServiceStub(self.channel)

    async def outputs(self, kind: str = "", *, namespace: str = "") -> AsyncIterator[Output]:
        """Annotations to write back, and settings of nodes. ``kind``: Node, Pod, or empty for both."""
        request = ListOutputsRequest(kind=kind, namespace=namespace)
        while True:
            page = await self.ask(self._outputs.ListOutputs, request)
            for each in page.outputs:
                yield each
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch_outputs(
        self, kind: str = "", *, namespace: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchOutputsResponse]]:
        """``async with client.watch_outputs("Node") as events: async for event in events: ...``: all outputs,
        ``synced``, then every change, for ever.

        After a lost connection, as after a watch that was too slow: ``resync`` (forget what you know), and all over
        again. The first attempt is as patient as the connection. Raises a ClientError that waiting cannot mend.
        """
        return aclosing(self._watched(kind, namespace))

    async def _watched(self, kind: str, namespace: str) -> AsyncGenerator[WatchOutputsResponse]:
        request, backoff, is_first = WatchOutputsRequest(kind=kind, namespace=namespace), Backoff(), True
        now = asyncio.get_running_loop().time
        gives_up_s = now() + (self.patience_s or self.deadline_s)
        while True:
            call = self._outputs.WatchOutputs(request)
            error: ClientError = Unavailable(f"{self.address}: the server ended the watch")
            try:
                async for response in call:
                    is_first, backoff = False, Backoff()
                    yield response
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure, self.address)
            finally:
                call.cancel()
            if not is_passing(error) or (is_first and now() >= gives_up_s):
                raise await self.explained(error) from error
            await asyncio.sleep(backoff.pause_s(error.retry_after_s))
            if not is_first:
                yield WatchOutputsResponse(resync=OutputsResync())
