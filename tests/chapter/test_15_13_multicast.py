"""15.13, enabling multicast for a project: off by default, on for one project's pods among themselves."""

from __future__ import annotations

from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.model.manifest import manifest
from ovnk_core.model.namespace import Namespace
from ovnk_core.nb import naming
from ovnk_core.nb.desired import ACLS, ADDRESS_SETS, MEMBER, PORT_GROUPS, ROUTERS, SWITCHES
from ovnk_core.nb.row import ColumnId, RowId
from ovnk_core.nb.tables import Acl
from ovnk_core.terms.name import ObjectRef
from ovnk_core.trace.question import Answer, Receiver, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.questions import cluster_of

ON = "k8s.ovn.org/multicast-enabled"
PORT = 30102
V4 = {"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"]}
V6 = {"clusterNetwork": [{"cidr": "fd01::/48", "hostPrefix": 64}], "serviceNetwork": ["fd02::/112"]}
DUAL = {key: [*V4[key], *V6[key]] for key in V4}


def namespace(name: str, enabled: str | None = None) -> m.Raw:
    return m.namespace(name, metadata={"annotations": {} if enabled is None else {ON: enabled}})


def pod(name: str, node: str, place: str = "project", **spec: Any) -> m.Raw:
    return m.pod(name, place, spec={"nodeName": node, "containers": [], **spec})


def node(name: str) -> m.Raw:
    last = name[1:]
    addresses = [{"type": "InternalIP", "address": text} for text in (f"192.0.2.{last}", f"2001:db8::{last}")]
    return m.node(name, address=None, status={"addresses": addresses})


MLISTENER, MSENDER = pod("mlistener", "n1"), pod("msender", "n2")
BASE = (m.network(DUAL), node("n1"), node("n2"), node("n3"), MLISTENER, MSENDER, pod("stranger", "n1", "other"))


def ask(cluster: Cluster, source: str, target: str, port: int = PORT) -> Answer:
    """All engines, which must agree."""
    tracer = Tracer(Scene(cluster), lambda: FlowTable(cluster.engine))
    return tracer.ask(parse_question(source, target, "udp", port), "all")


def heard(answer: Answer) -> list[str]:
    return [f"{each.namespace}/{each.name}" for each in answer.receivers]


def options(cluster: Cluster, row: RowId) -> dict[str, str]:
    engine = cluster.engine
    if row.table == "Logical_Router":
        return dict(engine.rows(ROUTERS)[row].options)
    return dict(engine.rows(SWITCHES)[row].other_config)


# ---------------------------------------------------------------------------------------------- 15.13.1, 15.13.2


@pytest.mark.parametrize("group", ["224.1.0.1", "224.0.0.251", "ff15::1", "ff12::1", "ff05::1:3", "ff0e::1", "ff25::1"])
def test_15_13_1_multicast_between_pods_is_off_by_default(group: str) -> None:
    found = ask(cluster_of(BASE), "project/msender", group)
    assert (found.verdict, found.path, found.receivers) == ("drop", "multicast", ())
    assert "namespace project has no" in found.reason and ON in found.reason


def test_15_13_2_the_verification() -> None:
    """msender reaches mlistener at 224.1.0.1:30102 once the project is annotated."""
    found = ask(cluster_of([*BASE, namespace("project", "true")]), "project/msender", "224.1.0.1")
    assert (found.verdict, found.path) == ("allow", "multicast")
    assert found.receivers == (Receiver(namespace="project", name="mlistener", node="n1"),)
    assert [(leg.source, leg.target, leg.transport) for leg in found.legs] == [("n2", "n1", "geneve")]


def test_15_13_2_on_for_one_project_only() -> None:
    cluster = cluster_of([*BASE, namespace("project", "true"), pod("neighbour", "n1", "other")])
    assert heard(ask(cluster, "project/mlistener", "224.1.0.1")) == ["project/msender"]
    assert ask(cluster, "other/stranger", "224.1.0.1").verdict == "drop"


