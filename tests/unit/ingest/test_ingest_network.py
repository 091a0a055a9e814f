"""The cluster configuration kinds: defaults, address rules, overlaps, MTU, ports, network type, platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.ingest.load import load
from ovnk_core.ingest.parse_network import network_conflicts
from ovnk_core.model.cluster import ClusterNetwork, ClusterNetworkEntry, Infrastructure, Network, NetworkOperator
from ovnk_core.terms.address import cidr
from tests.kit.manifest import accept, accepted, assert_refused, network, network_operator, refuse


def entry(text: Any, host_prefix: Any = None) -> Any:
    return {"cidr": text} if host_prefix is None else {"cidr": text, "hostPrefix": host_prefix}


def spec(clusters: Any, services: Any = ("172.30.0.0/16",)) -> Any:
    return {"clusterNetwork": list(clusters), "serviceNetwork": list(services)}


V4, V6 = entry("10.128.0.0/14", 23), entry("fd01::/48", 64)
S4, S6 = "172.30.0.0/16", "fd02::/112"


def test_a_whole_network() -> None:
    found = accept(network({**spec([V4], [S4]), "networkType": "OVNKubernetes", "externalIP": {}}), Network)
    assert found.cluster_network == (ClusterNetworkEntry(cidr=cidr("10.128.0.0/14"), host_prefix_bits=23),)
    assert found.service_network == (cidr(S4),)


def test_nothing_said_is_nothing_stored() -> None:
    found = accept(network(), Network)
    assert (found.cluster_network, found.service_network) == ((), ())


@pytest.mark.parametrize(
    ("text", "bits"), [("10.0.0.0/14", 23), ("fd01::/48", 64)], ids=["IPv4 default 23", "IPv6 default 64"]
)
def test_host_prefix_default(text: str, bits: int) -> None:
    found = accept(network_operator({"clusterNetwork": [entry(text)]}), NetworkOperator)
    assert found.cluster_network[0].host_prefix_bits == bits


ACCEPTED = [
    ("IPv4", spec([V4], [S4])),
    ("IPv6", spec([V6], [S6])),
    ("dual stack", spec([V4, V6], [S4, S6])),
    ("dual stack, other order", spec([V6, V4], [S4, S6])),
    ("several ranges of a family", spec([V4, entry("10.132.0.0/14", 23)])),
    ("smallest host subnets", spec([entry("10.128.0.0/14", 30)])),
    ("one bit longer", spec([entry("10.128.0.0/14", 15)])),
    ("beside the join range", spec([entry("100.65.0.0/16", 24)], ["100.63.0.0/16"])),
]


@pytest.mark.parametrize("value", [case[1] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
@pytest.mark.parametrize("make", [network, network_operator])
def test_ranges_accepted(make: Any, value: Any) -> None:
    found = accepted(make(value)).items[0].value
    assert isinstance(found, Network | NetworkOperator)
    assert len(found.cluster_network) == len(value["clusterNetwork"])


ONE, HOST, SERVICE = "spec.clusterNetwork[0].cidr", "spec.clusterNetwork[0].hostPrefix", "spec.serviceNetwork"
REFUSED = [
    ("host bits", spec([entry("10.128.0.1/14", 23)]), ONE, "host bits are set"),
    ("host bits in service", spec([V4], ["172.30.0.1/16"]), f"{SERVICE}[0]", "host bits are set"),
    ("leading zeros", spec([entry("010.128.0.0/14")]), ONE, "leading zeros"),
    ("mapped", spec([entry("::ffff:10.128.0.0/110")]), ONE, "IPv4-mapped"),
    ("no prefix", spec([entry("10.128.0.0")]), ONE, "no prefix length"),
    ("cidr missing", spec([{"hostPrefix": 23}]), ONE, "missing"),
    ("cidr number", spec([entry(10)]), ONE, "must be text"),
    ("entry text", spec(["10.128.0.0/14"]), "spec.clusterNetwork[0]", "must be a mapping"),
    ("list text", {"clusterNetwork": "10.128.0.0/14"}, "spec.clusterNetwork", "must be a list"),
    ("host prefix text", spec([entry("10.128.0.0/14", "23")]), HOST, "whole number"),
    ("host prefix equal", spec([entry("10.128.0.0/23", 23)]), HOST, "longer than the prefix"),
    ("host prefix default too short", spec([entry("10.128.0.0/24")]), HOST, "longer than the prefix"),
    ("host prefix 31", spec([entry("10.128.0.0/14", 31)]), HOST, "at most 30"),
    ("host prefix 200", spec([entry("10.128.0.0/14", 200)]), HOST, "from 0 to 128"),
    ("IPv6 host prefix 56", spec([entry("fd01::/48", 56)], [S6]), HOST, "must be 64 for IPv6"),
    ("IPv6 range too small", spec([entry("fd01::/64", 64)], [S6]), HOST, "longer than the prefix"),
    ("three service ranges", spec([V4], [S4, "172.31.0.0/16", S6]), SERVICE, "at most two"),
    ("two IPv4 service ranges", spec([V4], [S4, "172.31.0.0/16"]), SERVICE, "one IPv4 and one IPv6"),
    ("families differ", spec([V4], [S6]), SERVICE, "families differ: IPv4 and IPv6"),
    ("cluster dual, service single", spec([V4, V6], [S4]), SERVICE, "families differ: IPv4+IPv6 and IPv4"),
    ("cluster single, service dual", spec([V4], [S4, S6]), SERVICE, "families differ: IPv4 and IPv4+IPv6"),
]


@pytest.mark.parametrize(("value", "path", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("make", [network, network_operator])
def test_ranges_refused(make: Any, value: Any, path: str, reason: str) -> None:
    assert_refused(make(value), path, reason)


OVERLAPS = [
    ("cluster and cluster", spec([V4, entry("10.129.0.0/16", 24)]), ("clusterNetwork[1]", "clusterNetwork[0]")),
    ("cluster twice", spec([V4, V4]), ("clusterNetwork[1]", "clusterNetwork[0]")),
    ("service in cluster", spec([V4], ["10.130.0.0/16"]), ("serviceNetwork[0]", "clusterNetwork[0]")),
    ("cluster in service", spec([entry("172.30.0.0/20")]), ("clusterNetwork[0]", "serviceNetwork[0]")),
    ("cluster and join", spec([entry("100.64.128.0/17", 24)]), ("clusterNetwork[0]", "the join range (IPv4)")),
    ("cluster around join", spec([entry("100.0.0.0/8")]), ("the join range (IPv4)", "clusterNetwork[0]")),
    ("service and join", spec([V4], ["100.64.0.0/16"]), ("serviceNetwork[0]", "the join range (IPv4)")),
    ("cluster and transit", spec([entry("100.88.0.0/16")]), ("clusterNetwork[0]", "the transit range (IPv4)")),
    ("cluster and masquerade", spec([entry("169.254.0.0/16")]), ("the masquerade range", "clusterNetwork[0]")),
    ("IPv6 join", spec([entry("fd98::/48")], [S6]), ("the join range (IPv6)", "clusterNetwork[0]")),
    ("IPv6 transit", spec([V6], ["fd97::/112"]), ("serviceNetwork[0]", "the transit range (IPv6)")),
    ("IPv6 masquerade", spec([V6], ["fd69::/112"]), ("the masquerade range (IPv6)", "serviceNetwork[0]")),
]


@pytest.mark.parametrize(("value", "names"), [case[1:] for case in OVERLAPS], ids=[case[0] for case in OVERLAPS])
@pytest.mark.parametrize("make", [network, network_operator])
def test_overlap_names_both_ranges(make: Any, value: Any, names: tuple[str, str]) -> None:
    reasons = [error.reason for error in refuse(make(value)).errors if "overlaps" in error.reason]
    assert reasons
    assert any(all(name in reason for name in names) for reason in reasons)


def test_a_range_around_everything_names_every_victim() -> None:
    errors = refuse(network(spec([entry("0.0.0.0/0", 24)]))).errors
    assert {error.reason.split(": ")[0] for error in errors} == {
        "serviceNetwork[0] (172.30.0.0/16) overlaps clusterNetwork[0] (0.0.0.0/0)",
        "clusterNetwork[0] (0.0.0.0/0) overlaps the join range (IPv4) (100.64.0.0/16)",
        "clusterNetwork[0] (0.0.0.0/0) overlaps the transit range (IPv4) (100.88.0.0/16)",
        "clusterNetwork[0] (0.0.0.0/0) overlaps the masquerade range (IPv4) (169.254.169.0/29)",
    }


def test_a_misspelt_setting_is_said() -> None:
    hybrid = {"hybridClusterNetwork": [entry("10.136.0.0/14", 23)]}
    for ovn, meant in (
        ({"hybridOverlay": hybrid}, "hybridOverlayConfig"),
        ({"hybridOverlayConfig": {**hybrid, "hybridOverlayVxlanPort": 9898}}, "hybridOverlayVXLANPort"),
    ):
        (warning,) = accepted(operator(**ovn)).warnings
        assert f"meant {meant}?" in warning.text


def test_of_two_networks_the_one_that_states_what_overlaps_is_refused(tmp_path: Path) -> None:
    """The place is the range's own; the other Network is in force."""
    overlay = {"hybridClusterNetwork": [entry("10.130.0.0/16", 23)]}
    (tmp_path / "a.json").write_text(json.dumps(network()))
    (tmp_path / "b.json").write_text(json.dumps(operator(hybridOverlayConfig=overlay)))
    cluster = Cluster()
    cluster.replace(load([str(tmp_path)]))
    (error,) = cluster.errors
    path = "spec.defaultNetwork.ovnKubernetesConfig.hybridOverlayConfig.hybridClusterNetwork[0]"
    pointer = "/".join(["", *path.replace("[0]", ".0").split(".")])
    assert (error.path, error.source) == (path, f"{tmp_path}/b.json#{pointer}")
    assert "overlaps clusterNetwork[0] (10.128.0.0/14)" in error.reason
    assert [str(ref) for ref in cluster.refused] == ["NetworkOperator cluster"]
    assert cluster.network.hybrid is None


