"""Sockets and certificate files: what is refused, what is cleared away, when new certificates are taken."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import grpc
import pytest
from ovnk_server.settings import TlsSettings
from ovnk_server.transport import Certificates, ListenError, prepare_socket, protect_socket

from tests.kit.certificates import Authority
from tests.kit.ovn import short_directory


def test_a_socket_gets_a_directory_of_its_own() -> None:
    with short_directory() as root:
        prepare_socket(str(root / "new" / "ovnk" / "s"), "")
        assert stat.S_IMODE((root / "new" / "ovnk").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o701, 0o750, 0o777])
def test_a_directory_that_others_may_enter_is_refused(mode: int) -> None:
    with short_directory() as root:
        root.chmod(mode)
        with pytest.raises(ListenError, match="others may enter it; make it 0700"):
            prepare_socket(str(root / "s"), "")


def test_a_foreign_directory_is_refused() -> None:
    with pytest.raises(ListenError, match=r"belongs to user|others may enter|Permission"):
        prepare_socket("/usr/s", "")


def test_a_group_may_enter_when_asked_for() -> None:
    import grp

    group = grp.getgrgid(os.getgid()).gr_name
    with short_directory() as root:
        path = str(root / "s")
        prepare_socket(path, group)
        assert stat.S_IMODE(root.stat().st_mode) == 0o750
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            protect_socket(path, group)
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
    with pytest.raises(ListenError, match="there is no group"):
        prepare_socket("/nonexistent/s", "no-such-group")


def test_a_socket_is_removed_only_when_nobody_answers() -> None:
    with short_directory() as root:
        path = root / "s"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen(1)
            with pytest.raises(ListenError, match="another server answers there"):
                prepare_socket(str(path), "")
        assert path.exists()
        prepare_socket(str(path), "")
        assert not path.exists()
        path.write_text("mine")
        with pytest.raises(ListenError, match="is no socket"):
            prepare_socket(str(path), "")


def _files(directory: Path, authority: Authority, name: str = "server") -> TlsSettings:
    issued = authority.issue(name)
    return TlsSettings(cert=issued.certificate, key=issued.key, client_ca=authority.file)


def test_a_new_pair_is_taken_only_when_it_fits(tmp_path: Path) -> None:
    told: list[str] = []
    authority = Authority(tmp_path)
    files, other = _files(tmp_path, authority), authority.issue("other")
    certificates = Certificates(files, told.append)
    first = certificates.configuration
    assert not certificates.refresh() and certificates.configuration is first

    shutil.copy(other.certificate, files.cert)
    assert not certificates.refresh() and not certificates.refresh()
    assert certificates.configuration is first
    assert len(told) == 1 and "stays in use" in told[0]

    shutil.copy(other.key, files.key)
    assert certificates.refresh() and certificates.configuration is not first
    second = certificates.configuration
    Path(files.client_ca).write_text("nothing")
    assert not certificates.refresh() and certificates.configuration is second
    Path(files.key).unlink()
    assert not certificates.refresh() and certificates.configuration is second


@pytest.mark.parametrize("broken", ["cert", "key", "client_ca"])
def test_a_server_does_not_begin_with_files_that_cannot_be_used(tmp_path: Path, broken: str) -> None:
    files = _files(tmp_path, Authority(tmp_path))
    path = Path(getattr(files, broken))
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(ListenError, match=path.name):
        Certificates(files)
    path.unlink()
    with pytest.raises(ListenError, match="No such file"):
        Certificates(files)


def test_a_key_with_a_password_is_refused_without_asking(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("locked", password="secret")
    with pytest.raises(ListenError, match="unencrypted key"):
        Certificates(TlsSettings(cert=issued.certificate, key=issued.key, client_ca=authority.file))


def test_each_listener_is_given_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificates = Certificates(_files(tmp_path, authority))
    one, two = certificates.credentials(), certificates.credentials()
    assert isinstance(one, grpc.ServerCredentials) and isinstance(two, grpc.ServerCredentials)
