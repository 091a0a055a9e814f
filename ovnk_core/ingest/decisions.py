"""Recorded decisions from their document (``ovnk sync --save-decisions``) or from what the northbound remembers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ovnk_core.errors import SchemaError
from ovnk_core.ingest.load import parse_objects
from ovnk_core.model.decision import Decisions, NodeDecision, PodDecision
from ovnk_core.model.network_policy import NetworkPolicy
from ovnk_core.terms.address import parse_address, parse_cidr
from ovnk_core.terms.struct import Value


class _Node(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subnets: list[str]
    id: int


class _Pod(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    addresses: list[str]
    mac: str
    node: str


class _Document(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    apiVersion: str
    kind: str
    nodes: dict[str, _Node] = {}
    pods: dict[str, _Pod] = {}
    policies: dict[str, dict[str, Any]] = {}


def read_decisions(text: bytes, *, source: str) -> Decisions:
    """A saved document -> Decisions. Raises SchemaError naming the field."""
    try:
        document = msgspec.json.decode(text, type=_Document)
        nodes = {name: _node(each) for name, each in document.nodes.items()}
        pods = {key: _pod(each) for key, each in document.pods.items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(str(error), kind="Decisions", source=source, fix="write it with --save-decisions") from error
    if (document.apiVersion, document.kind) != ("ovnk/v1", "Decisions"):
        found = f"{document.apiVersion} {document.kind}"
        raise SchemaError("is not a decisions document", kind="Decisions", value=found, source=source)
    return Decisions(nodes=nodes, pods=pods, policies=accepted_policies(document.policies.values()))


def _node(raw: _Node) -> NodeDecision:
    return NodeDecision(subnets=tuple(parse_cidr(text)[0] for text in raw.subnets), node_id=raw.id)


def _pod(raw: _Pod) -> PodDecision:
    return PodDecision(addresses=tuple(parse_address(text) for text in raw.addresses), mac=raw.mac, node=raw.node)


def accepted_policies(manifests: Iterable[Mapping[str, Any]]) -> dict[str, NetworkPolicy]:
    """Recorded manifests -> policies by ``NS/NAME``; the same door as for any manifest, refused ones left out."""
    items = parse_objects(manifests, source="decisions").items
    return {str(item.ref.key): item.value for item in items if isinstance(item.value, NetworkPolicy)}


def accepted_texts(texts: Iterable[str]) -> dict[str, NetworkPolicy]:
    """``accepted_policies`` of JSON texts; what is not JSON any more (edited by hand) is left out."""
    manifests: list[Mapping[str, Any]] = []
    for text in texts:
        try:
            manifests.append(json.loads(text))
        except ValueError:
            continue
    return accepted_policies(manifests)
