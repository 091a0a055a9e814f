"""The audit: one line for each change that was asked for, whether it was made or not.

A line says when, who, from where, which method, which objects (at most ``MAX_REFS``), under which request id, what
became of it, at which revision, and a digest of the request as it came, so that what was asked can be told from what
was changed later. Contents are never written: manifests may hold what is nobody's business.

A Sync stream gets a line for each answer, about the statements that the answer takes in.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from ovnk_api.v1.certificate_service_pb2 import SignCertificateRequest
from ovnk_api.v1.dns_service_pb2 import PushAnswersRequest
from ovnk_api.v1.egress_ip_service_pb2 import DrainNodeRequest, ReportReachabilityRequest, UndrainNodeRequest
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.object_pb2 import Object
from ovnk_api.v1.object_service_pb2 import ApplyRequest, DeleteRequest
from ovnk_api.v1.sync_service_pb2 import SyncRequest, SyncResponse
from ovnk_wire import WireError, reference_of

MAX_REFS, MAX_NAME = 20, 253
LOGGER = logging.getLogger("ovnk.audit")


class Called(Protocol):
    """What a line says of the call."""

    identity: str
    peer: str
    name: str


class Audit:
    """Writes to the logger ``ovnk.audit``; where that leads is the log's matter."""

    def unary(self, call: Called, request: Any, digest: bytes, *, outcome: str, response: Any = None) -> None:
        """One change asked for. Trying out is no change and gets no line."""
        if getattr(request, "validate_only", False):
            return
        revision = getattr(response, "revision", 0)
        names = tuple(refs_of(request))
        self._write(call, names, digest, outcome=outcome, revision=revision, request_id=_request_id(request))

    def _write(
        self, call: Called, names: tuple[str, ...], digest: bytes, *, outcome: str, revision: int, request_id: str = ""
    ) -> None:
        LOGGER.info(
            "change",
            extra={
                "identity": call.identity,
                "peer": call.peer,
                "method": call.name,
                "objects": [name[:MAX_NAME] for name in names[:MAX_REFS]],
                "count": len(names),
                "revision": revision,
                "outcome": outcome,
                "request_id": request_id[:MAX_NAME],
                "digest": "sha256:" + digest.hex(),
            },
        )

    def stream(self, call: Called) -> SyncAudit:
        """One Sync."""
        return SyncAudit(self, call)


class SyncAudit:
    """Matches the statements of one stream with the answers to them."""

    def __init__(self, audit: Audit, call: Called) -> None:
        self._audit, self._call = audit, call
        self._source = ""
        self._open: deque[tuple[int, str, bytes]] = deque()

    def stated(self, request: SyncRequest, digest: bytes) -> None:
        """A statement was handed to the service."""
        statement: str = request.WhichOneof("statement") or ""
        if statement == "begin":
            self._source = request.begin.source
            statement += " allow_prune" if request.begin.allow_prune else ""
        if statement in ("put", "unreadable", "remove"):
            body = getattr(request, statement)
            name = _named(body.object) if statement == "put" else _ref(body.reference)
            self._open.append((request.sequence, f"{statement} {name}", digest))
        else:
            self._open.append((request.sequence, statement, digest))

    def answered(self, response: SyncResponse) -> None:
        """The statements up to one are durable."""
        taken: list[tuple[int, str, bytes]] = []
        while self._open and self._open[0][0] <= response.sequence:
            taken.append(self._open.popleft())
        if taken:
            self._write(taken, "OK", response.revision)

    def ended(self, outcome: str) -> None:
        """The stream is over; what was not answered may or may not be durable."""
        if self._open:
            self._write(list(self._open), outcome, 0)
            self._open.clear()

    def _write(self, taken: list[tuple[int, str, bytes]], outcome: str, revision: int) -> None:
        digest = hashlib.sha256(b"".join(each for _, _, each in taken)).digest()
        names = (f"source {self._source}", *(name for _, name, _ in taken))
        self._audit._write(self._call, names, digest, outcome=outcome, revision=revision)


def refs_of(request: Any) -> Iterable[str]:
    """What a request is about, as ``Pod/shop/web``."""
    if isinstance(request, ApplyRequest):
        yield from (_named(item.object) for item in request.items)
    elif isinstance(request, DeleteRequest):
        yield from (_ref(item.reference) for item in request.items)
    elif isinstance(request, PushAnswersRequest):
        yield from (f"DnsName/{answer.name}" for answer in request.answers)
    elif isinstance(request, SignCertificateRequest | DrainNodeRequest | UndrainNodeRequest):
        yield f"Node/{request.node}"
    elif isinstance(request, ReportReachabilityRequest):
        yield from (f"Node/{each.node}" for each in request.nodes)


def _named(item: Object) -> str:
    try:
        return _ref(reference_of(item))
    except WireError:
        return "?"


def _ref(reference: ObjectReference) -> str:
    return "/".join(part for part in (reference.kind, reference.namespace, reference.name) if part)


def _request_id(request: Any) -> str:
    return str(getattr(request, "request_id", ""))
