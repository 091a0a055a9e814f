"""Servers that are not there, options that contradict, what asking a server costs, and completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from ovnk_cli.complete import TYPES
from ovnk_wire import KINDS

from tests.cli.command import ROOT, SHOP
from tests.cli.online import Terminal, terminal
from tests.cli.test_online import SOURCES


@pytest.fixture(scope="module")
def shop() -> Iterator[Terminal]:
    with terminal() as found:
        found.ok("apply", "-f", SHOP)
        yield found


@pytest.mark.parametrize(
    "words",
    [
        ("get", "pods"),
        ("apply", "-f", SHOP),
        ("trace", "--from", "a/b", "--to", "1.2.3.4:80"),
        ("status",),
        ("wait", "pod/x", "--for=delete", "--timeout", "20s"),
    ],
)
def test_nobody_there_is_one_line_and_status_3(shop: Terminal, words: tuple[str, ...]) -> None:
    ran = shop.run(*words, env={"OVNK_SERVER": "unix:/nobody/here.sock"})
    assert ran.code == 3, ran
    assert ran.err.count("\n") == 1 and "/nobody/here.sock" in ran.err and "is the server running" in ran.err


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (("get", "pods", "-f", SHOP, "--server", "unix:/x"), "either -f or --server"),
        (("get", "pods", "--decisions", "x"), "--decisions belongs to -f"),
        (("get", "egressfirewall", "-f", SHOP, "-l", "a=b"), "--selector needs --server"),
        (("get", "pods", "-f", SHOP), "--server knows every kind"),
        (("get", "sofas"), "no such kind"),
        (("get", "pods", "-A", "-n", "shop"), "leave out -n"),
        (("get", "pod", "x", "-l", "a=b"), "leave out the selector"),
        (("get", "pods", "-o", "jsonpath={.x"), "not closed"),
        (("get", "pods", "-o", "tree"), "write one of"),
        (("get", "pods,ns", "-w"), "follows one kind"),
        (("get", "pods", "--server", "nowhere"), "HOST:PORT"),
        (("get", "pods", "--server", "example.com:1"), "needs certificates"),
        (("get", "pods", "--tls-ca", "x"), "belong together"),
        (("diff", "-f", SHOP, "--to", SHOP, "--server", "unix:/x"), "another place"),
        (("apply", "-f", "/nobody"), "/nobody"),
        (("delete",), "name what to delete"),
        (("label", "pod", "x"), "KEY=VALUE"),
        (("label", "pod", "x", "a=b", "a-"), "set and removed"),
        (("status", "--timeout", "soon"), "write a time"),
        (("edit", "pods"), "name one object"),
    ],
)
def test_what_cannot_be_meant_is_told(shop: Terminal, words: tuple[str, ...], telling: str) -> None:
    ran = shop.run(*words)
    assert ran.code in (1, 2) and ran.out == "", ran
    assert telling in " ".join(ran.err.split()), ran.err


def test_without_files_and_server_both_are_named(shop: Terminal) -> None:
    ran = shop.run("get", "pods", env={"OVNK_SERVER": ""})
    assert ran.code == 2 and "-f PATH" in ran.err and "--server ADDRESS" in ran.err


def test_files_on_the_line_win_over_a_server_in_the_environment(shop: Terminal) -> None:
    assert "egressfirewall/shop/default" in shop.ok("get", "ef", "-f", SHOP, "-o", "name")


def imported(*words: str) -> set[str]:
    """Which of the dear packages a command loads."""
    code = (
        "import sys\n"
        f"sys.argv = ['ovnk', *{words!r}]\n"
        "from ovnk_cli.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('click', 'grpc', 'google.protobuf', 'asyncio', 'ovnk_core') if name in sys.modules],"
        " file=sys.stderr)"
    )
    path = ":".join(str(ROOT / each) for each in SOURCES)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    return set(eval(done.stderr.splitlines()[-1]))


def test_help_costs_nothing_and_files_need_no_grpc() -> None:
    assert imported("--help") == set()
    for words in (("rows", "-f", SHOP), ("get", "ef", "-f", SHOP), ("trace", "-f", SHOP, "--from", "x", "--to", "y")):
        assert not imported(*words) & {"grpc", "google.protobuf"}


# ------------------------------------------------------------------------------- completion


def completed(shop: Terminal, line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    env = {"_OVNK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    ran = shop.run(env=env)
    return [each.partition(",")[2] for each in ran.out.splitlines() if each]


def test_kinds_to_complete_are_the_kinds_there_are() -> None:
    names = {kind.plural if kind.name != "NetworkOperator" else kind.resource for kind in KINDS}
    assert set(TYPES) == names and list(TYPES) == sorted(TYPES)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ovnk get name", ["namespaces"]),
        ("ovnk get nodes worker-", ["worker-1", "worker-2", "worker-3"]),
        ("ovnk get -n shop pod/w", ["pod/web-1", "pod/web-2"]),
        ("ovnk describe ef -n shop ", ["default"]),
        ("ovnk get -n ", ["ledger", "monitoring", "payments", "shop"]),
        ("ovnk delete sofas ", []),
    ],
)
def test_live_names_are_offered(shop: Terminal, line: str, offered: list[str]) -> None:
    assert completed(shop, line) == offered


def test_an_unreachable_server_offers_nothing_and_says_nothing(shop: Terminal) -> None:
    env = {"OVNK_SERVER": "unix:/nobody.sock", "_OVNK_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    ran = shop.run(env=env | {"COMP_WORDS": "ovnk get nodes "})
    assert (ran.out.strip(), ran.err) == ("", "")
