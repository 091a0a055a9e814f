"""Questions about packets: ``trace`` and ``matrix``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

import click
from click.core import ParameterSource

from ovnk_cli.complete import ends
from ovnk_cli.inputs import Input, is_namespace, offline
from ovnk_cli.options import dns_option, input_options, northbound_options, output_option
from ovnk_cli.output import API_VERSION, HIDDEN, emit, table
from ovnk_cli.place import Server, ask, server_options, taken_server
from ovnk_core.analysis.matrix import matrix as compute_matrix
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.json_reader import read_json
from ovnk_core.ingest.yaml_reader import Unreadable
from ovnk_core.trace.question import (
    PROTOCOLS,
    Answer,
    Egress,
    Leg,
    LoadBalancing,
    Question,
    QuestionError,
    RouterAnswer,
    Verdict,
    parse_question,
)
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import ENGINES, Disagreement, Engine, Tracer

if TYPE_CHECKING:
    from ovnk_client.questions import EngineName

SHOWN = 80
"""Characters of an offending value that an error quotes."""


def _leg(leg: Leg) -> dict[str, Any]:
    found = {"from": leg.source, "to": leg.target, "transport": leg.transport, "encrypted": leg.is_encrypted}
    return found | ({"protection": leg.protection} if leg.protection else {})


def answer_document(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {
        "verdict": answer.verdict,
        "reason": answer.reason,
        "path": answer.path,
        "legs": [_leg(leg) for leg in answer.legs],
        "steps": [
            {
                "stage": step.stage,
                "verdict": step.verdict,
                "object": None
                if step.object is None
                else {"kind": step.object.kind, "namespace": step.object.namespace, "name": step.object.name},
                "rule": step.rule,
                "source": step.source,
                "text": step.text,
            }
            for step in answer.steps
        ],
    }
    if answer.path == "multicast":
        document["receivers"] = [
            {"namespace": each.namespace, "name": each.name, "node": each.node} for each in answer.receivers
        ]
    if answer.load_balancer is not None:
        document["load_balancer"] = _balancing_document(answer.load_balancer)
    if answer.egress_router is not None:
        document["egress_router"] = _router_document(answer.egress_router)
    if answer.egress is not None:
        document["egress"] = egress_document(answer.egress)
    return document | ({"incomplete": list(answer.incomplete)} if answer.incomplete else {})


def egress_document(found: Egress) -> dict[str, Any]:
    """How a packet leaves, as ``-o json`` prints it."""
    return {
        "egressip": found.egressip,
        "candidates": [{"node": each.node, "source_ip": each.source_ip} for each in found.candidates],
        "node": found.only.node if found.only is not None else None,
        "source_ip": found.only.source_ip if found.only is not None else None,
    }


def _router_document(found: RouterAnswer) -> dict[str, Any]:
    return {
        "pod": str(found.pod),
        "network": str(found.network),
        "node": found.node,
        "interface": found.interface,
        "source_ip": found.source_ip,
        "destination": found.destination,
    }


def _balancing_document(found: LoadBalancing) -> dict[str, Any]:
    return {
        "vip": found.vip,
        "service": str(found.service),
        "backends": [
            {
                "target": each.target or None,
                "pod": None if each.pod is None else str(each.pod),
                "node": each.node or None,
                "entry": each.entry or None,
                "verdict": each.verdict,
                "reason": each.reason,
                "path": each.path,
            }
            for each in found.backends
        ],
        "chosen": found.chosen or None,
    }


@click.command()
@server_options
@input_options(is_required=False)
@click.option("--from", "source", metavar="NS/POD|IP", help="Where the connection starts.", shell_complete=ends)
@click.option(
    "--to",
    "target",
    metavar="NS/POD[:PORT]|IP[:PORT]|svc:NS/NAME[:PORT]",
    help="Where it goes: a pod, an address, or a Service with a port's number or name.",
    shell_complete=ends,
)
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="tcp", show_default=True)
@click.option("--port", type=int, metavar="N", help="Destination port, if not part of --to.")
@click.option(
    "--expect",
    type=click.Choice(get_args(Verdict)),
    help="Exit 1 when the verdict is another. A Service's is mixed where its endpoints differ.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Answer from the objects (intent), from them with compiled firewalls (fast), from the logical flows, from "
    "intent and flows (both), or from all three; several must agree. Default: both, and fast with --batch.",
)
@click.option("--batch", metavar="FLOWS.jsonl|-", help="One JSON question a line; one JSON answer a line.")
@dns_option
@northbound_options(is_required=False)
@output_option("text", "json", "yaml", default="text")
def trace(
    source: str | None,
    target: str | None,
    protocol: str,
    port: int | None,
    expect: str | None,
    engine: Engine | None,
    batch: str | None,
    output: str,
    **given: Any,
) -> None:
    """What happens to a packet, and which line of which object decides."""
    if batch is None and (source is None or target is None):
        raise click.UsageError("give --from and --to, or --batch")
    if batch is not None:
        _check_batch(batch, given["paths"])
    server = taken_server(given)
    question = _parsed(source, target, protocol, port) if source is not None and target is not None else None
    if server is not None:
        asked = (source, target, protocol, port, engine)
        raise click.exceptions.Exit(_trace_server(server, asked, batch, expect=expect, output=output))
    found = offline(Input(**given))
    scene = Scene(found.cluster, found.loaded.unbuilt)
    tracer = Tracer(scene, lambda: FlowTable(found.cluster.engine))
    if batch is not None:
        raise click.exceptions.Exit(max(_batch(tracer, engine or "fast", batch, expect), found.exit_code))
    assert question is not None
    try:
        answer = tracer.ask(question, engine or "both")
    except QuestionError as error:
        raise _usage(error) from error
    except Disagreement as error:
        raise click.ClickException(str(error)) from error
    differs = _tell(answer_document(answer), expect, output)
    raise click.exceptions.Exit(1 if differs else found.exit_code)


def _parsed(source: str, target: str, protocol: str, port: int | None) -> Question:
    """What the options ask. Raises UsageError."""
    try:
        return parse_question(source, target, protocol, port)
    except QuestionError as error:
        place = f"[{target}]" if "/" not in target and ":" in target else target
        hint = f": --port N or --to {place}:N" if error.field == "port" and not error.value else ""
        raise _usage(error, hint) from error


def _usage(error: QuestionError, hint: str = "") -> click.UsageError:
    """What is wrong with a question, by the option at fault."""
    option = f"--{error.field} {error.value}".rstrip()
    return click.UsageError(f"{option}: {error.reason}{hint}")


def _tell(answer: dict[str, Any], expect: str | None, output: str) -> bool:
    """Print an answer; whether it is another than expected."""
    if output == "text":
        _print(answer)
    else:
        emit(answer, output)
    differs = expect is not None and expect != answer["verdict"]
    if differs:
        click.echo(f"expected {expect}, got {answer['verdict']}", err=True)
    return differs


def _trace_server(server: Server, asked: tuple[Any, ...], batch: str | None, *, expect: str | None, output: str) -> int:
    from ovnk_cli.online.asking import Asked, trace, trace_many

    if batch is None:
        source, target, protocol, port, engine = asked
        question = Asked(source=source, target=target, protocol=protocol, port=port, engine=engine or "")
        return 1 if _tell(ask(server, lambda client: trace(client, question)), expect, output) else 0
    writer = _Writer(expect)

    def questions(lines: BinaryIO) -> Iterator[tuple[dict[str, Any], Asked | dict[str, Any]]]:
        for line in filter(bytes.strip, lines):
            identity: dict[str, Any] = {}
            try:
                raw = _object(line)
                identity = {"id": raw["id"]} if "id" in raw else {}
                _question(raw)
                port, protocol = raw.get("port"), raw.get("protocol", "tcp")
                engine: EngineName = asked[4] or ""
                yield (
                    identity,
                    Asked(source=raw["from"], target=raw["to"], protocol=protocol, port=port, engine=engine),
                )
            except QuestionError as error:
                yield identity, _fault(error)

    with _lines(batch) as lines:
        ask(server, lambda client: trace_many(client, questions(lines), writer.write))
    return writer.worst


def _check_batch(batch: str, paths: tuple[str, ...]) -> None:
    """``--batch`` beside options that only a single question takes. Raises UsageError."""
    context = click.get_current_context()
    single = {"source": "--from", "target": "--to", "protocol": "--protocol", "port": "--port", "output": "-o"}
    for name, option in single.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--batch takes its questions from the file, one JSON a line: leave out {option}")
    if batch == "-" and "-" in paths:
        raise click.UsageError("standard input cannot hold both the objects (-f -) and the questions (--batch -)")


def _travelled(leg: dict[str, Any]) -> str:
    """How a leg is travelled; whether it is encrypted only where a cluster has IPsec."""
    if "protection" not in leg:
        return str(leg["transport"])
    return f"{leg['transport']}, {'encrypted' if leg['encrypted'] else 'not encrypted'}: {leg['protection']}"


def print_egress(found: dict[str, Any]) -> None:
    """By which node and as whom a packet leaves; nothing where it does not."""
    if found["candidates"]:
        click.echo(f"egress: {ways_out(found)}")


def ways_out(found: dict[str, Any]) -> str:
    """By which node and as whom, and whose egress IP that is, in a line."""
    ways = " or ".join(f"{each['node'] or HIDDEN} as {each['source_ip'] or HIDDEN}" for each in found["candidates"])
    return (ways or "nothing leaves") + (f" (EgressIP {found['egressip']})" if found["egressip"] else "")


def _print(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['verdict']}: {answer['reason']}")
    way = ", ".join(f"{leg['from'] or HIDDEN} -> {leg['to'] or HIDDEN} ({_travelled(leg)})" for leg in answer["legs"])
    click.echo(f"path: {answer['path']}" + (f", {way}" if way else ""))
    if "load_balancer" in answer:
        _print_balancing(answer["load_balancer"])
    for step in answer["steps"]:
        where = f"  [{step['source']}]" if step["source"] else ""
        click.echo(f"  {step['verdict']:<6} {step['stage']:<18} {step['text']}{where}")
    if "egress" in answer:
        print_egress(answer["egress"])
    if "egress_router" in answer:
        router = answer["egress_router"]
        click.echo(f"egress router: {router['destination']} sees {router['source_ip']} (pod {router['pod']})")
    if "receivers" in answer:
        heard = [f"{each['namespace']}/{each['name']} ({each['node'] or HIDDEN})" for each in answer["receivers"]]
        click.echo(f"receivers: {', '.join(heard) or 'none'}")
    if "incomplete" in answer:
        click.echo(f"incomplete: not built yet and could change this: {', '.join(answer['incomplete'])}")


def _print_balancing(found: dict[str, Any]) -> None:
    """What is asked, then one line for each endpoint that may answer."""
    count = len(found["backends"])
    after = found["chosen"] or (f"one of {count}" if count else "no endpoint")
    click.echo(f"load balancer: {found['vip']} (Service {found['service']}) -> {after}")
    for each in found["backends"]:
        where = " on ".join(filter(None, (each["pod"], each["node"])))
        target = each["target"] or ("nobody" if each["verdict"] == "reject" else "an endpoint")
        entry = f" by the gateway of {each['entry']}" if each["entry"] else ""
        click.echo(f"  {each['verdict']:<6} {target}{f' ({where})' if where else ''}{entry}: {each['reason']}")


class _Writer:
    """Answers line by line; ``worst`` is 1 when a line could not be answered or differs from ``--expect``."""

    def __init__(self, expect: str | None) -> None:
        self._expect = expect
        self.worst = 0

    def write(self, document: dict[str, Any]) -> None:
        if "error" in document or (self._expect is not None and document["verdict"] != self._expect):
            self.worst = 1
        sys.stdout.write(json.dumps({"apiVersion": API_VERSION, **document}, ensure_ascii=False) + "\n")


@contextmanager
def _lines(batch: str) -> Iterator[BinaryIO]:
    if batch == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(batch, "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        raise click.UsageError(f"--batch {batch}: {error.strerror}") from error
    with file:
        yield file


def _batch(tracer: Tracer, engine: Engine, batch: str, expect: str | None) -> int:
    """Answer line by line, in order; the exit status."""
    writer = _Writer(expect)
    with _lines(batch) as lines:
        for line in lines:
            if line.strip():
                writer.write(_answer_line(tracer, engine, line))
    return writer.worst


def _answer_line(tracer: Tracer, engine: Engine, line: bytes) -> dict[str, Any]:
    identity: dict[str, Any] = {}
    try:
        raw = _object(line)
        identity = {"id": raw["id"]} if "id" in raw else {}
        return identity | answer_document(tracer.ask(_question(raw), engine))
    except QuestionError as error:
        return identity | _fault(error)
    except Disagreement as error:
        return identity | {"error": {"field": "engine", "value": engine, "reason": str(error)}}


def _fault(error: QuestionError) -> dict[str, Any]:
    return {"error": {"field": error.field, "value": error.value, "reason": error.reason}}


def _object(line: bytes) -> dict[str, Any]:
    """One line -> its JSON object, by the same reader as manifests. Raises QuestionError."""
    shown = line.decode(errors="backslashreplace").strip()[:SHOWN]
    try:
        found = read_json(line.decode(), "line")
    except UnicodeDecodeError:
        raise QuestionError("line", shown, "is not UTF-8") from None
    if isinstance(found, Unreadable):
        raise QuestionError("line", shown, f"is {found.reason}")
    if found.problems:
        raise QuestionError("line", shown, found.problems[0].reason)
    if not isinstance(found.value, dict):
        raise QuestionError("line", shown, "is not a JSON object")
    return found.value


def _question(raw: dict[str, Any]) -> Question:
    unknown = sorted(raw.keys() - {"from", "to", "protocol", "port", "id"})
    if unknown:
        raise QuestionError(
            unknown[0], str(raw[unknown[0]])[:SHOWN], "is not a field; known: from, to, protocol, port, id"
        )
    for field in ("from", "to"):
        if not isinstance(raw.get(field), str):
            raise QuestionError(field, str(raw.get(field, ""))[:SHOWN], "must be given as text")
    port, protocol = raw.get("port"), raw.get("protocol", "tcp")
    if port is not None and (not isinstance(port, int) or isinstance(port, bool)):
        raise QuestionError("port", str(port)[:SHOWN], "must be a number")
    return parse_question(raw["from"], raw["to"], str(protocol), port)


@click.command()
@server_options
@input_options(is_required=False)
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="tcp", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Destination port; not with icmp.")
@click.option("-n", "--namespace", metavar="NS", help="Only pods, and Services, of one namespace.")
@click.option("--services", "has_services", is_flag=True, help="Every port of every Service as a target too.")
@northbound_options(is_required=False)
@output_option("table", "json", "yaml", "csv")
def matrix(
    protocol: str, port: int | None, namespace: str | None, has_services: bool, output: str, **given: Any
) -> None:
    """Who may talk to whom: every pair of pods on one port, and every pod and Service."""
    if has_services and protocol == "icmp":
        raise click.UsageError("--services: a Service is reached by tcp, udp or sctp")
    if (protocol == "icmp") == (port is not None):
        raise click.UsageError("icmp has no ports" if port is not None else f"{protocol} needs --port")
    chosen = next(each for each in PROTOCOLS if each == protocol)
    server = taken_server(given)
    if server is not None:
        from ovnk_cli.online.asking import Pairs
        from ovnk_cli.online.asking import matrix as ask_matrix

        asked = Pairs(protocol=chosen, port=port, namespace=namespace or "", has_services=has_services)
        _print_matrix(ask(server, lambda client: ask_matrix(client, asked)), output)
        return
    found = offline(Input(**given))
    scene = Scene(found.cluster, found.loaded.unbuilt)
    if namespace is not None and not is_namespace(found.cluster, namespace):
        raise click.UsageError(f"-n {namespace}: no such namespace")
    result = compute_matrix(scene, protocol=chosen, port=port, namespace=namespace, has_services=has_services)
    sources, targets = [str(key) for key in result.sources], [str(key) for key in (*result.targets, *result.services)]
    _print_matrix({"from": sources, "to": targets, "verdicts": [list(row) for row in result.verdicts]}, output)
    raise click.exceptions.Exit(found.exit_code)


def _print_matrix(document: dict[str, Any], output: str) -> None:
    if output in ("json", "yaml"):
        emit(document, output)
        return
    body = [[source, *row] for source, row in zip(document["from"], document["verdicts"], strict=True)]
    if output == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([["from", *document["to"]], *body])
    else:
        table(["FROM \\ TO", *document["to"]], body)
