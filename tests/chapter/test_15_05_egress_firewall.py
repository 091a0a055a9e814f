"""15.5, configuring an egress firewall: one test per sentence that can be tested, asked of all three engines.

What the text leaves open and how it was settled is tested next door, in ``test_15_05_semantics``.
"""

from __future__ import annotations

import pytest

from ovnk_core.model.egress_firewall import MAX_RULES, EgressFirewall
from ovnk_core.terms.name import NamespacedName, ObjectRef
from tests.kit.egress_firewall import (
    API,
    LAB,
    LAB_WEB,
    OTHER_NODE,
    OWN_NODE,
    OWN_SECOND,
    ROUTER,
    SHOP,
    WEB,
    World,
    answered,
    rules,
)
from tests.kit.manifest import namespace, refuse
from tests.kit.shapes import firewall

INTERNET, INTERNAL = "8.8.8.8", "10.20.30.40"
INTERNAL_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
POD_ADDRESSES = (API, LAB_WEB, f"{ROUTER}/router")
REF = ObjectRef("EgressFirewall", SHOP, "default")


# ------------------------------------------------------------------------------- 15.5.1: four scenarios


def test_15_5_1_a_pod_can_only_connect_to_internal_hosts() -> None:
    world = World(rules(*(f"Allow {block}" for block in INTERNAL_NETWORKS), "Deny 0.0.0.0/0"))
    assert world.allows(INTERNAL) and world.allows("172.16.0.1") and world.allows("192.168.255.255")
    assert not world.allows(INTERNET) and not world.allows("172.32.0.0") and not world.allows("11.0.0.0")


def test_15_5_1_a_pod_can_only_connect_to_the_public_internet() -> None:
    world = World(rules(*(f"Deny {block}" for block in INTERNAL_NETWORKS)))
    assert world.allows(INTERNET) and world.allows("172.32.0.0") and world.allows("9.255.255.255")
    assert not any(world.allows(host) for host in (INTERNAL, "172.31.255.255", "192.168.0.1"))
    assert all(world.allows(name) for name in POD_ADDRESSES), "inside the cluster, though in 10.0.0.0/8"


def test_15_5_1_a_pod_cannot_reach_specified_subnets_or_hosts() -> None:
    world = World(rules("Deny 10.20.0.0/16", "Deny 192.168.7.7/32"))
    assert not world.allows(INTERNAL) and not world.allows("192.168.7.7")
    assert world.allows("10.21.0.0") and world.allows("10.19.255.255") and world.allows("192.168.7.8")


def test_15_5_1_a_pod_can_connect_to_only_specific_external_hosts() -> None:
    world = World(rules("Allow 203.0.113.9/32", "Allow 198.51.100.64/30", "Deny 0.0.0.0/0"))
    assert world.allows("203.0.113.9") and world.allows("198.51.100.64") and world.allows("198.51.100.67")
    assert not any(world.allows(host) for host in ("203.0.113.8", "203.0.113.10", "198.51.100.68", INTERNET))


def test_15_5_1_one_project_is_allowed_what_another_is_denied() -> None:
    allowing, denying = rules("Allow 203.0.113.0/24"), rules("Deny 203.0.113.0/24", namespace=LAB)
    world = World(allowing, denying)
    assert world.allows("203.0.113.9", source=WEB) and world.allows("203.0.113.9", source=API)
    assert not world.allows("203.0.113.9", source=LAB_WEB)
    assert world.allows(INTERNET, source=LAB_WEB)


def test_15_5_1_updates_come_only_from_approved_sources() -> None:
    dns = {"pypi.org": answered("151.101.0.223"), "mirror.example.com": answered("203.0.113.9")}
    world = World(rules("Allow mirror.example.com TCP/443", "Deny pypi.org"), dns=dns)
    assert not world.allows("151.101.0.223") and world.allows("203.0.113.9") and world.allows(INTERNET)


def test_15_5_1_some_or_all_pods_are_those_of_one_project() -> None:
    world = World(rules("Deny 0.0.0.0/0"))
    assert not world.allows(INTERNET, source=WEB) and not world.allows(INTERNET, source=API)
    assert world.allows(INTERNET, source=LAB_WEB)


# ------------------------------------------------------------------------------- 15.5.1: what a rule matches


def test_15_5_1_an_ip_address_range_in_cidr_format() -> None:
    world = World(rules("Deny 203.0.113.16/28"))
    assert world.allows("203.0.113.15") and world.allows("203.0.113.32")
    assert not world.allows("203.0.113.16") and not world.allows("203.0.113.31")


def test_15_5_1_a_dns_name_that_resolves_to_an_ip_address() -> None:
    world = World(rules("Deny www.example.com"), dns={"www.example.com": answered("203.0.113.9", "203.0.113.11")})
    assert not world.allows("203.0.113.9") and not world.allows("203.0.113.11")
    assert world.allows("203.0.113.10")


