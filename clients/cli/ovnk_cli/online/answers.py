"""A server's answers as the documents that the same questions of files print: one schema for both (``docs/json``).

What is a place in a file there (``FILE:LINE``) is a field of an object here: ``EgressFirewall shop/default
spec.egress[41]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ovnk_api.v1.diff_pb2 import (
    ConnectionChange,
    ConnectionChangeKind,
    Direction,
    ObjectChange,
    Outcome,
    RowCount,
    RuleChange,
    RuleChangeKind,
    SourceChange,
)
from ovnk_api.v1.dns_service_pb2 import DnsCause, DnsName
from ovnk_api.v1.meta_pb2 import ObjectReference
from ovnk_api.v1.northbound_pb2 import Atom, Column, Flow, Pipeline, Row, RowOperation, RowOwner, RowVerb, RuleSource
from ovnk_api.v1.trace_service_pb2 import DiffResponse, MatrixCell, TraceManyResponse
from ovnk_api.v1.verdict_pb2 import (
    Answer,
    Egress,
    LoadBalancing,
    PathKind,
    Protocol,
    RouterHop,
    Step,
    Transport,
    Verdict,
)

from ovnk_cli.output import redaction


def word(enum: Any, value: int, prefix: str) -> str:
    """``VERDICT_ALLOW`` -> ``allow``; a value that is newer than this client by its number."""
    name: str = enum.Name(value) if value in enum.values() else str(value)
    return name.removeprefix(prefix).lower().replace("_", "-")


def reference_document(ref: ObjectReference) -> dict[str, str]:
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def reference_text(ref: ObjectReference) -> str:
    return f"{ref.kind} {ref.namespace}/{ref.name}" if ref.namespace else f"{ref.kind} {ref.name}"


# ------------------------------------------------------------------------------------------- trace


def answer_document(answer: Answer) -> dict[str, Any]:
    """As ``ovnk trace -o json`` prints it."""
    document: dict[str, Any] = {
        "verdict": word(Verdict, answer.verdict, "VERDICT_"),
        "reason": answer.reason,
        "path": word(PathKind, answer.path, "PATH_KIND_"),
        "legs": [
            {
                "from": leg.source or None,
                "to": leg.target or None,
                "transport": word(Transport, leg.transport, "TRANSPORT_"),
                "encrypted": leg.is_encrypted,
                **({"protection": leg.protection} if leg.protection else {}),
            }
            for leg in answer.legs
        ],
        "steps": [{"stage": step.stage, **step_document(step)} for step in answer.steps],
    }
    if answer.path == PathKind.PATH_KIND_MULTICAST:
        document["receivers"] = [
            {"namespace": each.namespace, "name": each.name, "node": each.node or None} for each in answer.receivers
        ]
    if answer.HasField("load_balancer"):
        document["load_balancer"] = _balancing_document(answer.load_balancer)
    if answer.HasField("egress_router"):
        document["egress_router"] = _router_document(answer.egress_router)
    if answer.HasField("egress"):
        document["egress"] = _egress_document(answer.egress)
    document |= {"incomplete": list(answer.incomplete)} if answer.incomplete else {}
    return document | redaction(answer.is_redacted)


def _balancing_document(found: LoadBalancing) -> dict[str, Any]:
    return {
        "vip": found.vip,
        "service": _name(found.service),
        "backends": [
            {
                "target": each.target or None,
                "pod": _name(each.pod) if each.HasField("pod") else None,
                "node": each.node or None,
                "entry": each.entry or None,
                "verdict": word(Verdict, each.verdict, "VERDICT_"),
                "reason": each.reason or ("not for you to read" if each.is_redacted else ""),
                "path": word(PathKind, each.path, "PATH_KIND_"),
            }
            for each in found.backends
        ],
        "chosen": found.chosen or None,
    }


def _egress_document(found: Egress) -> dict[str, Any]:
    only = found.candidates[0] if len(found.candidates) == 1 else None
    return {
        "egressip": found.egressip if found.HasField("egressip") else None,
        "candidates": [{"node": each.node or None, "source_ip": each.source_ip or None} for each in found.candidates],
        "node": only.node or None if only is not None else None,
        "source_ip": only.source_ip or None if only is not None else None,
    }


def _router_document(found: RouterHop) -> dict[str, Any]:
    return {
        "pod": _name(found.pod),
        "network": _name(found.network),
        "node": found.node or None,
        "interface": found.interface,
        "source_ip": found.source_ip,
        "destination": found.destination,
    }


def _name(ref: ObjectReference) -> str:
    return f"{ref.namespace}/{ref.name}"


def step_document(step: Step) -> dict[str, Any]:
    has_object = step.HasField("object")
    return {
        "verdict": word(Verdict, step.verdict, "VERDICT_"),
        "object": reference_document(step.object) if has_object else None,
        "rule": step.rule if step.HasField("rule") else None,
        "source": source_of(step),
        "text": step.text or ("not for you to read" if step.is_redacted else ""),
    }


def source_of(step: Step) -> str:
    """What decides, as a place."""
    if not step.HasField("object"):
        return ""
    return f"{reference_text(step.object)} {step.field_path}".rstrip()


def many_document(answer: TraceManyResponse) -> dict[str, Any]:
    """One line of ``ovnk trace --batch`` without its id."""
    if answer.HasField("answer"):
        return answer_document(answer.answer)
    fault = answer.fault
    return {
        "error": {"field": _QUESTION_FIELDS.get(fault.field, fault.field), "value": fault.value, "reason": fault.reason}
    }


_QUESTION_FIELDS = {"source": "from", "target": "to"}


def cell_word(cell: MatrixCell.ValueType) -> str:
    return word(MatrixCell, cell, "MATRIX_CELL_")


# ------------------------------------------------------------------------------------------- rows and flows


def owner_document(owner: RowOwner) -> dict[str, str]:
    return {"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "role": owner.role}


def owner_text(owner: RowOwner) -> str:
    return f"{owner.kind} {owner.namespace}/{owner.name}" if owner.namespace else f"{owner.kind} {owner.name}"


def row_document(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "table": row.table,
        "uuid": row.uuid,
        "owner": owner_document(row.owner),
        "columns": columns_document(row.columns),
    }
    return found | _rules(row.rules, row.owner)


def columns_document(columns: Iterable[Column]) -> dict[str, Any]:
    return {column.name: _value(column) for column in columns}


def _value(column: Column) -> Any:
    value = column.value
    match value.WhichOneof("value"):
        case "atom":
            return _atom(value.atom)
        case "set":
            return [_atom(each) for each in value.set.atoms]
        case "map":
            return {str(_atom(each.key)): _atom(each.value) for each in value.map.pairs}
    return None


def _atom(atom: Atom) -> Any:
    field = atom.WhichOneof("atom")
    return getattr(atom, field) if field else None


def _rules(rules: Iterable[RuleSource], owner: RowOwner) -> dict[str, Any]:
    found = [{"rule": each.rule, "source": f"{owner_text(owner)} {each.field_path}"} for each in rules]
    return {"rules": found} if found else {}


def flow_document(flow: Flow) -> dict[str, Any]:
    source = flow.source_row
    found: dict[str, Any] = {
        "datapaths": list(flow.datapaths),
        "pipeline": word(Pipeline, flow.pipeline, "PIPELINE_"),
        "stage": flow.stage,
        "priority": flow.priority,
        "match": flow.match,
        "actions": flow.actions,
        "source_row": {"table": source.table, "uuid": source.uuid, "owner": owner_document(source.owner)},
    }
    return found | _rules(flow.rules, source.owner)


def operation_document(operation: RowOperation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "verb": word(RowVerb, operation.verb, "ROW_VERB_"),
        "table": operation.table,
        "uuid": operation.uuid,
        "owner": owner_document(operation.owner) if operation.HasField("owner") else None,
        "columns": columns_document(operation.columns),
    }
    return found | ({"removed": columns_document(operation.removed)} if operation.removed else {})


# ------------------------------------------------------------------------------------------- diff


def diff_document(found: DiffResponse) -> dict[str, Any]:
    """As ``ovnk diff -o json`` prints it."""
    return {
        "objects": [object_document(each) for each in found.objects],
        "rules": [_rule_change(each) for each in found.rules],
        "connections": [_connection_change(each) for each in found.connections],
        "sources": [_source_change(each) for each in found.sources],
        "rows": [_row_count(each) for each in found.rows],
        "complete": found.is_complete,
        **redaction(found.is_redacted),
    }


def object_document(each: ObjectChange) -> dict[str, str]:
    return reference_document(each.reference) | {"outcome": word(Outcome, each.outcome, "OUTCOME_")}


def _rule_change(each: RuleChange) -> dict[str, Any]:
    index = each.after if each.HasField("after") else each.before
    return {
        "change": word(RuleChangeKind, each.change, "RULE_CHANGE_KIND_"),
        "namespace": each.namespace,
        "before": each.before if each.HasField("before") else None,
        "after": each.after if each.HasField("after") else None,
        "text": each.text,
        "source": f"EgressFirewall {each.namespace}/default spec.egress[{index}]",
        "hidden_by": list(each.hidden_by),
    }


def _connection_change(each: ConnectionChange) -> dict[str, Any]:
    example = each.example
    return {
        "change": word(ConnectionChangeKind, each.change, "CONNECTION_CHANGE_KIND_"),
        "namespace": each.namespace,
        "direction": word(Direction, each.direction, "DIRECTION_"),
        "pods": each.pods,
        "example": {
            "from": example.source,
            "to": example.target,
            "protocol": word(Protocol, example.protocol, "PROTOCOL_"),
            "port": example.port if example.HasField("port") else None,
        },
        "before": step_document(each.before),
        "after": step_document(each.after),
    }


def _source_change(each: SourceChange) -> dict[str, Any]:
    return {
        "namespace": each.namespace,
        "family": each.family,
        "pods": each.pods,
        "example": each.example,
        "before": _egress_document(each.before),
        "after": _egress_document(each.after),
    }


def _row_count(each: RowCount) -> dict[str, Any]:
    return {"table": each.table, "verb": word(RowVerb, each.verb, "ROW_VERB_"), "operations": each.operations}


# ------------------------------------------------------------------------------------------- dns


def name_document(name: str, known: DnsName | None, at: str | None) -> dict[str, Any]:
    """As ``ovnk dns -o json`` prints it; ``known`` None: never answered."""
    is_known = known is not None and known.is_on_record
    kept = {"deny_addresses": list(known.deny_addresses) if known else []} if at is None else {}
    return {
        "name": name,
        "at": at,
        "addresses": list(known.addresses) if known is not None and is_known else None,
        **kept,
        "history": [
            {
                "at": each.at.ToJsonString(),
                "cause": word(DnsCause, each.cause, "DNS_CAUSE_"),
                "addresses": list(each.addresses),
            }
            for each in (known.history if known else ())
        ],
    }
