"""Truth tables for policies: a fixed small cluster, policies as YAML, and one line per question and answer.

``FROM > TO[:PORT] [udp|sctp|icmp] = allow|drop [DECIDER ...]`` where a decider is ``POLICY[RULE]`` (the rule that
allows) or ``POLICY`` (the first policy that isolates, when nothing allows), egress before ingress, by name within
namespace ``shop`` or as NS/NAME. Comments start with ``#``. Intent and flows must both give the line's answer.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from ovnk_core.flows.table import FlowTable
from ovnk_core.trace import intent
from ovnk_core.trace.flows import FlowTracer
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from tests.kit.questions import cluster_of

Manifest = dict[str, Any]
NODES = {"n1": "192.0.2.11", "n2": "192.0.2.12"}
NAMESPACES = {
    "shop": {"team": "red", "env": "prod"},
    "lab": {"team": "blue"},
    "watch": {"team": "red", "role": "monitor"},
}
_LINE = re.compile(r"(\S+) > (\S+?)(?: (tcp|udp|sctp|icmp))? = (allow|drop)((?: \S+)*)")


def pod(text: str) -> Manifest:
    """``NS/NAME NODE [key=value ...] [name:number/protocol ...] [ip=ADDRESS] [hostNetwork] [completed] ...``."""
    where, node, *words = text.split()
    namespace, name = where.split("/")
    spec: Manifest = {"nodeName": node, "hostNetwork": "hostNetwork" in words}
    status: Manifest = {"phase": "Succeeded" if "completed" in words else "Running"}
    labels: dict[str, str] = {}
    ports: list[Manifest] = []
    for word in words:
        if word.startswith("ip="):
            status["podIPs"] = [{"ip": word[3:]}]
        elif "=" in word:
            key, value = word.split("=")
            labels[key] = value
        elif ":" in word:
            port_name, number, protocol = re.split("[:/]", word)
            ports.append({"name": port_name, "containerPort": int(number), "protocol": protocol.upper()})
    spec["containers"] = [{"name": "c", "ports": ports}]
    meta = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


PODS = (
    "shop/web n1 app=web tier=front http:8080/tcp",
    "shop/web-b n2 app=web tier=front http:8081/tcp ip=10.128.2.30",
    "shop/db n2 app=db tier=back pg:5432/tcp ip=10.128.2.20",
    "shop/api n1 app=api http:80/tcp dns:5353/udp",
    "shop/host n2 app=web hostNetwork",
    "lab/client n1 app=client",
    "lab/web n2 app=web",
    "watch/probe n2 app=probe",
)


def base() -> list[Manifest]:
    found: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        for name, address in NODES.items()
    ]
    found += [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name, labels in NAMESPACES.items()
    ]
    return found + [pod(text) for text in PODS]


class Case(NamedTuple):
    """``policies``: YAML of name -> spec, in namespace shop unless NS/NAME. ``pods``: added to the base cluster."""

    name: str
    policies: str
    table: str
    pods: tuple[str, ...] = ()


def policies_of(text: str) -> list[Manifest]:
    found = []
    for name, spec in (yaml.safe_load(text) or {}).items():
        namespace, _, short = name.rpartition("/")
        meta = {"name": short, "namespace": namespace or "shop"}
        found.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    return found


def judge(case: Case) -> list[str]:
    """Lines of the table that intent or flows answers otherwise; each with what they say. Asserts it has lines."""
    cluster = cluster_of([*base(), *map(pod, case.pods), *policies_of(case.policies)], check=True)
    assert not cluster.errors, cluster.errors
    scene = Scene(cluster)
    tracer = FlowTracer(scene, FlowTable(cluster.engine, check=True))
    wrong: list[str] = []
    lines = [line.partition("#")[0].strip() for line in case.table.splitlines()]
    for line in filter(None, lines):
        parts = _LINE.fullmatch(line)
        assert parts is not None, f"cannot read {line!r}"
        source, target, protocol, verdict, deciders = parts.groups()
        question = parse_question(source, _with_port(target, protocol), protocol or "tcp")
        expected = f"{verdict} {deciders.strip()}".strip()
        for engine, answer in (("intent", intent.answer(scene, question)), ("flows", tracer.answer(question))):
            if (said := _said(answer)) != expected:
                wrong.append(f"{line}   but {engine} says {said}, because {answer.reason}")
    assert any(lines), f"{case.name} asks nothing"
    return wrong


def _with_port(target: str, protocol: str | None) -> str:
    """A target without a port asks for port 80, unless by icmp."""
    has_port = re.search(r"\]:\d+$|^[^:]*:\d+$", target) is not None
    return target if has_port or protocol == "icmp" else f"[{target}]:80" if target.count(":") > 1 else f"{target}:80"


def _said(answer: Answer) -> str:
    deciders = []
    for step in answer.steps:
        if step.object is None or step.object.kind != "NetworkPolicy":
            continue
        name = str(step.object.key).removeprefix("shop/")
        deciders.append(name if step.rule is None else f"{name}[{step.rule}]")
    return " ".join([answer.verdict, *deciders])