@pytest.mark.parametrize("group", ["239.255.0.1", "ff15::1", "ff05::1:3", "ff0e::1"])
def test_never_between_two_projects_that_opted_in(group: str) -> None:
    both = [namespace("project", "true"), namespace("other", "true"), pod("neighbour", "n2", "other")]
    cluster = cluster_of([*BASE, *both])
    assert heard(ask(cluster, "project/mlistener", group)) == ["project/msender"]
    assert heard(ask(cluster, "other/stranger", group)) == ["other/neighbour"]


def test_receivers_are_the_other_running_pods_on_the_pod_network_by_node() -> None:
    others = (
        pod("zed", "n1"),
        pod("host", "n1", hostNetwork=True),
        pod("waiting", ""),
        m.pod("done", "project", spec={"nodeName": "n1", "containers": []}, status={"phase": "Succeeded"}),
    )
    cluster = cluster_of([*BASE, *others, namespace("project", "true")])
    assert heard(ask(cluster, "project/msender", "224.1.0.1")) == ["project/mlistener", "project/zed"]
    assert heard(ask(cluster, "project/zed", "224.1.0.1")) == ["project/mlistener", "project/msender"]


def test_groups_of_one_link_stay_on_the_node() -> None:
    cluster = cluster_of([*BASE, namespace("project", "true"), pod("near", "n2")])
    for group in ("224.0.0.251", "ff12::1", "ff11::1"):
        assert heard(ask(cluster, "project/msender", group)) == ["project/near"]
    for group in ("224.0.1.1", "ff15::1"):
        assert heard(ask(cluster, "project/msender", group)) == ["project/mlistener", "project/near"]


def test_nobody_else_is_no_denial() -> None:
    cluster = cluster_of([*BASE, namespace("alone", "true"), pod("one", "n3", "alone")])
    found = ask(cluster, "alone/one", "224.1.0.1")
    assert (found.verdict, found.receivers, found.legs) == ("allow", (), ())


def test_permanent_groups_of_a_link_are_not_multicast_to_these_rules() -> None:
    """They carry neighbour discovery; on the sender's switch anybody hears them, as NetworkPolicy allows."""
    cluster = cluster_of([*BASE, pod("near", "n1")])
    for group in ("ff02::1", "ff02::fb", "ff01::1"):
        assert heard(ask(cluster, "project/mlistener", group)) == ["other/stranger", "project/near"]
    closed = m.policy({"podSelector": {}, "policyTypes": ["Ingress"]}, namespace="other")
    cluster = cluster_of([*BASE, pod("near", "n1"), closed])
    assert heard(ask(cluster, "project/mlistener", "ff02::fb")) == ["project/near"]
    closed = m.policy({"podSelector": {}, "policyTypes": ["Egress"]}, namespace="project")
    found = ask(cluster_of([*BASE, closed]), "project/mlistener", "ff02::fb")
    assert found.verdict == "drop" and "isolated for egress" in found.reason


# ---------------------------------------------------------------------------------------------- NetworkPolicy


@pytest.mark.parametrize("kind", ["Ingress", "Egress"])
def test_network_policies_have_no_say(kind: str) -> None:
    closed = [m.policy({"podSelector": {}, "policyTypes": [kind]}, namespace=place) for place in ("project", "other")]
    on = cluster_of([*BASE, *closed, namespace("project", "true")])
    assert heard(ask(on, "project/msender", "224.1.0.1")) == ["project/mlistener"]
    assert ask(on, "project/msender", "project/mlistener").verdict == "drop"
    opened = m.policy({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}, namespace="project")
    found = ask(cluster_of([*BASE, opened]), "project/msender", "224.1.0.1")
    assert found.verdict == "drop" and ON in found.reason


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["True", " true", "yes", "1", "TRUE", "true ", ""])
def test_anything_but_true_is_off_and_said(text: str) -> None:
    loaded = m.accepted(namespace("project", text))
    warning = loaded.warnings[0].text
    assert len(loaded.warnings) == 1 and f'"{text}" is not "true", multicast is off' in warning
    assert ask(cluster_of([*BASE, namespace("project", text)]), "project/msender", "224.1.0.1").verdict == "drop"


