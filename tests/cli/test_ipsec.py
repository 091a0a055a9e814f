"""``ovnk ipsec``: an authority in a folder, a node's certificate, and their state."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ovnk_core.certificates.authority import key_pem
from ovnk_core.certificates.office import Office
from ovnk_core.certificates.signing import make_request
from tests.cli.command import check, ovnk
from tests.cli.online import terminal, write
from tests.kit import manifest as m
from tests.kit.hybrid import operator

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_ca_sign_and_status(tmp_path: Path) -> None:
    folder, files, request = str(tmp_path / "ca"), tmp_path / "nodes.yaml", tmp_path / "n1.csr"
    files.write_text(yaml.safe_dump(m.node("n1", {"node-chassis-id": "chassis-1"})))
    request.write_bytes(make_request("chassis-1", KEY))
    absent = ovnk("ipsec", "status", "--folder", folder)
    assert (absent.code, "no such folder" in absent.err, (tmp_path / "ca").exists()) == (2, True, False)
    (tmp_path / "ca").mkdir(mode=0o700)
    assert "there is no valid authority" in ovnk("ipsec", "status", "--folder", folder).err
    made = ovnk("ipsec", "ca", "--folder", folder)
    assert made.code == 0, made.err
    signed = ovnk("ipsec", "sign", "n1", "--folder", folder, "-f", str(files), "--request", str(request))
    assert signed.code == 0, signed.err
    issuer = x509.load_pem_x509_certificate(made.out.encode())
    x509.load_pem_x509_certificate(signed.out.encode()).verify_directly_issued_by(issuer)
    shown = ovnk("ipsec", "status", "--folder", folder, "-o", "json")
    document = shown.json("ipsec")
    assert shown.code == 0
    expected = {"algorithm": "AES-GCM-16-256", "icv_bytes": 16, "key_bits": 256, "mode": "Transport"}
    assert document["cipher"] == expected
    assert [(each["node"], each["subject"], each["state"]) for each in document["nodes"]] == [
        ("n1", "chassis-1", "valid")
    ]
    assert [each["signing"] for each in document["authorities"]] == [True]
    assert yaml.safe_load(ovnk("ipsec", "status", "--folder", folder, "-o", "yaml").out) == document
    assert "node/n1" in ovnk("ipsec", "status", "--folder", folder, "-o", "name").out.splitlines()
    assert "signing" in ovnk("ipsec", "status", "--folder", folder).out
    rotated = json.loads(ovnk("ipsec", "ca", "--rotate", "--folder", folder, "-o", "json").out)
    assert [each["signing"] for each in rotated["authorities"]] == [True, False]


def test_status_looks_at_issuer_and_chassis(tmp_path: Path) -> None:
    folder, files, request = tmp_path / "ca", tmp_path / "nodes.yaml", tmp_path / "n1.csr"
    files.write_text(yaml.safe_dump_all([operator({"ipsecConfig": {}}), m.node("n1")]))
    request.write_bytes(make_request("n1", KEY))
    given = ("--folder", str(folder), "-f", str(files))
    status = ("ipsec", "status", *given, "-o", "json")
    ovnk("ipsec", "sign", "n1", *given, "--request", str(request))
    found = ovnk(*status)
    assert (found.code, found.json("ipsec")["missing"], found.json("ipsec")["enabled"]) == (0, [], True)
    files.write_text(yaml.safe_dump_all([operator({"ipsecConfig": {}}), m.node("n1", {"node-chassis-id": "other"})]))
    moved = ovnk(*status)
    assert (moved.code, moved.json("ipsec")["missing"]) == (1, ["n1"])
    assert [each["state"] for each in moved.json("ipsec")["nodes"]] == ["other chassis"]
    (key,) = folder.glob("authority-*.pem")
    key.unlink()
    ovnk("ipsec", "ca", "--folder", str(folder))
    stranger = ovnk("ipsec", "status", "--folder", str(folder))
    assert (stranger.code, "untrusted" in stranger.out) == (1, True)


def test_an_expired_authority_is_shown_and_makes_no_other(tmp_path: Path) -> None:
    folder, files, request = tmp_path / "ca", tmp_path / "nodes.yaml", tmp_path / "n1.csr"
    files.write_text(yaml.safe_dump(m.node("n1")))
    request.write_bytes(make_request("n1", KEY))
    Office(str(folder)).rotate(datetime(2001, 1, 1, tzinfo=UTC))
    shown = ovnk("ipsec", "status", "--folder", str(folder), "-o", "json")
    assert (shown.code, [each["state"] for each in shown.json("ipsec")["authorities"]]) == (1, ["expired"])
    given = ("--folder", str(folder), "-f", str(files), "--request", str(request))
    for words in (("ipsec", "sign", "n1", *given), ("ipsec", "ca", "--folder", str(folder))):
        refused = ovnk(*words)
        assert (refused.code, refused.out, "ovnk ipsec ca --rotate" in refused.err) == (1, "", True)
    assert ovnk("ipsec", "ca", "--rotate", "--folder", str(folder)).code == 0
    assert ovnk("ipsec", "sign", "n1", *given).code == 0


def test_status_says_that_an_authority_is_due(tmp_path: Path) -> None:
    folder = str(tmp_path / "ca")
    (made,) = Office(folder).rotate(datetime.now(UTC) - timedelta(days=5 * 365))
    assert made.renew_at < datetime.now(UTC)
    shown = ovnk("ipsec", "status", "--folder", folder)
    assert (shown.code, shown.out.split()[-1]) == (1, "due")
    (told,) = ovnk("ipsec", "status", "--folder", folder, "-o", "json").json("ipsec")["authorities"]
    assert (told["state"], told["signing"]) == ("due", True)
    assert ovnk("ipsec", "ca", "--folder", folder).code == 0
    assert ovnk("ipsec", "status", "--folder", folder).code == 0


def test_a_windows_node_has_no_tunnels_with_ipsec(tmp_path: Path) -> None:
    files, request = tmp_path / "nodes.yaml", tmp_path / "win-1.csr"
    files.write_text(yaml.safe_dump(m.node("win-1", metadata={"labels": {"kubernetes.io/os": "windows"}})))
    request.write_bytes(make_request("win-1", KEY))
    given = ("--folder", str(tmp_path / "ca"), "-f", str(files), "--request", str(request))
    refused = ovnk("ipsec", "sign", "win-1", *given)
    assert (refused.code, "is a Windows node: its tunnels have no IPsec (got win-1)" in refused.err) == (1, True)


def test_refused_and_misused(tmp_path: Path) -> None:
    folder, files, request = str(tmp_path / "ca"), tmp_path / "nodes.yaml", tmp_path / "n1.csr"
    files.write_text(yaml.safe_dump(m.node("n1")))
    request.write_bytes(make_request("chassis-9", KEY))
    given = ("--folder", folder, "-f", str(files), "--request", str(request))
    other = ovnk("ipsec", "sign", "n1", *given)
    assert (other.code, other.out) == (1, "")
    assert "its common name must be n1, the node's chassis id (got CN=chassis-9)" in other.err
    assert str(request) in other.err
    unknown = ovnk("ipsec", "sign", "n7", *given)
    assert (unknown.code, "certificates are for known nodes only" in unknown.err) == (1, True)
    missing = ovnk("ipsec", "sign", "n1", *given[:-1], str(tmp_path / "none"))
    assert missing.code == 2
    secret = tmp_path / "n1.key"
    secret.write_bytes(key_pem(KEY))
    mistaken = ovnk("ipsec", "sign", "n1", *given[:-1], str(secret))
    assert (mistaken.code, "holds a private key" in mistaken.err) == (2, True)
    assert "MII" not in mistaken.out + mistaken.err
    assert not (list((tmp_path / "ca").iterdir())), "what is refused makes no authority"
    ovnk("ipsec", "ca", "--folder", folder)
    (key,) = (tmp_path / "ca").glob("authority-*.pem")
    key.chmod(0o644)
    assert "chmod 0600" in ovnk("ipsec", "ca", "--folder", folder).err


def test_a_server_does_what_a_folder_does(tmp_path: Path) -> None:
    folder, request = tmp_path / "ca", tmp_path / "n1.csr"
    request.write_bytes(make_request("n1", KEY))
    with terminal(options={"certificates-folder": str(folder)}) as at:
        at.ok(
            "apply",
            "-f",
            write(tmp_path, operator({"ipsecConfig": {}}), m.node("n1"), m.node("n2", address="192.0.2.2")),
        )
        assert at.run("ipsec", "status").code == 1, "there is no authority"
        bundle = at.ok("ipsec", "ca")
        assert bundle == ovnk("ipsec", "ca", "--folder", str(folder)).out
        signed = at.ok("ipsec", "sign", "n1", "--request", str(request))
        x509.load_pem_x509_certificate(signed.encode()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(bundle.encode())
        )
        lacking = at.run("ipsec", "status", "-o", "json")
        document = json.loads(lacking.out)
        check(document, "ipsec")
        assert (lacking.code, document.pop("enabled"), document.pop("missing")) == (1, True, ["n2"])
        assert document == ovnk("ipsec", "status", "--folder", str(folder), "-o", "json").json("ipsec")
        assert "node/n2 has no valid certificate" in at.run("ipsec", "status").err
        request.write_bytes(make_request("n2", KEY))
        at.ok("ipsec", "sign", "n2", "--request", "-", stdin=request.read_text())
        at.ok("ipsec", "status")
        refused = at.run("ipsec", "sign", "n1", "--request", str(request))
        assert (refused.code, "its common name must be n1" in refused.err) == (1, True), refused
        rotated = json.loads(at.ok("ipsec", "ca", "--rotate", "-o", "json"))
        assert [each["signing"] for each in rotated["authorities"]] == [True, False]
        for words in (
            ("ipsec", "ca", "--folder", str(folder), "--server", at.server.socket),
            ("ipsec", "sign", "n1", "-f", str(tmp_path), "--request", str(request)),
            ("ipsec", "sign", "n1", "--folder", str(folder), "--request", str(request)),
        ):
            assert at.run(*words).code == 2, words
    assert "give --folder FOLDER, or --server ADDRESS" in ovnk("ipsec", "ca").err