def test_defaults_take_part_in_the_config_kind_only() -> None:
    assert_refused(network({"clusterNetwork": [entry("172.30.0.0/15")]}), "spec.serviceNetwork[0]", "overlaps")
    accept(network_operator({"clusterNetwork": [entry("172.30.0.0/15")]}), NetworkOperator)
    assert_refused(network({"clusterNetwork": [V6]}), "spec.serviceNetwork", "families differ")


def test_many_ranges_are_compared_in_reasonable_time() -> None:
    clusters = [entry(f"10.{at >> 8}.{at & 255}.0/24", 26) for at in range(20_000)]
    assert len(accept(network(spec(clusters)), Network).cluster_network) == 20_000


TYPES = [("OVNKubernetes", ""), ("ovnkubernetes", ""), (None, ""), ("OpenShiftSDN", "migrating"), ("openshiftsdn", "m")]


@pytest.mark.parametrize(("word", "hint"), TYPES)
def test_network_type(word: Any, hint: str) -> None:
    for raw in (network({"networkType": word}), network_operator({"defaultNetwork": {"type": word}})):
        if hint:
            error = refuse(raw).errors[0]
            assert "OpenShift SDN" in error.reason
            assert hint in error.fix
        else:
            assert accepted(raw).items[0].value.name == "cluster"


