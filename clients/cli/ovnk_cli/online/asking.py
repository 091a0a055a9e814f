"""Questions to a server that files answer too: trace, matrix, diff, rows, flows, dns, annotations.

What is printed is the same."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from ovnk_api.v1.dns_service_pb2 import DnsName
from ovnk_api.v1.output_service_pb2 import Output
from ovnk_api.v1.trace_service_pb2 import TraceManyRequest
from ovnk_client import Client, ClientError, NotFound, question
from ovnk_client.questions import EngineName, ProtocolName

from ovnk_cli.online.answers import (
    answer_document,
    cell_word,
    diff_document,
    flow_document,
    many_document,
    name_document,
    row_document,
)
from ovnk_cli.online.files import Stated, located
from ovnk_core.terms.struct import Value

Document = dict[str, Any]


class Asked(Value, frozen=True, kw_only=True):
    """One question about a packet, as the options of ``trace`` put it."""

    source: str
    target: str
    protocol: ProtocolName = "tcp"
    port: int | None = None
    engine: EngineName = ""


async def trace(client: Client, asked: Asked) -> Document:
    """The answer's document. Raises a ClientError."""
    answer = await client.trace(
        asked.source, asked.target, protocol=asked.protocol, port=asked.port, engine=asked.engine
    )
    return answer_document(answer)


async def trace_many(
    client: Client, questions: Iterable[tuple[Document, Asked | Document]], write: Callable[[Document], None]
) -> None:
    """Put many questions and write their answers in order, each with its identity (the first of the pair). What is no
    question but a document already is written in its place."""
    open_: deque[tuple[Document, Document | None]] = deque()

    async def ask() -> AsyncIterator[TraceManyRequest]:
        for identity, each in questions:
            if not isinstance(each, Asked):
                open_.append((identity, each))
                continue
            open_.append((identity, None))
            engine = each.engine or "fast"
            yield TraceManyRequest(
                question=question(each.source, each.target, protocol=each.protocol, port=each.port, engine=engine)
            )

    def flush() -> None:
        while open_ and open_[0][1] is not None:
            identity, document = open_.popleft()
            write(identity | (document or {}))

    async for answer in client.trace_many(ask()):
        flush()
        identity, _ = open_.popleft()
        write(identity | many_document(answer))
    flush()


class Pairs(Value, frozen=True, kw_only=True):
    """Which pairs are asked about, as the options of ``matrix`` put it."""

    protocol: ProtocolName = "tcp"
    port: int | None = None
    namespace: str = ""
    has_services: bool = False


async def matrix(client: Client, asked: Pairs) -> Document:
    """The matrix's document. Raises a ClientError."""
    sources: list[str] = []
    targets: list[str] = []
    verdicts: list[list[str]] = []
    parts = client.matrix(
        protocol=asked.protocol, port=asked.port, namespace=asked.namespace, include_services=asked.has_services
    )
    async for part in parts:
        if part.HasField("targets"):
            targets = [*part.targets.pods, *part.targets.services]
        elif part.HasField("row"):
            sources.append(part.row.pod)
            verdicts.append([cell_word(cell) for cell in part.row.cells])
    return {"from": sources, "to": targets, "verdicts": verdicts}


async def diff(client: Client, stated: Sequence[Stated]) -> Document:
    """What applying files would change. Raises ServerSaid with the lines of what is refused."""
    try:
        return diff_document(await client.diff([each.item for each in stated]))
    except ClientError as error:
        raise located(error, stated) from error


async def rows(client: Client) -> list[Document]:
    return [row_document(each) async for each in client.rows()]


async def flows(client: Client, datapath: str | None, stage: str | None) -> list[Document]:
    return [flow_document(each) async for each in client.flows(datapath=datapath or "", stage=stage or "")]


async def names(client: Client, asked: Sequence[str], at: datetime | None, at_text: str | None) -> list[Document]:
    """A document for each name; one that was never answered has no addresses."""
    found: list[Document] = []
    for name in asked:
        known: DnsName | None
        try:
            known = await client.dns(name, at=at)
        except NotFound:
            known = None
        found.append(name_document(name, known, at_text))
    return found


async def told(client: Client) -> Document:
    """What nodes and pods are told, each by name."""
    nodes: list[Document] = []
    pods: list[Document] = []
    async for each in client.outputs():
        notes = dict(sorted(each.annotations.items()))
        if each.reference.kind == "Node":
            ports = {"geneve": _number(each, "geneve_port"), "vxlan": _number(each, "vxlan_port")}
            nodes.append(
                {
                    "name": each.reference.name,
                    "annotations": notes,
                    "ports": ports,
                    "mtu": _number(each, "mtu"),
                    "egressIPs": list(each.egress_ips),
                }
            )
        else:
            pods.append({"namespace": each.reference.namespace, "name": each.reference.name, "annotations": notes})
    return {"nodes": nodes, "pods": pods}


def _number(output: Output, field: Literal["geneve_port", "vxlan_port", "mtu"]) -> int | None:
    return getattr(output, field) if output.HasField(field) else None
