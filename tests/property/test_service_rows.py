"""What a datapath's load balancers say is what a naive per-node layout would: whatever rows it is spread over.

``_expected`` is that layout, written down from the rules alone: for one node and one side, every vip with its backends.
The rows are read back datapath by datapath, groups and template variables resolved.
"""

from __future__ import annotations

from collections import Counter

import pytest

from ovnk_core.cluster import Cluster
from ovnk_core.model.cluster import MASQUERADE
from ovnk_core.model.service import ServicePort, SliceEndpoint, SlicePort
from ovnk_core.model.tables import ENDPOINT_SLICE, ENDPOINTS, SERVICE, SERVICE_DECISION
from ovnk_core.nb import naming
from ovnk_core.nb.desired import GLOBAL_KEYS, LOAD_BALANCERS, MEMBER, TEMPLATE_VARS
from ovnk_core.nb.row import ACCEPTED_KEY, SERVICE_KEY, ColumnId, RowId
from ovnk_core.terms.address import Address, parse_address
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import NODE_PLACE, NodePlace, Settings
from tests.kit.balanced import BalancedServices
from tests.kit.questions import cluster_of, load, scaled
from tests.kit.random_cluster import FAMILIES, RandomCluster

Answer = tuple[str, bool, bool]
"""(backends, whether the client's address is kept, whether the backend follows from it)"""
Seen = dict[tuple[str, str], Answer]
"""(protocol, vip) -> answer"""


@pytest.mark.parametrize("has_variables", [True, False])
@pytest.mark.parametrize("seed", range(3000, 3000 + scaled(12)))
def test_every_datapath_answers_as_if_it_had_its_own_rows(seed: int, has_variables: bool) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 20), policies=(0, 0), services=(0, 0))
    settings = Settings(has_template_variables=has_variables)
    cluster = cluster_of(made.manifests(), check=True, settings=settings)
    services = BalancedServices(cluster.engine, seed)
    for step in range(6):
        note = f"seed {seed}, step {step}"
        _check(cluster, note)
        services.edit()
    cluster.engine.verify()
    for key in services.keys:
        services.remove(key)
    assert not cluster.engine.rows(LOAD_BALANCERS)
    assert not any(str(key).startswith(SERVICE_KEY) for key in cluster.engine.rows(GLOBAL_KEYS))


@pytest.mark.parametrize("seed", range(3100, 3100 + scaled(6)))
def test_so_it_is_with_whatever_the_door_lets_in(seed: int) -> None:
    made = RandomCluster(seed, FAMILIES[seed % 3], pods=(5, 15), policies=(0, 0), services=(8, 12))
    cluster = cluster_of(made.manifests())
    for step in range(30):
        edit = made.mutate()
        cluster.apply(load(edit.put).items, edit.delete)
        if step % 5 == 0:
            _check(cluster, f"seed {seed}, step {step}")


def _check(cluster: Cluster, note: str) -> None:
    for place in cluster.engine.rows(NODE_PLACE).values():
        switch = naming.node_switch_row(place.name)
        assert _seen(cluster, switch, place) == _expected(cluster, place, "switch"), f"{note}, {switch}"
        if place.has_gateway:
            router = naming.gateway_router_row(place.name)
            assert _seen(cluster, router, place) == _expected(cluster, place, "router"), f"{note}, {router}"
    recorded = Counter(
        row_id.owner.key
        for row_id, row in cluster.engine.rows(LOAD_BALANCERS).items()
        if ACCEPTED_KEY in dict(row.external_ids)
    )
    for key in cluster.engine.rows(SERVICE):
        in_global = f"{ACCEPTED_KEY}/Service/{key}" in cluster.engine.rows(GLOBAL_KEYS)
        assert recorded[key] + in_global == 1, f"{note}, {key}"


# ------------------------------------------------------------------------------------------- what the rows say


