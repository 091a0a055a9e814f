"""Addresses of stores, and that only users of etcd load its client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ovnk_core.store.address import EtcdAddress, parse_etcd
from ovnk_core.store.open import open_log

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "endpoints", "prefix"),
    [
        ("a:1", ("a:1",), "/ovnk"),
        ("a:1,b:2,[::1]:3", ("a:1", "b:2", "[::1]:3"), "/ovnk"),
        ("a:1/x", ("a:1",), "/x"),
        ("a:1/x/y/", ("a:1",), "/x/y"),
    ],
)
def test_members_and_prefix(text: str, endpoints: tuple[str, ...], prefix: str) -> None:
    assert parse_etcd(text) == EtcdAddress(endpoints=endpoints, prefix=prefix)


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:x", "a:0", "a:65536", "a:1,", ",", "a:1/", "a:1//"])
def test_what_is_no_member(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|prefix"):
        parse_etcd(text)


@pytest.mark.parametrize("address", ["memory", "sqlite:/tmp/x.db", "etcd:a:1,b:2", "etcd:a:1/mine"])
def test_an_address_gives_its_log_and_the_log_its_address(address: str) -> None:
    assert open_log(address).address == address


@pytest.mark.parametrize("address", ["", "memory:", "sqlite:", "etcd:", "redis:a:1", "/tmp/x.db"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="write memory, sqlite:PATH or etcd"):
        open_log(address)


def test_only_users_of_etcd_load_its_client() -> None:
    code = "import sys, ovnk_core.store.open; print([n for n in ('grpc', 'etcd3aio', 'google') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.strip() == "[]"
