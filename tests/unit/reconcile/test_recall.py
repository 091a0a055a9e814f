"""Decisions read back from rows that somebody edited by hand: what cannot be ours is passed over, the rest is kept."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.model.decision import DnsChange, DnsDecision
from ovnk_core.model.manifest import dns_text
from ovnk_core.nb.row import DNS_KEY, NODE_ID_KEY, OWNER_KEY, RowId
from ovnk_core.nb.schema import Row
from ovnk_core.reconcile.recall import Recalled, recall
from ovnk_core.terms.address import parse_address
from ovnk_core.terms.name import ObjectRef

NODE, POD = ObjectRef("Node", "", "a"), ObjectRef("Pod", "shop", "web")
SUBNET, ADDRESSES = ("10.128.0.1/23", "fd01::1/64"), "0a:58:0a:80:00:03 10.128.0.3 fd01::3"


def rows(
    *,
    node_id: str = "7",
    subnet: tuple[str, ...] = SUBNET,
    join: tuple[str, ...] = (),
    addresses: str = ADDRESSES,
) -> dict[str, dict[str, Row]]:
    def row(table: str, owner: ObjectRef, role: str, **columns: Any) -> dict[str, Row]:
        row_id = RowId(table, owner, role)
        ids = {OWNER_KEY: row_id.owner_text} | columns.pop("ids", {})
        return {row_id.uuid: {"external_ids": ids, **columns}}

    port = {"addresses": frozenset([addresses]), "options": {"requested-chassis": "a"}}
    return {
        "Logical_Switch": row("Logical_Switch", NODE, "switch", ids={NODE_ID_KEY: node_id}),
        "Logical_Router_Port": row("Logical_Router_Port", NODE, "rtos", networks=frozenset(subnet))
        | row("Logical_Router_Port", NODE, "rtoj", networks=frozenset(join)),
        "Logical_Switch_Port": row("Logical_Switch_Port", POD, "port", **port),
    }


def node_ids(found: Recalled) -> dict[str, int]:
    return {name: node.node_id for name, node in found.nodes.items()}


def test_rows_of_ours_are_read() -> None:
    found = recall(rows())
    assert [str(subnet) for subnet in found.nodes["a"].subnets] == ["10.128.0.0/23", "fd01::/64"]
    assert node_ids(found) == {"a": 7}
    assert found.pods["shop/web"].mac == "0a:58:0a:80:00:03"
    assert node_ids(recall(rows(node_id="", join=("100.64.0.9/16",)))) == {"a": 9}


@pytest.mark.parametrize("node_id", ["0", "1", "5001", "007", "-2", "٢٣", "9" * 5000, "x"])
def test_a_node_id_out_of_bounds_is_passed_over(node_id: str) -> None:
    assert node_ids(recall(rows(node_id=node_id))) == {"a": 0}


@pytest.mark.parametrize("join", ["100.64.0.1/16", "100.64.0.0/16", "100.64.100.0/16", "192.0.2.9/24", "fd98::1/64"])
def test_a_join_address_that_gives_no_id_is_passed_over(join: str) -> None:
    assert node_ids(recall(rows(node_id="", join=(join,)))) == {"a": 0}


@pytest.mark.parametrize("subnet", [("10.128.0.1/23", "10.128.2.1/23"), ("10.128.0.1/31",), ("x",), ()])
def test_a_node_without_one_subnet_a_family_is_passed_over(subnet: tuple[str, ...]) -> None:
    assert recall(rows(subnet=subnet)).nodes == {}


@pytest.mark.parametrize(
    "addresses",
    [
        "0a:58 10.128.0.3",
        "dynamic 10.128.0.3",
        "unknown",
        "0a:58:0a:80:00:03",
        "0a:58:0a:80:00:03 10.128.0.3 10.128.0.4",
        "0a:58:0a:80:00:03 10.128.0.300",
        "",
        "  ",
    ],
)
def test_a_pod_whose_addresses_are_not_ours_is_passed_over(addresses: str) -> None:
    assert recall(rows(addresses=addresses)).pods == {}


ADDRESS = (parse_address("192.0.2.1"),)
ANSWERED = DnsDecision(
    live=ADDRESS, sticky=ADDRESS, answer=ADDRESS, history=(DnsChange(at_s=1, cause="answer", addresses=ADDRESS),)
)


def dns_rows(text: str, *, kind: str = "DnsName", name: str = "www.example.com") -> dict[str, dict[str, Row]]:
    row_id = RowId("Address_Set", ObjectRef(kind, "", name), "live/v4")
    return {"Address_Set": {row_id.uuid: {"external_ids": {OWNER_KEY: row_id.owner_text, DNS_KEY: text}}}}


def test_what_a_name_answered_is_read() -> None:
    assert recall(dns_rows(dns_text(ANSWERED))).dns == {"www.example.com": ANSWERED}


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("", {}),
        ("{", {}),
        ("[]", {}),
        ("null", {}),
        ('{"live":["192.0.2.1"],"live":["192.0.2.1"]}', {}),
        ('{"live":["192.0.2.1"],"colour":1}', {}),
        ('{"live":["192.0.2.300"]}', {}),
        ('{"live":"192.0.2.1"}', {}),
        ('{"live":["192.0.2.1","192.0.2.1"]}', {}),
        ('{"live":[],"history":[{"at":1e400,"cause":"answer"}]}', {}),
        ("[" * 100_000, {}),
        (dns_text(ANSWERED), {"kind": "EgressFirewall"}),
        (dns_text(ANSWERED), {"name": "WWW.example.com"}),
        (dns_text(ANSWERED), {"name": "a b"}),
    ],
)
def test_an_answer_that_is_not_ours_any_more_is_passed_over(text: str, edit: dict[str, str]) -> None:
    assert recall(dns_rows(text, **edit)).dns == {}