def test_15_5_1_a_port_number() -> None:
    world = World(rules("Deny 203.0.113.0/24 TCP/80"))
    assert not world.allows("203.0.113.9", 80) and world.allows("203.0.113.9", 79) and world.allows("203.0.113.9", 81)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_15_5_1_a_protocol_that_is_one_of_tcp_udp_and_sctp(protocol: str) -> None:
    world = World(rules(f"Deny 203.0.113.0/24 {protocol.upper()}"))
    for asked in ("tcp", "udp", "sctp", "icmp"):
        assert world.allows("203.0.113.9", 9, asked) == (asked != protocol), asked


# ------------------------------------------------------------------------------- 15.5.1: API servers


@pytest.mark.parametrize("api_server", [OTHER_NODE, OWN_NODE])
def test_15_5_1_deny_everything_blocks_the_api_servers(api_server: str) -> None:
    assert World().allows(api_server, 6443)
    assert not World(rules("Deny 0.0.0.0/0")).allows(api_server, 6443)


@pytest.mark.parametrize("api_server", [OTHER_NODE, OWN_NODE])
def test_15_5_1_the_range_of_the_api_servers_before_the_global_deny(api_server: str) -> None:
    world = World(rules("Allow 192.0.2.0/28", "Deny 0.0.0.0/0"))
    assert world.allows(api_server, 6443) and world.decider(api_server, 6443) == 0
    assert not world.allows("192.0.2.16", 6443) and not world.allows(INTERNET)


def test_15_5_1_the_range_of_the_api_servers_after_the_global_deny_is_too_late() -> None:
    assert not World(rules("Deny 0.0.0.0/0", "Allow 192.0.2.0/28")).allows(OTHER_NODE, 6443)


def test_15_5_1_traffic_that_goes_through_routers_bypasses_the_rules() -> None:
    """The way of a Route: the pod talks to a router pod, which talks to the forbidden destination."""
    world = World(rules("Deny 0.0.0.0/0"))
    assert not world.allows(INTERNET)
    assert world.allows(f"{ROUTER}/router")
    assert world.allows(INTERNET, source=f"{ROUTER}/router")


# ------------------------------------------------------------------------------- 15.5.1.1: limitations


def test_15_5_1_1_no_project_has_more_than_one_firewall() -> None:
    """Two that say different things: which one is meant nobody knows, so the accepted one stays."""
    world = World(rules("Deny 203.0.113.0/24"))
    loaded = world.put(rules("Allow 203.0.113.0/24"), rules("Deny 0.0.0.0/0"))
    assert [refused.ref for refused in loaded.refused] == [REF] and not loaded.items
    assert "declared more than once" in loaded.refused[0].errors[0].reason
    assert not world.allows("203.0.113.9") and world.allows(INTERNET)


def test_15_5_1_1_a_second_firewall_of_another_name_changes_nothing() -> None:
    world = World(rules("Deny 203.0.113.0/24"))
    second = rules("Deny 0.0.0.0/0")
    second["metadata"]["name"] = "second"
    assert world.put(second).refused[0].stand_in is None
    assert not world.allows("203.0.113.9") and world.allows(INTERNET)


def test_15_5_1_1_8000_rules_are_accepted_and_all_enforced() -> None:
    lines = [f"Deny 203.{at >> 8}.{at & 255}.1/32" for at in range(MAX_RULES - 1)]
    world = World(rules(*lines, "Deny 9.9.9.9/32"))
    assert world.decider("203.0.0.1") == 0 and world.decider("203.31.62.1") == 7998
    assert world.decider("9.9.9.9") == 7999 and world.allows("203.0.0.2")


def test_15_5_1_1_8001_rules_are_refused_with_the_count_and_what_stays() -> None:
    world = World(rules("Deny 203.0.113.0/24"))
    refused = world.put(rules(*["Allow 203.0.113.0/24"] * (MAX_RULES + 1))).refused[0]
    (error,) = refused.errors
    assert (error.path, type(error).__name__) == ("spec.egress", "LimitError")
    assert "8,001 rules" in error.reason and "remove 1" in error.fix and "last accepted version stays" in error.fix
    assert not world.allows("203.0.113.9") and world.allows(INTERNET)


@pytest.mark.parametrize("asked", [INTERNET, INTERNAL, OTHER_NODE, "172.30.0.1"])
def test_15_5_1_1_a_broken_firewall_drops_all_external_traffic(asked: str) -> None:
    """With nothing accepted before it. Inside the cluster nothing changes, and DNS at the own node works."""
    world = World(rules(*["Allow 0.0.0.0/0"] * (MAX_RULES + 1)))
    answer = world.ask(asked)
    assert answer.verdict == "drop" and "8,001 rules" in answer.reason
    assert all(world.allows(name) for name in POD_ADDRESSES)
    assert world.allows(OWN_NODE, 53, "udp") and world.allows(INTERNET, source=LAB_WEB)


