"""Events: what happened lately, as far as the caller may read what it is about."""

from __future__ import annotations

from typing import Any

from ovnk_api.v1 import event_service_pb2 as pb
from ovnk_api.v1 import event_service_pb2_grpc

from ovnk_core.keeper.events import Occurrence, Severity
from ovnk_core.keeper.keeper import Keeper
from ovnk_server import access
from ovnk_server.convert import page_size, read_kind, reference, timestamp
from ovnk_server.convert_northbound import NOBODY
from ovnk_server.hearing import Hearing

_TYPES: dict[Severity, pb.EventType.ValueType] = {
    "Normal": pb.EVENT_TYPE_NORMAL,
    "Warning": pb.EVENT_TYPE_WARNING,
}


class EventService(event_service_pb2_grpc.EventServiceServicer):
    """See ``event_service.proto``. What is about no object is told to those who may read the northbound as a whole."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def ListEvents(self, request: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        who = access.caller()
        if request.kind:
            read_kind(request.kind)
        if request.kind and request.namespace:
            who.require("list", request.kind, request.namespace)
        sees, sees_all = who.visible("list"), who.may("northbound")
        found = [
            each
            for each in self._keeper.events.list()
            if _is_asked(request, each) and (sees_all if each.ref is None else sees(each.ref))
        ]
        newest, hearing = found[-page_size(request.limit) :], Hearing(who)
        # Of what is answered, not of what there is: others' events are not to be noticed by it.
        last = newest[-1].sequence if newest else request.after_sequence
        return pb.ListEventsResponse(events=[_event(each, hearing) for each in newest], last_sequence=last)


def _is_asked(request: pb.ListEventsRequest, each: Occurrence) -> bool:
    ref = each.ref or NOBODY
    return (
        each.sequence > request.after_sequence
        and request.kind in ("", ref.kind)
        and request.namespace in ("", ref.namespace)
        and request.name in ("", ref.name)
        and request.type in (pb.EVENT_TYPE_UNSPECIFIED, _TYPES[each.severity])
    )


def _event(each: Occurrence, hearing: Hearing) -> pb.Event:
    return pb.Event(
        sequence=each.sequence,
        time=timestamp(each.last_s),
        first_time=timestamp(each.first_s),
        type=_TYPES[each.severity],
        reason=each.reason,
        object=None if each.ref is None else reference(each.ref),
        message=hearing.told(each.message, each.mentions),
        revision=each.revision,
        count=each.count,
    )
