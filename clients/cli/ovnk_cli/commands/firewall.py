"""``ovnk firewall match``: what an egress firewall says of a file of flows. Loads numpy and numba, when run."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import click

from ovnk_cli.inputs import Input, is_namespace, offline
from ovnk_cli.options import dns_option, input_options
from ovnk_cli.output import say
from ovnk_core.model.egress_firewall import EgressFirewall, rule_text
from ovnk_core.trace.scene import Scene

if TYPE_CHECKING:
    from ovnk_core.analysis.firewall.match import Matched

PATIENCE_S = 4.0
"""Longer than a million flows take with compiled code at hand."""


@click.group()
def firewall() -> None:
    """Questions about egress firewalls."""


def _format(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in ("csv", "npz") and Path(value).suffix not in (".csv", ".npz"):
        raise click.BadParameter(f"{value}: write csv, npz, FILE.csv or FILE.npz", ctx, param)
    return value


@firewall.command()
@input_options()
@dns_option
@click.option("-n", "--namespace", required=True, metavar="NS", help="Whose firewall is asked.")
@click.option(
    "--flows",
    "flows_file",
    required=True,
    metavar="FILE.csv|FILE.npz|-",
    help="dst,protocol,port as CSV with that header, or as arrays of those names.",
)
@click.option(
    "-o",
    "--output",
    default="csv",
    show_default=True,
    callback=_format,
    metavar="csv|npz|FILE.csv|FILE.npz",
    help="To standard output, or into a file.",
)
@click.option("--summary", is_flag=True, help="Tell on stderr how many flows each rule decided.")
def match(namespace: str, flows_file: str, output: str, summary: bool, **given: Any) -> None:
    """Which rule of a namespace's egress firewall decides each flow.

    The firewall alone is asked: ovnk trace also knows the way, network policies, and that DNS to a pod's own node
    always passes.
    """
    if flows_file == "-" and "-" in given["paths"]:
        raise click.UsageError("standard input cannot hold both the objects (-f -) and the flows (--flows -)")
    content = _read(flows_file)
    found = offline(Input(**given))
    scene = Scene(found.cluster, found.loaded.unbuilt)
    if not is_namespace(found.cluster, namespace):
        raise click.UsageError(f"-n {namespace}: no such namespace")
    asked = scene.firewall(namespace)
    if asked is None:
        say(f"note: namespace {namespace} has no egress firewall, so everything is allowed")
    elif asked.blocked:
        say(f"note: {asked.key} was refused and denies everything: {asked.blocked}")
    from ovnk_core.analysis.firewall.flow_file import is_npz, lines_of, read_csv, read_npz, write_csv, write_npz
    from ovnk_core.analysis.firewall.match import match_flows

    name = "stdin" if flows_file == "-" else flows_file
    patience = Timer(PATIENCE_S, say, ("note: still at it; the first run on a machine compiles for some ten seconds",))
    patience.start()
    try:
        lines = None if is_npz(content, name) else read_csv(content, name)
        flows = lines.flows if lines is not None else read_npz(content, name)
        result = match_flows(scene, namespace, flows)
        if output == "npz" or output.endswith(".npz"):
            answer = write_npz(flows, result.allowed, result.rules)
        else:
            answer = write_csv(lines or lines_of(flows), result.allowed, result.rules)
    finally:
        patience.cancel()
    _write(output, answer)
    if summary:
        _summarise(asked, result)
    raise click.exceptions.Exit(found.exit_code)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--flows {file}: {error.strerror}") from error


def _write(output: str, answer: bytes) -> None:
    if output in ("csv", "npz"):
        sys.stdout.buffer.write(answer)
        return
    try:
        Path(output).write_bytes(answer)
    except OSError as error:
        raise click.UsageError(f"-o {output}: {error.strerror}") from error


def _summarise(asked: EgressFirewall | None, result: Matched) -> None:
    rules = asked.rules if asked is not None else ()
    for rule, count in result.counts():
        what = rule_text(rules[rule]) if rule >= 0 else "no rule"
        say(f"{count:>10,}  rule {rule}: {what}" if rule >= 0 else f"{count:>10,}  {what}")
