"""Options and inputs that cannot be meant: one line on stderr, never a traceback, and the right exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import PACKAGES, ROOT, SHOP, Ran, check, ovnk
from tests.kit.ovn import short_directory

QUESTION = {"from": "shop/cart", "to": "shop/db", "port": 5432}
MEMORY = ("--northbound", "memory")


def assert_usage(ran: Ran, telling: str) -> None:
    assert (ran.code, ran.out) == (2, ""), ran
    assert telling in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (("sync", "-f", SHOP, *MEMORY, "--save-decisions", "/nonexist/x"), "no folder /nonexist"),
        (("sync", "-f", SHOP, *MEMORY, "--save-decisions", "/"), "is a folder"),
        (("sync", "-f", SHOP, *MEMORY, "--dry-run", "--watch"), "--watch"),
        (("sync", "-f", SHOP, *MEMORY, "--dry-run", "--save-decisions", "x"), "--save-decisions"),
        (("sync", "-f", "-", *MEMORY, "--watch"), "standard input"),
        (("rows", "-f", SHOP, "--max-file-bytes", "0"), "--max-file-bytes"),
        (("rows", "-f", SHOP, "--max-file-bytes", "-1"), "--max-file-bytes"),
        (("rows", "-f", SHOP, "--platform", "Bare Metal!"), "letters only"),
        (("flows", "-f", SHOP, "--stage", "ls_nonsense"), "no such stage"),
        (("flows", "-f", SHOP, "--datapath", "nowhere"), "nowhere"),
        (("matrix", "-f", SHOP, "--port", "1", "-n", "nowhere"), "no such namespace"),
        (("trace", "-f", SHOP, "--batch", "-", "-o", "json"), "leave out -o"),
        (("trace", "-f", SHOP, "--batch", "-", "--port", "1"), "leave out --port"),
        (("trace", "-f", SHOP, "--batch", "-", "--protocol", "tcp"), "leave out --protocol"),
        (("trace", "-f", "-", "--batch", "-"), "standard input"),
    ],
)
def test_what_would_be_ignored_is_a_usage_error(words: tuple[str, ...], telling: str) -> None:
    assert_usage(ovnk(*words), telling)


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "inf", "soon"])
def test_a_timeout_is_a_positive_number(seconds: str) -> None:
    assert_usage(ovnk("purge", *MEMORY, "--timeout", seconds), "--timeout")


@pytest.mark.parametrize(
    ("address", "telling"),
    [
        ("tcp:127.0.0.1", "tcp:HOST:PORT"),
        ("tcp:x:y", "1 to 65535"),
        ("tcp:127.0.0.1:99999", "1 to 65535"),
        ("tcp:127.0.0.1:0", "1 to 65535"),
        ("tcp:::1:6641", "brackets"),
        ("tcp::6641", "tcp:HOST:PORT"),
        ("unix:", "unix:PATH"),
        ("memory,tcp:127.0.0.1:6641", "'memory'"),
        ("tcp:127.0.0.1:6641,", "''"),
        ("ssl:127.0.0.1:6641", "certificates"),
    ],
)
def test_an_address_is_checked_before_anything_is_done(address: str, telling: str) -> None:
    assert_usage(ovnk("purge", "--northbound", address), telling)


def test_several_servers_and_ipv6_are_addresses() -> None:
    ran = ovnk("purge", "--northbound", "tcp:[::1]:1,tcp:127.0.0.1:1,unix:/nobody.sock", "--timeout", "1")
    assert ran.code == 3, ran
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("words", [("purge",), ("sync", "-f", SHOP)], ids=["purge", "sync"])
@pytest.mark.parametrize("driver", ["native", "ovsdbapp"])
def test_a_server_that_never_answers_is_given_up_in_time(words: tuple[str, ...], driver: str) -> None:
    """It accepts the connection and says nothing: only the timeout ends the wait."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(directory / "nb.sock"))
        silent.listen()
        northbound = ("--northbound", f"unix:{directory}/nb.sock", "--driver", driver)
        started = time.monotonic()
        ran = ovnk(*words, *northbound, "--timeout", "1")
        assert ran.code == 3, ran
        assert "within 1 s" in ran.err
        assert time.monotonic() - started < 8  # the drivers' own limit is ten seconds


