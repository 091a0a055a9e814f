"""``events`` and ``status``: what happened, and how far changes have come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp
from ovnk_api.v1.event_service_pb2 import Event, EventType, ListEventsRequest
from ovnk_api.v1.northbound_service_pb2 import GetStatusResponse, Stage
from ovnk_client import STAGES, Client

from ovnk_cli.online.columns import span
from ovnk_cli.online.names import kind_meant
from ovnk_cli.output import aligned, emit, say, table

_OLDNAMES = {"involvedObject": "object", "regarding": "object"}
EVENT_FIELDS = ("object.kind", "object.name", "object.namespace", "type", "reason")


def event_request(selector: str, namespace: str) -> tuple[ListEventsRequest, str]:
    """A field selector as kubectl takes it for events -> the request, and the reason to look for besides.

    Raises UsageError for a field that events do not have.
    """
    request, reason = ListEventsRequest(namespace=namespace), ""
    for entry in filter(None, selector.split(",")):
        field, equals, value = entry.partition("=")
        head, _, rest = field.strip().partition(".")
        name, value = ".".join(filter(None, (_OLDNAMES.get(head, head), rest))), value.removeprefix("=").strip()
        if not equals or field.endswith("!"):
            raise click.UsageError(f"--field-selector {entry}: write FIELD=VALUE")
        if name == "object.kind":
            request.kind = kind_meant(value).name
        elif name == "object.name":
            request.name = value
        elif name == "object.namespace":
            request.namespace = value
        elif name == "type":
            if value not in ("Normal", "Warning"):
                raise click.UsageError(f"--field-selector {entry}: the type is Normal or Warning")
            request.type = EventType.Value(f"EVENT_TYPE_{value.upper()}")
        elif name == "reason":
            reason = value
        else:
            raise click.UsageError(f"--field-selector {entry}: known fields: {', '.join(EVENT_FIELDS)}")
    return request, reason


async def events(client: Client, selector: str, namespace: str, *, output: str, has_headers: bool = True) -> int:
    """Print what happened lately; the exit status."""
    request, reason = event_request(selector, namespace)
    found = [each for each in (await client.events(request)).events if reason in ("", each.reason)]
    if output in ("json", "yaml"):
        emit({"events": [_event(each) for each in found]}, output)
    elif output == "name":
        for each in found:
            click.echo(f"event/{each.sequence}")
    elif found:
        for line in event_table(found)[0 if has_headers else 1 :]:
            click.echo(line)
    else:
        say("no events" + (f" in namespace {namespace}" if namespace else ""))
    return 0


def event_table(found: Iterable[Event]) -> list[str]:
    """Lines, the head first, as in the listing of 15.12."""
    rows = [["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]]
    now = Timestamp()
    now.GetCurrentTime()
    for each in found:
        seen = span(now.ToNanoseconds() / 1e9 - each.time.ToNanoseconds() / 1e9)
        count = f" (x{each.count})" if each.count > 1 else ""
        shown = (
            f"{kind_meant(each.object.kind).kubernetes_kind.lower()}/{each.object.name}" if each.object.kind else "-"
        )
        rows.append([seen + count, _type(each), each.reason, shown, each.message])
    return aligned(rows)[0]


def _type(event: Event) -> str:
    return "Warning" if event.type == EventType.EVENT_TYPE_WARNING else "Normal"


def _event(event: Event) -> dict[str, Any]:
    ref = event.object
    return {
        "sequence": event.sequence,
        "time": event.time.ToJsonString(),
        "type": _type(event),
        "reason": event.reason,
        "object": {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name} if ref.kind else None,
        "message": event.message,
        "revision": event.revision,
        "count": event.count,
    }


# ------------------------------------------------------------------------------------------- status

HIDDEN = "not told"


async def status(client: Client, revision: int | None, *, output: str) -> int:
    """Print how far a revision (the last one) has come; 1 when the northbound or the store is known to be down."""
    found = await client.status(revision)
    is_down = not found.is_redacted and (not found.northbound.is_connected or bool(found.store_failure))
    code = 1 if is_down else 0
    if output in ("json", "yaml"):
        emit(_status(found), output)
        return code
    rows = []
    for each in found.stages:
        when = each.reached_time.ToJsonString() if each.HasField("reached_time") else ""
        state = "yes" if each.is_reached else "no"
        last = getattr(found, f"{stage_name(each.stage)}_revision")
        rows.append([stage_name(each.stage), state, last, when or each.message or each.reason])
    click.echo(f"revision {found.revision}")
    table(["STAGE", "REACHED", "LAST REVISION", "SINCE OR WHY NOT"], rows)
    click.echo()
    for name, text in _parts(found):
        click.echo(f"{name + ':':<13}{text}")
    click.echo(f"objects:     {found.objects}, {found.refused_objects} refused, {found.warning_objects} with warnings")
    return code


def _parts(found: GetStatusResponse) -> Iterator[tuple[str, str]]:
    """Writer, northbound, store and chassis in words. What the caller may not know is not taken for a fault."""
    writer, link = found.writer, found.northbound
    own = " (this server)" if writer.is_self else ""
    if found.is_redacted:
        yield "writer", f"{HIDDEN}{own}, epoch {writer.epoch}"
        yield from ((name, HIDDEN) for name in ("northbound", "store", "chassis"))
        return
    yield "writer", f"{writer.holder or 'nobody'}{own}, epoch {writer.epoch}"
    since = f" since {link.stale_since.ToJsonString()}" if link.HasField("stale_since") else ""
    state = "connected" if link.is_connected else f"down{since}: {link.failure}"
    yield "northbound", f"{link.address}: {state}"
    yield "store", f"down: {found.store_failure}" if found.store_failure else "answers"
    lag = f", lagging: {', '.join(found.lagging_chassis)}" if found.lagging_chassis else ""
    yield "chassis", f"{found.chassis if found.HasField('chassis') else 'unknown'}{lag}"


def stage_name(stage: Stage.ValueType) -> str:
    """``programmed``; a stage that is newer than this client by its number."""
    return STAGES[stage - 1] if 0 < stage <= len(STAGES) else f"stage {stage}"


def _status(found: GetStatusResponse) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = MessageToDict(
        found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for field in ("accepted", "programmed", "realized", "enforced"):
        document[f"{field}_revision"] = getattr(found, f"{field}_revision")
    document["revision"], document["writer"]["epoch"] = found.revision, found.writer.epoch
    for stage, each in zip(document["stages"], found.stages, strict=True):
        stage["stage"] = stage_name(each.stage)
    return document