@pytest.mark.parametrize("word", ["Calico", "", 7])
def test_other_network_types_are_refused(word: Any) -> None:
    assert [error.path for error in refuse(network({"networkType": word})).errors] == ["spec.networkType"]


def operator(clusters: Any = (), **ovn: Any) -> Any:
    return network_operator({"clusterNetwork": list(clusters), "defaultNetwork": {"ovnKubernetesConfig": ovn}})


@pytest.mark.parametrize("mtu", [576, 1400, 65536])
def test_mtu_accepted(mtu: int) -> None:
    assert accept(operator(mtu=mtu), NetworkOperator).mtu_bytes == mtu


@pytest.mark.parametrize("port", [1, 6081, 65535])
def test_geneve_port_accepted(port: int) -> None:
    assert accept(operator(genevePort=port), NetworkOperator).geneve_port == port


OVN = "spec.defaultNetwork.ovnKubernetesConfig"
NUMBERS = [
    ("mtu low", operator(mtu=575), "mtu", "from 576 to 65536"),
    ("mtu high", operator(mtu=65537), "mtu", "from 576 to 65536"),
    ("mtu text", operator(mtu="1400"), "mtu", "whole number"),
    ("mtu low for IPv6", operator([V6], mtu=1279), "mtu", "at least 1280 with IPv6"),
    ("geneve 0", operator(genevePort=0), "genevePort", "from 1 to 65535"),
    ("geneve 65536", operator(genevePort=65536), "genevePort", "from 1 to 65535"),
    ("geneve true", operator(genevePort=True), "genevePort", "whole number"),
]