@pytest.mark.parametrize(
    "project", ["kube-node-lease", "kube-public", "kube-system", "openshift", "openshift-monitoring"]
)
def test_15_5_1_1_a_firewall_can_be_created_in_a_system_project(project: str) -> None:
    where = {"nodeName": "n1", "containers": []}
    occupant = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": project},
        "spec": where,
    }
    world = World(namespace(project), occupant, rules("Deny 203.0.113.0/24", namespace=project))
    assert not world.allows("203.0.113.9", source=f"{project}/pod") and world.allows(INTERNET, source=f"{project}/pod")


# ------------------------------------------------------------------------------- 15.5.1.2: order


def test_15_5_1_2_rules_are_evaluated_from_first_to_last() -> None:
    wide_last = World(rules("Allow 203.0.113.9/32", "Deny 203.0.113.0/24"))
    wide_first = World(rules("Deny 203.0.113.0/24", "Allow 203.0.113.9/32"))
    assert wide_last.allows("203.0.113.9") and not wide_last.allows("203.0.113.10")
    assert not wide_first.allows("203.0.113.9") and not wide_first.allows("203.0.113.10")


def test_15_5_1_2_the_first_match_applies_and_later_rules_are_ignored() -> None:
    lines = ("Deny 8.8.0.0/16 UDP/53", "Allow 8.8.8.0/24", "Deny 8.8.8.8/32", "Deny 0.0.0.0/0")
    world = World(rules(*lines))
    assert world.decider("8.8.8.8", 53, "udp") == 0 and world.decider("8.8.8.8", 53, "tcp") == 1
    assert world.decider("8.8.8.8", 443) == 1 and world.allows("8.8.8.8")
    assert world.decider("8.8.9.9", 443) == 3 and not world.allows("8.8.9.9")


def test_15_5_1_2_what_no_rule_matches_is_allowed() -> None:
    world = World(rules("Deny 203.0.113.0/24 TCP/80"))
    answer = world.ask(INTERNET)
    assert answer.verdict == "allow" and "what no rule matches is allowed" in answer.reason


# ------------------------------------------------------------------------------- 15.5.1.3: DNS


def test_15_5_1_3_a_new_answer_replaces_the_addresses() -> None:
    """How often a name is asked is the resolver's business (tests/unit/runtime); here it has been asked again."""
    name = {"www.example.com": answered("203.0.113.9")}
    world = World(rules("Allow www.example.com", "Deny 0.0.0.0/0"), dns=name)
    assert world.allows("203.0.113.9") and not world.allows("203.0.113.10")
    world.learn(www_example_com=answered("203.0.113.10", at_s=1_700_000_060.0))
    assert world.allows("203.0.113.10") and not world.allows("203.0.113.9")


def test_15_5_1_3_a_pod_that_knows_another_address_is_not_judged_by_the_name() -> None:
    """The race of the text: the pod got an address that the firewall has not heard of."""
    world = World(rules("Allow www.example.com", "Deny 0.0.0.0/0"), dns={"www.example.com": answered("203.0.113.9")})
    assert not world.allows("203.0.113.77") and world.decider("203.0.113.77") == 1


def test_15_5_1_3_a_name_never_answered_matches_nothing() -> None:
    allowing, denying = World(rules("Allow a.example.com", "Deny 0.0.0.0/0")), World(rules("Deny a.example.com"))
    assert not allowing.allows("203.0.113.9") and denying.allows("203.0.113.9")


def test_15_5_1_3_the_reason_names_the_answer_and_its_time() -> None:
    world = World(rules("Deny www.example.com"), dns={"www.example.com": answered("203.0.113.9")})
    assert "www.example.com has 203.0.113.9 since 2023-11-14T22:13:20Z" in world.ask("203.0.113.9").reason


@pytest.mark.parametrize("address", [OWN_NODE, OWN_SECOND])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_15_5_1_3_dns_at_the_pods_own_node_is_always_allowed(address: str, protocol: str) -> None:
    world = World(rules("Deny 0.0.0.0/0"))
    assert world.allows(address, 53, protocol)
    assert not world.allows(address, 53, protocol, source=API), "it runs on the other node"
    assert not world.allows(address, 54, protocol)


def test_15_5_1_3_a_dns_server_that_is_not_on_the_node_needs_a_rule() -> None:
    assert not World(rules("Deny 0.0.0.0/0")).allows("203.0.113.53", 53, "udp")
    world = World(rules("Allow 203.0.113.53/32 UDP/53 TCP/53", "Deny 0.0.0.0/0"))
    assert world.allows("203.0.113.53", 53, "udp") and world.allows("203.0.113.53", 53, "tcp")
    assert not world.allows("203.0.113.53", 443)