def test_a_batch_goes_on_after_lines_nobody_can_read() -> None:
    good = json.dumps(QUESTION | {"id": 7}).encode()
    lines = [
        b'\xff\xfe{"from": 1}',
        b"[" * 200_000,
        b'{"from": "shop/\\ud800", "to": "shop/db", "port": 1}',
        json.dumps(QUESTION | {"id": float("nan")}).encode(),
        b'{"from": "shop/cart", "to": "shop/db", "port": 1, "id": 1e999}',
        b'{"from": "shop/cart", "from": "shop/db", "to": "shop/db", "port": 1}',
        good,
    ]
    ran = ovnk("trace", "-f", SHOP, "--batch", "-", stdin=b"\n".join(lines) + b"\n")
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    answers = [json.loads(line) for line in ran.out.splitlines()]
    for answer in answers:
        check(answer, "trace")
    assert [answer.get("error", {}).get("field") for answer in answers] == ["line"] * 6 + [None]
    assert (answers[-1]["id"], answers[-1]["verdict"]) == (7, "allow")
    told = ("UTF-8", "deeply", "surrogate", "NaN", "out of range", "twice")
    for word, answer in zip(told, answers, strict=False):
        assert word in answer["error"]["reason"]


@pytest.mark.parametrize(
    "words", [("sync", "-f", SHOP, *MEMORY), ("trace", "-f", SHOP, "--batch", "-"), ("--help",), ("rows", "--help")]
)
def test_output_that_cannot_be_written_is_three(words: tuple[str, ...]) -> None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "cli")))
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "ovnk_cli", *words],
            input=json.dumps(QUESTION).encode(),
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            timeout=60,
            check=False,
        )
    assert done.returncode == 3, done.stderr
    assert done.stderr.decode().splitlines()[-1] == "ovnk: output: No space left on device"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("rows", "-f", SHOP), ("rows", "-f", SHOP, "-o", "json"), ("get", "-h"), ("-h",)])
def test_a_reader_that_left_ends_the_command_quietly(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:  # noqa: PTH123
        path = os.pathsep.join(str(ROOT / package) for package in PACKAGES)
        done = subprocess.run(
            [sys.executable, "-m", "ovnk_cli", *words],
            stdout=gone,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            timeout=60,
            check=False,
        )
    assert done.returncode == 141, "as of a program that SIGPIPE ended"
    told = [line for line in done.stderr.decode().splitlines() if not line.startswith("note: ")]
    assert told == []


def test_without_a_command_help_is_an_error() -> None:
    assert_usage(ovnk(), "Commands:")
    asked = ovnk("--help")
    assert (asked.code, asked.err) == (0, "")
    assert "Commands:" in asked.out


@pytest.mark.parametrize("stage", ["sb", "hv"])
def test_nobody_acknowledges_what_memory_holds(stage: str) -> None:
    ran = ovnk("sync", "-f", SHOP, *MEMORY, "--wait", stage, "-o", "json")
    assert ran.code == 3
    assert ran.json("sync")["operations"]["insert"] > 100
    assert f"nobody can acknowledge {stage}" in ran.err.splitlines()[-1]


def test_objects_that_wait_for_an_address_count_as_refused(tmp_path: Path) -> None:
    extra = tmp_path / "node.yaml"
    extra.write_text(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: late\n"
        "  annotations: {k8s.ovn.org/node-id: '2'}\n"
        "status: {addresses: [{type: InternalIP, address: 192.0.2.9}]}\n---\n"
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: later\n"
        "  annotations: {k8s.ovn.org/node-id: '2'}\n"
        "status: {addresses: [{type: InternalIP, address: 192.0.2.8}]}\n"
    )
    document = ovnk("validate", "-f", SHOP, "-f", str(extra), "-o", "json").json("validate")
    (refused,) = document["refused"]
    assert (refused["kind"], refused["name"]) == ("Node", "later")
    (error,) = refused["errors"]
    assert error["path"] == 'metadata.annotations["k8s.ovn.org/node-id"]'
    assert refused["source"] == error["source"] == f"{extra}:8"
    synced = ovnk("sync", "-f", SHOP, "-f", str(extra), *MEMORY, "-o", "json")
    assert synced.json("sync")["refused"] == 1