@pytest.mark.parametrize(("raw", "key", "reason"), [case[1:] for case in NUMBERS], ids=[case[0] for case in NUMBERS])
def test_numbers_refused(raw: Any, key: str, reason: str) -> None:
    assert_refused(raw, f"{OVN}.{key}", reason)


def test_nothing_said_by_the_operator() -> None:
    found = accept(network_operator(), NetworkOperator)
    assert (found.mtu_bytes, found.geneve_port, found.cluster_network) == (None, None, ())


@pytest.mark.parametrize(
    "ovn",
    [
        {"gatewayConfig": {"routingViaHost": True}},
        {"v4InternalSubnet": "100.70.0.0/16"},
        {"ipv4": {"internalJoinSubnet": "100.70.0.0/16"}},
    ],
)
def test_settings_that_are_not_built_are_said(ovn: Any) -> None:
    assert len(accepted(operator(**ovn)).warnings) == 1


@pytest.mark.parametrize("make", [network, network_operator])
def test_the_only_network_is_named_cluster(make: Any) -> None:
    assert_refused(make(name="other"), "metadata.name", "its name is cluster")


def test_merged_configuration_is_checked_too() -> None:
    six = (ClusterNetworkEntry(cidr=cidr("fd01::/48"), host_prefix_bits=64),)
    assert network_conflicts(ClusterNetwork()) == ()
    assert network_conflicts(ClusterNetwork(entries=six, service=(cidr(S6),), mtu_bytes=1280)) == ()
    found = network_conflicts(ClusterNetwork(entries=six, mtu_bytes=1279))
    assert found == (
        (("spec", "serviceNetwork"), "families differ: IPv6 and IPv4"),
        (("spec", "defaultNetwork", "ovnKubernetesConfig", "mtu"), "the MTU 1279 must be at least 1280 with IPv6"),
    )


def infrastructure(**fields: Any) -> Any:
    return {"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"}, **fields}


PLATFORMS = [
    ("status", {"status": {"platformStatus": {"type": "AWS"}, "platform": "GCP"}}, "AWS"),
    ("older status", {"status": {"platform": "VSphere"}}, "VSphere"),
    ("spec", {"spec": {"platformSpec": {"type": "BareMetal"}}}, "BareMetal"),
    ("none", {}, ""),
]


@pytest.mark.parametrize(("fields", "platform"), [case[1:] for case in PLATFORMS], ids=[case[0] for case in PLATFORMS])
def test_platform(fields: Any, platform: str) -> None:
    assert accept(infrastructure(**fields), Infrastructure).platform == platform


def test_platform_refused() -> None:
    raw = infrastructure(status={"platformStatus": {"type": 'a"b'}})
    assert_refused(raw, "status.platformStatus.type", "not a platform name")
