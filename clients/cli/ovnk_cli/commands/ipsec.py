"""``ovnk ipsec``: the certificates of nodes (15.4.3), in a folder of files without a cluster, or on a server."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_cli.place import Server, ask, server_for_files, server_options
from ovnk_core.certificates.office import CIPHER, ICV_BYTES, KEY_BITS, MODE, USABLE, Office, Standing, missing
from ovnk_core.certificates.signing import MAX_REQUEST_BYTES, SIGNER, USAGE, Request
from ovnk_core.cluster import Cluster
from ovnk_core.errors import SchemaError
from ovnk_core.model.tables import NODE, cluster_key

Document = dict[str, Any]


def place_options(function: Any) -> Any:
    """``--folder``, where authorities and certificates are kept, or a server that has one."""
    option = click.option("--folder", metavar="FOLDER", help="Authorities and certificates; made with mode 0700.")
    return server_options(option(function))


@click.group()
def ipsec() -> None:
    """The certificate authority of IPsec, certificates of nodes, and when both are renewed.

    A folder holds the authorities with their keys, and the newest certificate of each node; `ovnk serve` uses the same
    folder (certificates.folder), and answers for it with --server.
    """


@ipsec.command()
@place_options
@click.option("--rotate", is_flag=True, help="Make the next authority: trusted at once, signing 90 days later.")
@output_option("pem", "table", "json", "yaml", default="pem")
def ca(folder: str | None, rotate: bool, output: str, **given: Any) -> None:
    """Make the authority if there is none or its successor is due, and print what nodes are to trust.

    Give the certificates (-o pem, the default) to every node before any other authority signs.
    """
    server, now = _server(folder, given), _now()
    if server is not None:
        from ovnk_cli.online.certificates import authority

        bundle, standings = ask(server, authority(rotate))
    else:
        office = Office(str(folder))
        standings = office.rotate(now, only_if_due=not rotate)
        bundle = office.bundle(now).decode()
    if output == "pem":
        click.echo(bundle, nl=False)
    else:
        _print({"authorities": list(map(_document, standings))}, output)


@ipsec.command()
@click.argument("node")
@place_options
@input_options(is_required=False)
@click.option("--request", "request_file", required=True, metavar="FILE", help="PKCS#10 in PEM; - for stdin.")
@click.option("--signer", default=SIGNER, show_default=True, help="The signer that is asked for.")
@click.option("--usage", "usages", multiple=True, default=(USAGE,), show_default=True, help="What it is asked for.")
def sign(node: str, request_file: str, signer: str, usages: tuple[str, ...], **given: Any) -> None:
    """Sign the request of a node that the files (-f), or the server, know, and print its certificate in PEM.

    The request's common name and its only alternative name must be the node's chassis id
    (k8s.ovn.org/node-chassis-id, or else the node's name). Exit status 1 when it is refused.
    """
    folder: str | None = given.pop("folder")
    server = _server(folder, given)
    if (server is None) != bool(given["paths"]):
        raise click.UsageError("--folder goes with -f PATH, which says which nodes there are; --server knows its own")
    asked = Request(node=node, pem=_read(request_file), signer=signer, usages=usages)
    if server is not None:
        from ovnk_cli.online.certificates import signed

        certificate, standing = ask(server, signed(asked))
    else:
        cluster = offline(Input(**given)).cluster
        try:
            issued = Office(str(folder)).sign(asked, _chassis(cluster, node), _now())
        except SchemaError as error:
            raise error.at(request_file if error.path == "request" else "") from None
        certificate, standing = issued.certificate.decode(), issued.standing
    say(f"valid until {_time(standing.valid_until)}, to be renewed from {_time(standing.renew_at)} on")
    click.echo(certificate, nl=False)


@ipsec.command()
@place_options
@input_options(is_required=False)
@output_option("table", "json", "yaml", "name")
def status(folder: str | None, output: str, **given: Any) -> None:
    """How traffic is encrypted, and when certificates end and are to be renewed.

    Exit status 1 when there is no valid authority, its successor is due, or a node's certificate is anything but valid;
    in a cluster with IPsec, which files (-f) or a server know, also when a node has none.
    """
    server, now = _server(folder, given), _now()
    if server is not None and given["paths"]:
        raise click.UsageError("-f PATH goes with --folder: a server knows its own nodes")
    if server is not None:
        from ovnk_cli.online.certificates import standings

        authorities, nodes, more = ask(server, standings)
    else:
        authorities, nodes, more = _standings(str(folder), now, given)
    document: Document = {
        "cipher": {"algorithm": CIPHER, "icv_bytes": ICV_BYTES, "key_bits": KEY_BITS, "mode": MODE},
        "authorities": list(map(_document, authorities)),
        "nodes": list(map(_document, nodes)),
    }
    _print(document | more, output)
    states = {each.state for each in authorities}
    if not states & USABLE:
        say("there is no valid authority")
    is_fine = bool(states & USABLE) and "due" not in states and all(each.state == "valid" for each in nodes)
    lacks = bool(more.get("enabled") and more["missing"])
    raise click.exceptions.Exit(0 if is_fine and not lacks else 1)


def _standings(
    folder: str, now: datetime, given: dict[str, Any]
) -> tuple[tuple[Standing, ...], tuple[Standing, ...], Document]:
    """Authorities, certificates of nodes, and what only files of the cluster can tell."""
    if not Path(folder).is_dir():
        raise click.UsageError(f"--folder {folder}: no such folder")
    office = Office(folder, is_made=False)
    authorities = office.authorities(now, is_every=True)
    if not given["paths"]:
        return authorities, tuple(office.nodes(now).values()), {}
    cluster = offline(Input(**given)).cluster
    names = (key.name for key in cluster.engine.rows(NODE))
    chassis = {name: found for name in names if (found := _chassis(cluster, name))}
    nodes = office.nodes(now, chassis)
    more = {"enabled": cluster.network.has_ipsec, "missing": missing(chassis, nodes)}
    return authorities, tuple(nodes.values()), more


def _server(folder: str | None, given: dict[str, Any]) -> Server | None:
    """The server that is asked; None for the folder. Raises UsageError without either."""
    server = server_for_files(given, is_wanted=folder is None)
    if server is None and folder is None:
        raise click.UsageError("give --folder FOLDER, or --server ADDRESS (or OVNK_SERVER)")
    return server


def _now() -> datetime:
    return datetime.now(UTC)


def _chassis(cluster: Cluster, node: str) -> str | None:
    known = cluster.engine.rows(NODE).get(cluster_key(node))
    return known.certified if known is not None else None


def _read(file: str) -> bytes:
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened:
            content = opened.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"--request {file}: {error.strerror}") from error
    if b"PRIVATE KEY-----" in content:
        # Given by mistake it would travel to the server.
        raise click.UsageError(
            f"--request {file}: holds a private key, which stays on its node; give the request alone"
        )
    return content


def _document(each: Standing) -> Document:
    kind = {"node": each.node} if each.node else {"signing": each.is_signing}
    return kind | {
        "subject": each.subject,
        "serial": each.serial,
        "fingerprint": each.fingerprint,
        "valid_from": _time(each.valid_from),
        "valid_until": _time(each.valid_until),
        "renew_at": _time(each.renew_at),
        "state": each.state,
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _print(document: Document, output: str) -> None:
    if output in ("json", "yaml"):
        emit(document, output)
        return
    rows = [
        (f"node/{each['node']}" if "node" in each else f"authority/{each['subject']}", each)
        for each in (*document["authorities"], *document.get("nodes", ()))
    ]
    if output == "name":
        for name, _ in rows:
            click.echo(name)
        return
    for name in document.get("missing", ()):
        say(f"node/{name} has no valid certificate")
    table(
        ("NAME", "VALID FROM", "VALID UNTIL", "RENEW", "STATE"),
        ((name, each["valid_from"], each["valid_until"], each["renew_at"], each["state"]) for name, each in rows),
    )
