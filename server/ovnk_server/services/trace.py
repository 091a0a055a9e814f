"""What happens to packets: one question, many, all pairs of pods, and what a change would change.

Single questions are answered on the live cluster between two awaits; what looks at everything works on a snapshot, in a
thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from msgspec.structs import replace
from ovnk_api.v1 import trace_service_pb2 as pb
from ovnk_api.v1 import trace_service_pb2_grpc, verdict_pb2

from ovnk_core.analysis.diff import ClusterDiff, diff_clusters
from ovnk_core.analysis.matrix import Matrix, matrix
from ovnk_core.cluster import Cluster
from ovnk_core.errors import QuotaError, Refusal, SchemaError
from ovnk_core.flows.table import FlowTable
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.proposal import Accepted, Drop
from ovnk_core.keeper.snapshot import Snapshot
from ovnk_core.nb.schema import DatabaseSchema
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.question import Answer, Question, QuestionError
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Engine, Tracer
from ovnk_server import access
from ovnk_server.access import Caller
from ovnk_server.convert import check_items, read_object, read_reference, subject_of, violations
from ovnk_server.convert_diff import DiffReader
from ovnk_server.convert_northbound import object_changes, owners_of, readable
from ovnk_server.convert_trace import (
    Reader,
    check_question,
    read_engine,
    read_protocol,
    read_question,
)
from ovnk_server.hearing import Hearing

BATCH = 64
MAX_PODS = 2_000
"""Pods of a matrix, and ports of Services: four million cells of either."""
_FIELDS = {"from": "source", "to": "target"}
_CELLS: dict[str, pb.MatrixCell.ValueType] = {
    "allow": pb.MATRIX_CELL_ALLOW,
    "drop": pb.MATRIX_CELL_DROP,
    "reject": pb.MATRIX_CELL_REJECT,
    "mixed": pb.MATRIX_CELL_MIXED,
    "self": pb.MATRIX_CELL_SELF,
    "none": pb.MATRIX_CELL_NONE,
}


class Desk:
    """Answers the questions of one call. What the objects say is asked of the live cluster; flows are made of all of
    it, so they are asked of a snapshot, which ``BATCH`` questions share."""

    def __init__(self, keeper: Keeper, who: Caller) -> None:
        self._keeper, self._who, self._reader = keeper, who, Reader(who)
        self._snapshot: Snapshot | None = None
        self._asked = 0

    async def answer(self, message: verdict_pb2.Question, default: Engine) -> verdict_pb2.Answer:
        """Raises QuestionError, SchemaError or PermissionDenied."""
        question, engine = read_question(message), read_engine(message.engine, default)
        tracer = self._keeper.plane.tracer()
        check_question(question, tracer.scene, self._who)
        if engine in ("intent", "fast"):
            found = tracer.ask(question, engine)
            return self._reader.answer(found, tracer.scene, question, self._keeper.revision)
        if self._snapshot is None or self._asked == BATCH:
            self._snapshot, self._asked = await self._keeper.snapshot(), 0
        self._asked += 1
        snapshot = self._snapshot
        asked, scene = await anyio.to_thread.run_sync(_ask, snapshot, question, engine)
        return self._reader.answer(asked, scene, question, snapshot.revision)


def _ask(snapshot: Snapshot, question: Question, engine: Engine) -> tuple[Answer, Scene]:
    tracer = snapshot.once("tracer", lambda cluster: Tracer(Scene(cluster), lambda: FlowTable(cluster.engine)))
    with snapshot.lock:
        return tracer.ask(question, engine), tracer.scene


class TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    """See ``trace_service.proto``."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    # ------------------------------------------------------------------ questions

    async def Trace(self, request: pb.TraceRequest, context: Any) -> pb.TraceResponse:
        desk = Desk(self._keeper, access.caller())
        try:
            return pb.TraceResponse(answer=await desk.answer(request.question, "both"))
        except QuestionError as error:
            path = f"question.{_FIELDS.get(error.field, error.field)}"
            raise SchemaError(error.reason, path=path, value=error.value) from None

    async def TraceMany(
        self, request_iterator: AsyncIterator[pb.TraceManyRequest], context: Any
    ) -> AsyncIterator[pb.TraceManyResponse]:
        # One at a time: an answer takes less than its way to the client, which is what bounds this loop.
        desk = Desk(self._keeper, access.caller())
        async for request in request_iterator:
            found = pb.TraceManyResponse(id=request.id)
            try:
                found.answer.CopyFrom(await desk.answer(request.question, "fast"))
            except QuestionError as error:
                field = _FIELDS.get(error.field, error.field)
                found.fault.CopyFrom(pb.QuestionFault(field=field, value=error.value, reason=error.reason))
            except SchemaError as error:
                field = error.path.removeprefix("question.")
                found.fault.CopyFrom(pb.QuestionFault(field=field, value=error.value, reason=error.reason))
            yield found

    # ------------------------------------------------------------------ all pairs

    async def Matrix(self, request: pb.MatrixRequest, context: Any) -> AsyncIterator[pb.MatrixResponse]:
        who = access.caller()
        if request.namespace:
            who.require("trace", "Pod", request.namespace)
        protocol, port = read_protocol(request.protocol), request.port if request.HasField("port") else None
        if (port is None) != (protocol == "icmp") or (port is not None and not 0 < port < 1 << 16):
            reason = "icmp has no ports" if protocol == "icmp" else f"{protocol} needs a port from 1 to 65535"
            raise SchemaError(reason, path="port", value="" if port is None else str(port))
        if request.include_services and protocol == "icmp":
            raise SchemaError("a Service is reached by tcp, udp or sctp", path="include_services", value="true")
        sees, snapshot = who.visible("trace"), await self._keeper.snapshot()

        def is_wanted(ref: ObjectRef) -> bool:
            return request.namespace in ("", ref.namespace) and sees(ref)

        def judge() -> Matrix:
            scene = snapshot.once("scene", Scene)
            pods = sum(is_wanted(ObjectRef("Pod", pod.namespace, pod.name)) for pod in scene.endpoints)
            ports = scene.doors.ports(protocol) if request.include_services else ()
            many = sum(is_wanted(ObjectRef("Service", each.service.namespace, each.service.name)) for each in ports)
            for count, what in ((pods, "pods"), (many, "ports of Services")):
                if count > MAX_PODS:
                    reason = f"a matrix of {count:,} {what} is too large; the most is {MAX_PODS:,}: name a namespace"
                    raise QuotaError(reason)
            return matrix(scene, protocol=protocol, port=port, sees=is_wanted, has_services=request.include_services)

        found = await anyio.to_thread.run_sync(judge)
        yield pb.MatrixResponse(
            targets=pb.MatrixTargets(
                pods=map(str, found.targets),
                services=map(str, found.services),
                sources=len(found.sources),
                revision=snapshot.revision,
            )
        )
        for pod, verdicts in zip(found.sources, found.verdicts, strict=True):
            yield pb.MatrixResponse(row=pb.MatrixRow(pod=str(pod), cells=[_CELLS[each] for each in verdicts]))

    # ------------------------------------------------------------------ changes

    async def Diff(self, request: pb.DiffRequest, context: Any) -> pb.DiffResponse:
        who, keeper = access.caller(), self._keeper
        refs = [subject_of(item, f"objects[{index}]") for index, item in enumerate(request.objects)]
        gone = [read_reference(each, f"deletes[{index}]") for index, each in enumerate(request.deletes)]
        for ref in refs:
            who.require("apply", ref.kind, ref.namespace)
        for ref in gone:
            who.require_delete(ref)
        check_items([*refs, *gone], "objects")
        done: Accepted
        try:
            puts = [read_object(item, index) for index, item in enumerate(request.objects)]
            asked = keeper.request(
                [replace(put, version=None) for put in puts], [Drop(ref=ref) for ref in gone], author=who.identity
            )
            done, before, after = await keeper.try_out(asked)
        except (SchemaError, Refusal) as error:
            raise _located(error) from None
        compared = await anyio.to_thread.run_sync(lambda: _compared(before.cluster, after, keeper.schema))
        sees = who.visible("northbound")
        rows = await anyio.to_thread.run_sync(
            lambda: readable(compared.operations, owners_of(before.cluster, after), sees)
        )
        told, hides_objects = Hearing(who).results(done.results, [*refs, *gone])
        scenes, reader = (Scene(before.cluster), Scene(after)), DiffReader(who)
        rules, sources = reader.rules(compared.rules), reader.sources(compared.sources, *scenes)
        connections = reader.connections(compared.connections, {**scenes[0].hosts, **scenes[1].hosts})
        return pb.DiffResponse(
            objects=object_changes(told),
            rules=rules[0],
            connections=connections[0],
            sources=sources[0],
            rows=rows.counts(),
            is_complete=compared.is_complete,
            revision=before.revision,
            is_redacted=hides_objects or rules[1] or connections[1] or sources[1] or rows.is_redacted,
        )


def _compared(before: Cluster, after: Cluster, schema: DatabaseSchema) -> ClusterDiff:
    """Told is where the change leads: egress IPs that move have left their nodes and come to others."""
    after.withdrawn(after.leaving)
    return diff_clusters(before, after, schema)


def _located(error: SchemaError | Refusal) -> Refusal:
    """The same error with paths of a Diff's request, which holds its objects in another place than an Apply."""
    errors = error.errors if isinstance(error, Refusal) else (error,)
    found = violations(errors, "objects[{}]")
    return Refusal(
        [
            type(each)(each.reason, kind=each.kind, name=each.name, path=at.field, value=each.value, fix=each.fix)
            for each, at in zip(errors, found, strict=True)
        ]
    )
