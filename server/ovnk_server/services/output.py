"""What nodes and pods are told of their place: lists, and a watch for whoever writes it back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from ovnk_api.v1 import output_service_pb2 as pb
from ovnk_api.v1 import output_service_pb2_grpc

from ovnk_core.analysis.router_lint import router_warnings
from ovnk_core.errors import SchemaError
from ovnk_core.features.egress_router.plan import RouterPlan
from ovnk_core.ingest.text import show
from ovnk_core.keeper.keeper import Keeper
from ovnk_core.runtime.asking import ROUTER_KIND
from ovnk_core.runtime.broadcast import Event
from ovnk_core.terms.name import NamespacedName, ObjectRef
from ovnk_core.topology.annotations import TOLD, Told
from ovnk_core.topology.platform import platform_in_force
from ovnk_server import access
from ovnk_server.access import Verb
from ovnk_server.convert import page_size, reference
from ovnk_server.convert_router import DEFINITION, hears_of_routers, router_plan
from ovnk_server.hearing import Hearing

Wanted = Callable[[ObjectRef], bool]


class OutputService(output_service_pb2_grpc.OutputServiceServicer):
    """See ``output_service.proto``. Whoever may list an object may hear what it is told."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def ListOutputs(self, request: pb.ListOutputsRequest, context: Any) -> pb.ListOutputsResponse:
        kinds, is_wanted = _asked("list", request.kind, request.namespace)
        limit, plane = page_size(request.page_size), self._keeper.plane
        refs = (ObjectRef(kind, key.namespace, key.name) for kind in kinds for key in sorted(plane.told(kind)))
        # A name is a place to go on at, whatever became of the others meanwhile; Node comes before Pod.
        rest = (ref for ref in refs if is_wanted(ref) and _token(ref) > request.page_token)
        page = [ref for ref, _ in zip(rest, range(limit + 1), strict=False)]
        sees = access.caller().visible("list")
        outputs = [_output(ref, plane.told(ref.kind)[ref.key], sees) for ref in page[:limit]]
        self._add_routers(outputs)
        return pb.ListOutputsResponse(
            outputs=outputs,
            next_page_token=_token(page[limit - 1]) if len(page) > limit else "",
            revision=self._keeper.revision,
        )

    async def WatchOutputs(
        self, request: pb.WatchOutputsRequest, context: Any
    ) -> AsyncIterator[pb.WatchOutputsResponse]:
        kinds, is_wanted = _asked("watch", request.kind, request.namespace)
        sees, hearing = access.caller().visible("watch"), Hearing(access.caller())
        async with aclosing(self._keeper.plane.watch_told(kinds)) as events:
            async for event in events:
                if event.ref is None or is_wanted(event.ref):
                    yield self._response(event, sees, sees_nodes=hearing.sees_nodes)

    def _add_routers(self, outputs: list[pb.Output]) -> None:
        """Plans of the egress router pods among outputs, with what is wrong with them."""
        plane, who = self._keeper.plane, access.caller()
        sees, plans = who.visible("list"), plane.routers()
        named = [(NamespacedName(each.reference.namespace, each.reference.name), each) for each in outputs]
        found = [(plans[key], each) for key, each in named if each.reference.kind == ROUTER_KIND and key in plans]
        if not found:
            return
        warnings = router_warnings(plane.cluster) if hears_of_routers(who, plane.cluster) else {}
        for plan, each in found:
            if sees(_definition(plan)):
                platform, known = platform_in_force(plane.cluster.engine), warnings.get(plan.pod, ())
                told = router_plan(plan, platform, sees_nodes=Hearing(who).sees_nodes, warnings=known)
                each.egress_router.CopyFrom(told)

    def _response(self, event: Event, sees: Wanted, *, sees_nodes: bool) -> pb.WatchOutputsResponse:
        if event.type == "synced":
            return pb.WatchOutputsResponse(synced=pb.OutputsSynced(revision=self._keeper.revision))
        if event.ref is None:
            return pb.WatchOutputsResponse(resync=pb.OutputsResync())
        if event.told is None:
            return pb.WatchOutputsResponse(removed=reference(event.ref))
        output = _output(event.ref, event.told, sees)
        if event.router is not None and sees(_definition(event.router)):
            platform = platform_in_force(self._keeper.plane.cluster.engine)
            output.egress_router.CopyFrom(router_plan(event.router, platform, sees_nodes=sees_nodes))
        return pb.WatchOutputsResponse(changed=output)


def _definition(plan: RouterPlan) -> ObjectRef:
    return ObjectRef(DEFINITION, plan.network.namespace, plan.network.name)


def _asked(verb: Verb, kind: str, namespace: str) -> tuple[tuple[str, ...], Wanted]:
    """Kinds, and which of their objects the caller asks for and may know. Raises SchemaError, PermissionDenied."""
    if kind and kind not in TOLD:
        raise SchemaError("nothing is told to such objects", path="kind", value=show(kind), fix="write Node or Pod")
    kinds = (kind,) if kind else tuple(TOLD)
    who = access.caller()
    if namespace:
        kinds = tuple(each for each in kinds if each != "Node")
        for each in kinds:
            who.require(verb, each, namespace)
    sees = who.visible(verb)
    return kinds, lambda ref: namespace in ("", ref.namespace) and sees(ref)


def _token(ref: ObjectRef) -> str:
    # Sorts as kinds, then namespaces, then names do: no name holds a character below the separator.
    return "\x1f".join((ref.kind, ref.namespace, ref.name))


def _output(ref: ObjectRef, told: Told, sees: Wanted) -> pb.Output:
    hears_of_egress = bool(told.egress_ips) and sees(ObjectRef("EgressIP", "", ""))
    return pb.Output(
        reference=reference(ref),
        annotations=dict(told.annotations),
        geneve_port=told.geneve_port,
        vxlan_port=told.vxlan_port,
        mtu=told.mtu_bytes,
        egress_ips=map(str, told.egress_ips) if hears_of_egress else (),
    )
