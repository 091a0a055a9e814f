"""``ovnk annotations``: what nodes and pods are told of their place, for an adapter to write back."""

from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, northbound_options, output_option
from ovnk_cli.output import emit, table
from ovnk_cli.place import ask, server_options, taken_server
from ovnk_core.topology.annotations import NODE_TOLD, POD_TOLD

Document = dict[str, Any]


@click.command()
@server_options
@input_options(is_required=False)
@northbound_options(is_required=False)
@output_option("table", "json", "yaml", "name")
def annotations(output: str, **given: Any) -> None:
    """List the annotations that are ours to write on nodes and pods, and the settings of nodes: tunnel ports, MTU, and
    the egress IPs they hold.

    The adapter that writes them back finds in them what was decided: subnets, ids, addresses, gateways.
    """
    server = taken_server(given)
    if server is not None:
        from ovnk_cli.online.asking import told

        _print(ask(server, told), output)
        return
    found = offline(Input(**given))
    rows = found.cluster.engine.rows
    nodes = [
        {
            "name": key.name,
            "annotations": dict(each.annotations),
            "ports": {"geneve": each.geneve_port, "vxlan": each.vxlan_port},
            "mtu": each.mtu_bytes,
            "egressIPs": list(map(str, each.egress_ips)),
        }
        for key, each in sorted(rows(NODE_TOLD).items())
    ]
    pods = [
        {"namespace": key.namespace, "name": key.name, "annotations": dict(each.annotations)}
        for key, each in sorted(rows(POD_TOLD).items())
    ]
    _print({"nodes": nodes, "pods": pods}, output)
    raise click.exceptions.Exit(found.exit_code)


def _print(document: Document, output: str) -> None:
    if output in ("json", "yaml"):
        emit(document, output)
        return
    named = [(f"node/{each['name']}", each) for each in document["nodes"]]
    named += [(f"pod/{each['namespace']}/{each['name']}", each) for each in document["pods"]]
    if output == "name":
        for name, _ in named:
            click.echo(name)
        return
    lines = [[name, key, text] for name, each in named for key, text in each["annotations"].items()]
    lines += [
        [f"node/{each['name']}", f"({word})", str(value)]
        for each in document["nodes"]
        for word, value in (*((f"{port} port", number) for port, number in each["ports"].items()), ("mtu", each["mtu"]))
        if value is not None
    ]
    lines += [[f"node/{each['name']}", "(egress ip)", text] for each in document["nodes"] for text in each["egressIPs"]]
    table(["OBJECT", "ANNOTATION", "VALUE"], lines)