def _seen(cluster: Cluster, datapath: RowId, place: NodePlace) -> Seen:
    members = cluster.engine.sets(MEMBER)
    holders = [datapath, *members.get(ColumnId(datapath, "load_balancer_group"), ())]
    variables = next(
        (dict(row.variables) for row in cluster.engine.rows(TEMPLATE_VARS).values() if row.chassis == place.chassis), {}
    )
    found: Seen = {}
    for holder in holders:
        assert isinstance(holder, RowId)
        for balancer in members.get(ColumnId(holder, "load_balancer"), ()):
            assert isinstance(balancer, RowId)
            row = cluster.engine.rows(LOAD_BALANCERS)[balancer]
            options = dict(row.options)
            for text, backends in row.vips:
                host, _, port = text.rpartition(":")
                if host.startswith("^"):
                    value = variables.get(host[1:], "")
                    assert options["address-family"] == ("ipv6" if "IPv6" in host else "ipv4")
                    if not value:
                        continue
                    text = f"[{value}]:{port}" if ":" in value else f"{value}:{port}"
                assert (row.protocol, text) not in found, f"{text} comes twice to {datapath}"
                found[row.protocol, text] = (backends, options["skip_snat"] == "true", bool(row.selection_fields))
    return found


# ------------------------------------------------------------------------------------------- what they should say


def _expected(cluster: Cluster, place: NodePlace, side: str) -> Seen:
    engine, found = cluster.engine, Seen()
    families = cluster.network.families
    for key, service in engine.rows(SERVICE).items():
        decision = engine.rows(SERVICE_DECISION).get(key)
        if decision is None or service.type == "ExternalName" or service.is_headless:
            continue
        own_ports = {
            (each.protocol, address, each.node_port)
            for each in decision.node_ports
            for other in engine.rows(NODE_PLACE).values()
            for address in other.hosts
        }
        numbers = {(each.protocol, each.port): each.node_port for each in decision.node_ports}
        for port in service.ports:
            number = numbers.get((port.protocol, port.port), 0)
            vips = [(address, port.port, "cluster") for address in decision.cluster_ips]
            external = (*service.external_ips, *service.load_balancer_ips)
            vips += [
                (address, port.port, "external")
                for address in external
                if address not in decision.cluster_ips and (port.protocol, address, port.port) not in own_ports
            ]
            vips += [(address, number, "node") for address in place.hosts if number]
            for address, at, kind in vips:
                if address.family not in families:
                    continue
                is_local = service.internal_policy == "Local" and kind == "cluster" and side == "switch"
                is_local |= service.external_policy == "Local" and kind != "cluster" and side == "router"
                backends = _backends(cluster, key, port, place if is_local else None)
                texts = [
                    _text(_masqueraded(each, place) if side == "router" else each, to)
                    for each, to in backends
                    if each.family == address.family
                ]
                keeps = is_local and side == "router" and bool(texts)
                ours = ",".join(sorted(texts, key=_as_written))
                found[port.protocol.lower(), _text(address, at)] = (ours, keeps, service.affinity_timeout_s > 0)
    return found


def _masqueraded(address: Address, place: NodePlace) -> Address:
    return MASQUERADE[address.family].at(2) if address in place.hosts else address


def _backends(
    cluster: Cluster, service: NamespacedName, port: ServicePort, place: NodePlace | None
) -> set[tuple[Address, int]]:
    engine = cluster.engine
    slices = [
        (each.ports, each.endpoints)
        for each in engine.rows(ENDPOINT_SLICE).values()
        if each.namespace == service.namespace and each.service == service.name
    ]
    plain = engine.rows(ENDPOINTS).get(service)
    if not slices and plain is not None:
        slices = [(subset.ports, subset.endpoints) for subset in plain.subsets]
    stated: list[tuple[SlicePort, SliceEndpoint]] = [
        (number, endpoint)
        for ports, endpoints in slices
        for number in ports
        for endpoint in endpoints
        if number.protocol == port.protocol and port.name in ("", number.name)
        if place is None or endpoint.node == place.name
    ]
    may_be_unready = engine.rows(SERVICE)[service].publishes_not_ready
    ready = {(endpoint.address, number.number) for number, endpoint in stated if endpoint.is_ready or may_be_unready}
    leaving = {
        (endpoint.address, number.number)
        for number, endpoint in stated
        if endpoint.is_serving and endpoint.is_terminating
    }
    return ready or leaving


def _text(address: Address, port: int) -> str:
    return f"{address}:{port}" if address.family == 4 else f"[{address}]:{port}"


def _as_written(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    return parse_address(host.strip("[]")), int(port)