# ------------------------------------------------------------------------------- 15.5.2: the object


def test_15_5_2_the_name_must_be_default() -> None:
    second = rules("Deny 0.0.0.0/0")
    second["metadata"]["name"] = "web"
    (error,) = refuse(second).errors
    assert (error.path, error.fix) == ("metadata.name", "write default")


def test_15_5_2_1_the_type_is_either_allow_or_deny() -> None:
    for word in ("allow", "AllowX", "XDeny", "Accept", "", None, True):
        broken = rules("Deny 0.0.0.0/0")
        broken["spec"]["egress"][0]["type"] = word
        (error,) = refuse(broken).errors
        assert error.path == "spec.egress[0].type", word


def test_15_5_2_1_cidr_and_dns_name_cannot_be_used_in_the_same_rule() -> None:
    broken = rules("Deny 0.0.0.0/0")
    broken["spec"]["egress"][0]["to"]["dnsName"] = "www.example.com"
    (error,) = refuse(broken).errors
    assert error.path == "spec.egress[0].to" and "exactly one" in error.reason and "2 rules" in error.fix


def test_15_5_2_1_ports_are_optional() -> None:
    world = World(rules("Deny 203.0.113.9/32", "Deny 203.0.113.10/32 TCP/80"))
    for protocol in ("tcp", "udp", "sctp", "icmp"):
        assert not world.allows("203.0.113.9", 80, protocol)
        assert world.allows("203.0.113.10", 80, protocol) == (protocol != "tcp")


def test_15_5_2_1_the_protocol_must_be_tcp_udp_or_sctp() -> None:
    for word in ("tcp", "ICMP", "TCPX", "XUDP", "6"):
        broken = rules("Deny 0.0.0.0/0 TCP/80")
        broken["spec"]["egress"][0]["ports"][0]["protocol"] = word
        (error,) = refuse(broken).errors
        assert error.path == "spec.egress[0].ports[0].protocol", word


def test_15_5_2_2_first_example() -> None:
    world = World(rules("Allow 1.2.3.0/24", "Deny 0.0.0.0/0"))
    assert world.allows("1.2.3.0") and world.allows("1.2.3.255")
    assert not world.allows("1.2.2.255") and not world.allows("1.2.4.0")
    assert [world.decider(host) for host in ("1.2.3.4", "1.2.4.0")] == [0, 1]


# The second example: port 80 of TCP, port 443 of any protocol, at one host.
TABLE = (
    *(("172.16.1.1", 80, "tcp", False), ("172.16.1.1", 80, "udp", True), ("172.16.1.1", 80, "sctp", True)),
    *(("172.16.1.1", 443, protocol, False) for protocol in ("tcp", "udp", "sctp")),
    *(("172.16.1.1", port, "tcp", True) for port in (79, 81, 442, 444, 1, 65535)),
    ("172.16.1.1", None, "icmp", True),
    *((host, 443, "tcp", True) for host in ("172.16.1.0", "172.16.1.2")),
)


@pytest.mark.parametrize(("host", "port", "protocol", "passes"), TABLE)
def test_15_5_2_2_second_example(host: str, port: int | None, protocol: str, passes: bool) -> None:
    world = World(rules("Deny 172.16.1.1 TCP/80 443"))
    assert world.allows(host, port, protocol) == passes


# ------------------------------------------------------------------------------- 15.5.3: creating


def test_15_5_3_a_firewall_is_created_in_the_project_it_is_for() -> None:
    world = World()
    assert world.allows(INTERNET)
    loaded = world.put(rules("Deny 0.0.0.0/0", namespace=SHOP))
    assert [item.ref for item in loaded.items] == [REF]
    assert not world.allows(INTERNET) and world.allows(INTERNET, source=LAB_WEB)


def test_15_5_3_a_project_that_has_a_firewall_is_changed_by_editing_it() -> None:
    """A second put of the same name is an edit: one object, the new rules."""
    world = World(rules("Deny 203.0.113.0/24"))
    world.put(rules("Deny 8.8.8.8/32"))
    found = world.cluster.objects("EgressFirewall")
    assert list(found) == [NamespacedName(SHOP, "default")]
    assert world.allows("203.0.113.9") and not world.allows("8.8.8.8")


def test_15_5_3_no_rules_restrict_nothing() -> None:
    world = World()
    loaded = world.put(firewall([], SHOP))
    assert "nothing is restricted" in loaded.warnings[0].text
    assert isinstance(loaded.items[0].value, EgressFirewall) and world.allows(INTERNET)