@pytest.mark.parametrize("text", ["false", None])
def test_false_and_absent_are_off_without_a_word(text: str | None) -> None:
    assert not m.accepted(namespace("project", text)).warnings
    assert ask(cluster_of([*BASE, namespace("project", text)]), "project/msender", "224.1.0.1").verdict == "drop"


def test_a_truth_value_is_not_text() -> None:
    made = m.namespace("project", metadata={"annotations": {ON: True}})
    assert m.complaints(made) == [(f'metadata.annotations["{ON}"]', "must be text")]


def test_what_is_on_record_says_it_too() -> None:
    """A refused edit keeps the accepted version, also after a restart that reads it back."""
    made = m.namespace("project", metadata={"annotations": {ON: "true", "k8s.ovn.org/acl-logging": '{"deny":"info"}'}})
    item = m.accept(made, Namespace)
    assert item.is_multicast and m.accept(manifest(item), Namespace) == item
    assert not m.accept(manifest(m.accept(namespace("project", "True"), Namespace)), Namespace).is_multicast


# ---------------------------------------------------------------------------------------------- rows


def test_the_rows_of_the_cluster() -> None:
    cluster = cluster_of(BASE)
    engine = cluster.engine
    groups = "(ip6.dst[120..127] == 0xff && ip6.dst[116] == 1)"
    every = f"ip4.mcast || mldv1 || mldv2 || {groups}"
    wide = "ip6.dst[120..127] == 0xff && ip6.dst[114..115] != 0"
    router = naming.CLUSTER_ROUTER_PORT_GROUP
    found = {
        (acl.direction, acl.priority, acl.action, acl.match, bool(acl.options))
        for acl in _acls(cluster, "MulticastCluster")
    }
    assert found == {
        ("to-lport", 1011, "drop", every, False),
        ("from-lport", 1011, "drop", every, True),
        ("to-lport", 1012, "allow", f"outport == @{router} && ({every})", False),
        ("from-lport", 1012, "allow", f"inport == @{router} && ({every})", True),
        ("to-lport", 1011, "drop", wide, False),
        ("from-lport", 1011, "drop", wide, True),
        ("to-lport", 1012, "allow", f"outport == @{router} && {wide}", False),
        ("from-lport", 1012, "allow", f"inport == @{router} && {wide}", True),
    }
    on = {
        row
        for column in (naming.CLUSTER_PORT_GROUP_ROW, naming.CLUSTER_ROUTER_PORT_GROUP_ROW)
        for row in engine.members(MEMBER, ColumnId(column, "acls"))
    }
    assert len([row for row in on if isinstance(row, RowId) and row.role.startswith("multicast/")]) == 8


