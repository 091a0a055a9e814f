"""``ovnk lint``: what is wrong, useless or dangerous in egress firewalls, egress IPs and egress routers."""

from __future__ import annotations

import json
from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import dns_option, input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_cli.sarif import sarif
from ovnk_core.analysis.egress_ip_lint import egress_ip_findings
from ovnk_core.analysis.finding import SEVERITIES, Finding, Severity
from ovnk_core.analysis.firewall.lint import lint_firewalls
from ovnk_core.analysis.router_lint import router_findings


@click.command()
@input_options()
@dns_option
@northbound_options(is_required=False)
@click.option(
    "--severity",
    type=click.Choice(SEVERITIES),
    default=SEVERITIES[0],
    show_default=True,
    help="Leave out what is milder.",
)
@output_option("table", "wide", "json", "yaml", "name", "sarif")
def lint(severity: Severity, output: str, **given: Any) -> None:
    """Find rules of egress firewalls that do nothing, and those that deny too much or too little; egress IPs that
    select nothing or what others have; egress routers that nobody reaches, or that the platform does not carry.

    Exit status 1 when something is found, or an object is refused.
    """
    # Wildcard names are read, so that they can be reported: elsewhere an object with one is refused without a feed.
    found = offline(Input(**given, has_dns_feed=True))
    shown = SEVERITIES[SEVERITIES.index(severity) :]
    everything = (
        *lint_firewalls(found.cluster, found.loaded.warnings, has_feed=False),
        *egress_ip_findings(found.cluster),
        *router_findings(found.cluster),
    )
    findings = [each for each in everything if each.severity in shown]
    if output == "sarif":
        click.echo(json.dumps(sarif(findings, found.cluster.refused), indent=1))
    elif output in ("json", "yaml"):
        emit({"findings": [_document(each) for each in findings]}, output)
    elif output == "name":
        for each in findings:
            click.echo(_name(each))
    else:
        _print(findings, is_wide=output == "wide")
    raise click.exceptions.Exit(1 if findings else found.exit_code)


def _document(finding: Finding) -> dict[str, Any]:
    ref = finding.object
    return {
        "code": finding.code,
        "severity": finding.severity,
        "object": {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name},
        "rule": finding.rule,
        "source": finding.source,
        "text": finding.text,
        "hidden_by": list(finding.hidden_by),
    }


def _name(finding: Finding) -> str:
    ref = finding.object
    rule = "" if finding.rule is None else f"/{finding.rule}"
    return f"{'/'.join(filter(None, (ref.kind.lower(), ref.namespace, ref.name)))}{rule} {finding.code}"


def _print(findings: list[Finding], *, is_wide: bool) -> None:
    head = ["SEVERITY", "CODE", "OBJECT", "RULE", "FINDING"]
    rows: list[list[object]] = [
        [each.severity, each.code, str(each.object), "-" if each.rule is None else each.rule, each.text]
        for each in findings
    ]
    if is_wide:
        head += ["HIDDEN BY", "SOURCE"]
        for row, each in zip(rows, findings, strict=True):
            row += [",".join(map(str, each.hidden_by)) or "-", each.source]
    table(head, rows)
