"""Every decoder of text from outside, on anything: it answers, or raises the one error it documents."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ovnk_core.analysis.firewall.flow_file import FlowError, read_csv, read_npz
from ovnk_core.ingest.decisions import read_dns
from ovnk_core.ingest.parse_egress_firewall import dns_name
from ovnk_core.model.record import joined_record
from ovnk_core.runtime.dns_query import parse_server, read_resolv_conf

HEADER = b"dst,protocol,port\n"
CELLS = st.sampled_from(
    ("203.0.113.9", "2001:db8::9", "tcp", "icmp", "6", "443", "", "65536", "-1", "010.0.0.1", "x", '"')
)
LINES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=5).map("\n".join)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(("spec", "egress", "live")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("spec", "egress", "a")), inner, max_size=3)
    ),
    max_leaves=8,
)
NAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@given(st.binary(max_size=200) | LINES.map(str.encode) | LINES.map(lambda text: HEADER + text.encode()))
def test_flows_as_csv(content: bytes) -> None:
    try:
        read_csv(content, "f.csv")
    except FlowError as error:
        assert "f.csv" in str(error)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"PK\x03\x04" + tail))
def test_flows_as_npz(content: bytes) -> None:
    try:
        read_npz(content, "f.npz")
    except FlowError as error:
        assert "f.npz" in str(error)


@given(st.dictionaries(st.sampled_from(("", "/a", "/b")), st.text(max_size=30) | JSON.map(json.dumps), max_size=3))
def test_records_of_firewalls(texts: dict[str, str]) -> None:
    found = joined_record(texts)
    assert not found or isinstance(json.loads(found), dict)


@given(st.text(max_size=60) | JSON.map(json.dumps))
def test_records_of_dns_answers(text: str) -> None:
    found = read_dns("www.example.com", text)
    assert found is None or found.history or not found.live


@given(
    st.text(max_size=80)
    | st.lists(st.sampled_from(("a", "*", "xn--", "-", ".", "é", "0", '"', "$", " ")), max_size=9).map("".join)
)
def test_dns_names(text: str) -> None:
    try:
        name = dns_name(text).name
    except ValueError:
        return
    assert NAME.fullmatch(name)
    assert dns_name(name).name == name


@given(st.text(max_size=60))
def test_name_servers(text: str) -> None:
    with suppress(ValueError):
        parse_server(text)
    read_resolv_conf(f"nameserver {text}\n")
