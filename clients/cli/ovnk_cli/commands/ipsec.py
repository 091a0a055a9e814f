"""``ovnk ipsec``: the certificates of nodes (15.4.3), in a folder of files without a cluster, or on a server."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ovnk_cli.inputs import Input, offline
from ovnk_cli.options import input_options, output_option
from ovnk_cli.output import emit, say, table
from ovnk_cli.place import Server, ask, server_for_files, server_options
from ovnk_core.certificates.authority import is_valid_between
from ovnk_core.certificates.office import CIPHER, ICV_BYTES, KEY_BITS, MODE, Office, Standing
from ovnk_core.certificates.signing import MAX_REQUEST_BYTES, SIGNER, USAGE, Request
from ovnk_core.cluster import Cluster
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
@output_option("table", "json", "yaml", "name", default="name")
def ca(folder: str | None, rotate: bool, output: str, **given: Any) -> None:
    """Make the authority if there is none or its successor is due, and print what nodes are to trust.

    `-o name`, the default, prints the certificates in PEM: give them to every node before any other authority signs.
    """
    server, now = _server(folder, given), _now()
    if server is not None:
        from ovnk_cli.online.certificates import authority

        bundle, standings = ask(server, authority(rotate))
    else:
        office = Office(str(folder))
        standings = office.rotate(now, only_if_due=not rotate)
        bundle = office.bundle(now).decode()
    if output == "name":
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
        issued = Office(str(folder)).sign(asked, _chassis(cluster, node), _now())
        certificate, standing = issued.certificate.decode(), issued.standing
    say(f"valid until {_time(standing.valid_until)}, to be renewed from {_time(standing.renew_at)} on")
    click.echo(certificate, nl=False)


@ipsec.command()
@place_options
@output_option("table", "json", "yaml", "name")
def status(folder: str | None, output: str, **given: Any) -> None:
    """How traffic is encrypted, and when certificates end and are to be renewed.

    Exit status 1 when there is no valid authority, or one or a node's certificate has expired or is due; on a server
    of a cluster with IPsec also when a node has none.
    """
    server, now = _server(folder, given), _now()
    more: Document = {}
    if server is not None:
        from ovnk_cli.online.certificates import standings

        authorities, nodes, more = ask(server, standings)
    else:
        office = Office(str(folder))
        authorities, nodes = office.authorities(now), tuple(office.nodes().values())
    document: Document = {
        "cipher": {"algorithm": CIPHER, "icv_bytes": ICV_BYTES, "key_bits": KEY_BITS, "mode": MODE},
        "authorities": list(map(_document, authorities)),
        "nodes": [_document(each) | {"state": _state(each, now)} for each in nodes],
    }
    _print(document | more, output)
    is_fine = bool(authorities) and all(_state(each, now) == "valid" for each in (*authorities[-1:], *nodes))
    lacks = bool(more.get("enabled") and more["missing"])
    raise click.exceptions.Exit(0 if is_fine and not lacks else 1)


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
    return None if known is None or known.is_windows else known.chassis or known.name


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"--request {file}: {error.strerror}") from error


def _state(each: Standing, now: datetime) -> str:
    if not is_valid_between(each.valid_from, each.valid_until, now):
        return "expired"
    return "due" if now >= each.renew_at else "valid"


def _document(each: Standing) -> Document:
    kind = {"node": each.node} if each.node else {"signing": each.is_signing}
    return kind | {
        "subject": each.subject,
        "serial": each.serial,
        "fingerprint": each.fingerprint,
        "valid_from": _time(each.valid_from),
        "valid_until": _time(each.valid_until),
        "renew_at": _time(each.renew_at),
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
        say(f"node/{name} has no certificate")
    table(
        ("NAME", "VALID FROM", "VALID UNTIL", "RENEW", "STATE"),
        ((name, each["valid_from"], each["valid_until"], each["renew_at"], _word(each)) for name, each in rows),
    )


def _word(each: Document) -> str:
    return str(each["state"]) if "state" in each else "signing" if each["signing"] else "trusted"