@pytest.mark.parametrize(
    ("spec", "out", "into"),
    [
        (V4, "ip4.mcast", "(igmp || (ip4.src == $a{v4} && ip4.mcast))"),
        (V6, "(mldv1 || mldv2 || {t})", "(mldv1 || mldv2 || (ip6.src == $a{v6} && {t}))"),
        (
            DUAL,
            "(ip4.mcast || mldv1 || mldv2 || {t})",
            "(igmp || (ip4.src == $a{v4} && ip4.mcast) || mldv1 || mldv2 || (ip6.src == $a{v6} && {t}))",
        ),
    ],
)
def test_the_rows_of_a_namespace(spec: m.Raw, out: str, into: str) -> None:
    """Address set names as in the facts that readers of OVN-Kubernetes databases know."""
    cluster = cluster_of([m.network(spec), *BASE[1:4], pod("a", "n1", "ns1"), namespace("ns1", "true")])
    engine = cluster.engine
    owner = ("k8s.ovn.org/owner-type", "MulticastNS")
    (group,) = (row.name for row in engine.rows(PORT_GROUPS).values() if owner in row.external_ids)
    flag = "ip6.dst[120..127] == 0xff && ip6.dst[116] == 1"
    values = {"v4": "3835515562697250779", "v6": "3835517761720507201"}
    into = into.format(t=flag, **values)
    out = out.format(t=f"({flag})", **values)
    expected = {
        ("from-lport", 1012, "allow", f"inport == @{group} && {out}"),
        ("to-lport", 1012, "allow", f"outport == @{group} && {into}"),
    }
    if 6 in cluster.network.families:
        wide = "ip6.dst[120..127] == 0xff && ip6.dst[114..115] != 0"
        expected |= {
            ("from-lport", 1012, "allow", f"inport == @{group} && {wide}"),
            ("to-lport", 1012, "allow", f"outport == @{group} && ip6.src == $a{values['v6']} && {wide}"),
        }
    assert {(acl.direction, acl.priority, acl.action, acl.match) for acl in _acls(cluster, "MulticastNS")} == expected
    sets = {row.name for row in engine.rows(ADDRESS_SETS).values()}
    assert sets == {f"a{values[f'v{family}']}" for family in cluster.network.families}


def _acls(cluster: Cluster, kind: str) -> list[Acl]:
    rows = cluster.engine.rows(ACLS).values()
    return [acl for acl in rows if dict(acl.external_ids)["k8s.ovn.org/owner-type"] == kind]


def test_switches_snoop_only_while_they_host_such_a_pod() -> None:
    cluster = cluster_of([*BASE, namespace("project", "true")])
    n1, n3 = naming.node_switch_row("n1"), naming.node_switch_row("n3")
    found = {key: value for key, value in options(cluster, n1).items() if key.startswith("mcast")}
    assert found == {
        "mcast_snoop": "true",
        "mcast_querier": "true",
        "mcast_eth_src": "0a:58:0a:80:00:01",
        "mcast_ip4_src": "10.128.0.1",
        "mcast_ip6_src": "fe80::858:aff:fe80:1",
    }
    router = options(cluster, naming.CLUSTER_ROUTER_ROW)
    assert router == {"always_learn_from_arp_request": "false", "mcast_relay": "true"}
    assert not any(key.startswith("mcast") for key in options(cluster, n3))


@pytest.mark.parametrize("gone", ["delete", "complete", "move"])
def test_the_last_pod_takes_the_querier_with_it(gone: str) -> None:
    cluster = cluster_of([m.network(DUAL), node("n1"), node("n2"), MLISTENER, namespace("project", "true")])
    n1 = naming.node_switch_row("n1")
    assert options(cluster, n1)["mcast_querier"] == "true"
    if gone == "delete":
        cluster.apply((), (ObjectRef("Pod", "project", "mlistener"),))
    else:
        phase = {"phase": "Succeeded"} if gone == "complete" else {}
        where = "n2" if gone == "move" else "n1"
        changed = m.pod("mlistener", "project", spec={"nodeName": where, "containers": []}, status=phase)
        cluster.apply(m.accepted(changed).items)
    assert "mcast_snoop" not in options(cluster, n1)
    assert ("mcast_relay" in options(cluster, naming.CLUSTER_ROUTER_ROW)) == (gone == "move")


def test_a_namespace_without_running_pods_turns_nothing_on() -> None:
    host = pod("host", "n1", "quiet", hostNetwork=True)
    cluster = cluster_of([*BASE, host, namespace("quiet", "true")])
    assert "mcast_relay" not in options(cluster, naming.CLUSTER_ROUTER_ROW)
    assert not any("mcast_snoop" in dict(row.other_config) for row in cluster.engine.rows(SWITCHES).values())
