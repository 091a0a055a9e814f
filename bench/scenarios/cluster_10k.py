"""The cluster every scenario measures: 10,000 pods, 200 namespaces, 100 nodes, 1,000 policies, some 1,400 selectors.

Model objects, so that parsing is not measured; seeded, so that every run and every driver sees the same cluster.
The shapes are those of a busy shared cluster: most policies speak of applications of their own namespace, some open
a namespace to a team, to a platform application anywhere, to a block of addresses or by the name of a port.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ovnk_core.ingest.outcome import Item
from ovnk_core.ingest.position import SourceMap
from ovnk_core.model.namespace import NAME_LABEL, Namespace
from ovnk_core.model.network_policy import IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.model.node import Node
from ovnk_core.model.object import Declared, reference
from ovnk_core.model.pod import ContainerPort, Pod
from ovnk_core.terms.address import Address, InterfaceAddress, cidr, parse_address
from ovnk_core.terms.label import EVERYTHING, Labels, LabelSelector, labels, requirement, selector
from ovnk_core.terms.port import PortRange, Transport

SEED = 1
NODES, NAMESPACES, PODS, POLICIES = 100, 200, 10_000, 1_000
APPS, HOT_APPS, TEAMS = 8, 3, 20
"""Policies speak of the first ``HOT_APPS`` most of the time."""
VERSIONS = ("v1", "v2", "v3", "v4")
TIERS = ("front", "back", "data")
PLATFORM = ("ingress", "monitoring", "mesh", "logging")
"""Applications that policies name in any namespace."""
SOURCE = SourceMap(file="bench")


def items() -> list[Item]:
    """Every object of the cluster, in the order a folder of manifests would list them."""
    rng = random.Random(SEED)
    objects: list[Declared] = [*_nodes(), *_namespaces(), *_pods(rng), *_policies(rng)]
    return [item(each) for each in objects]


def item(value: Declared) -> Item:
    """One object as if it had been read from a file."""
    return Item(ref=reference(type(value).__name__, value), value=value, source=SOURCE)


def namespace(index: int) -> str:
    return f"ns-{index:03d}"


def app(index: int) -> str:
    return f"app-{index:02d}"


def _nodes() -> Iterator[Node]:
    for index in range(NODES):
        address = Address(4, parse_address("192.0.2.1").value + index)
        yield Node(
            name=f"node-{index:03d}",
            internal=(address,),
            primary=(InterfaceAddress(address, 24),),
            gateway_next_hops=(parse_address("192.0.2.254"),),
        )


def _namespaces() -> Iterator[Namespace]:
    for index in range(NAMESPACES):
        name = namespace(index)
        zone = "prod" if index % 3 else "test"
        yield Namespace(name=name, labels=labels({NAME_LABEL: name, "team": f"team-{index % TEAMS:02d}", "zone": zone}))


def _pods(rng: random.Random) -> Iterator[Pod]:
    ports = (
        ContainerPort(name="http", protocol="TCP", number=8080),
        ContainerPort(name="metrics", protocol="TCP", number=9090),
    )
    other = (ContainerPort(name="http", protocol="TCP", number=8443),)
    for index in range(PODS):
        yield Pod(
            name=f"pod-{index:05d}",
            namespace=namespace(index % NAMESPACES),
            node=f"node-{rng.randrange(NODES):03d}",
            uid=f"00000000-0000-4000-8000-{index:012d}",
            labels=pod_labels(rng, index // NAMESPACES),
            ports=ports if index % 7 else other,
        )


def pod_labels(rng: random.Random, position: int) -> Labels:
    """Five labels; ``position`` is the pod's place in its namespace. One pod in ten runs a platform application."""
    name = rng.choice(PLATFORM) if position % 10 == 9 else app(position % APPS)
    return labels(
        {
            "app": name,
            "version": rng.choice(VERSIONS),
            "tier": TIERS[position % len(TIERS)],
            "release": f"r{rng.randrange(5)}",
            "pod-template-hash": f"{rng.randrange(1 << 32):08x}",
        }
    )


def _policies(rng: random.Random) -> Iterator[NetworkPolicy]:
    shapes = (_isolate, _from_apps, _from_teams, _to_apps_and_blocks, _mixed)
    for index in range(POLICIES):
        yield shapes[index // NAMESPACES % len(shapes)](rng, index, namespace(index % NAMESPACES))


def _isolate(rng: random.Random, index: int, where: str) -> NetworkPolicy:
    """Default deny, with the namespace open to itself and to monitoring."""
    monitoring = Peer(namespaces=EVERYTHING, pods=is_label("app", "monitoring"))
    rules = (
        PolicyRule(peers=(Peer(pods=EVERYTHING),)),
        PolicyRule(peers=(monitoring,), ports=(PolicyPort(name="metrics"),)),
    )
    return NetworkPolicy(name=f"policy-{index:04d}", namespace=where, ingress=rules)


def _from_apps(rng: random.Random, index: int, where: str) -> NetworkPolicy:
    """One application open to two others of its namespace."""
    subject, *peers = rng.sample(range(HOT_APPS), 3)
    rule = PolicyRule(
        peers=tuple(Peer(pods=is_label("app", app(peer))) for peer in peers), ports=(_port(rng), _port(rng))
    )
    return NetworkPolicy(
        name=f"policy-{index:04d}", namespace=where, subject=is_label("app", app(subject)), ingress=(rule,)
    )


def _from_teams(rng: random.Random, index: int, where: str) -> NetworkPolicy:
    """A tier open to one team's namespaces, by port name, and to the ingress application anywhere in a zone."""
    team = is_label("team", f"team-{rng.randrange(TEAMS):02d}")
    ingress = Peer(
        namespaces=is_label("zone", rng.choice(("prod", "test"))), pods=is_label("app", rng.choice(PLATFORM))
    )
    rules = (
        PolicyRule(peers=(Peer(namespaces=team),), ports=(PolicyPort(name="http"),)),
        PolicyRule(peers=(ingress,), ports=(_port(rng),)),
    )
    subject = is_label("tier", rng.choice(TIERS))
    return NetworkPolicy(name=f"policy-{index:04d}", namespace=where, subject=subject, ingress=rules)


def _to_apps_and_blocks(rng: random.Random, index: int, where: str) -> NetworkPolicy:
    """Where one application may go: DNS anywhere, a sibling of some versions, and a block with holes."""
    version = requirement("version", rng.choice(("In", "NotIn")), rng.sample(VERSIONS, 2))
    sibling = selector([requirement("app", "In", [app(rng.randrange(2))]), version])
    base = rng.randrange(256)
    block = IpBlock(cidr(f"203.{base}.0.0/16"), (cidr(f"203.{base}.{rng.randrange(256)}.0/24"),))
    rules = (
        PolicyRule(ports=(PolicyPort(protocol="UDP", ports=PortRange(53, 53)),)),
        PolicyRule(peers=(Peer(pods=sibling), Peer(block=block)), ports=(_port(rng),)),
    )
    subject = is_label("app", app(rng.randrange(HOT_APPS)))
    return NetworkPolicy(
        name=f"policy-{index:04d}",
        namespace=where,
        subject=subject,
        egress=rules,
        is_ingress=False,
        is_egress=True,
    )


def _mixed(rng: random.Random, index: int, where: str) -> NetworkPolicy:
    """Both directions, with expressions on both sides."""
    released = selector([requirement("release", "Exists"), requirement("app", "NotIn", [app(rng.randrange(2))])])
    pair = selector([requirement("app", "In", [app(index % 2), app(rng.randrange(APPS))])])
    one_team, pair_of_teams = (
        selector([requirement("team", "In", [f"team-{rng.randrange(TEAMS):02d}" for _ in range(size)])])
        for size in (1, 2)
    )
    both = Peer(namespaces=pair_of_teams, pods=is_label("app", rng.choice(PLATFORM)))
    return NetworkPolicy(
        name=f"policy-{index:04d}",
        namespace=where,
        subject=pair,
        ingress=(PolicyRule(peers=(Peer(namespaces=one_team, pods=released),), ports=(_port(rng),)),),
        egress=(PolicyRule(peers=(both,), ports=(_port(rng), PolicyPort(protocol="UDP"))),),
        is_egress=True,
    )


def is_label(key: str, value: str) -> LabelSelector:
    return selector([requirement(key, "In", [value])])


def _port(rng: random.Random) -> PolicyPort:
    protocol: Transport = rng.choice(("TCP", "TCP", "TCP", "UDP", "SCTP"))
    first = rng.choice((80, 443, 5432, 6379, 8080, 9090))
    return PolicyPort(protocol=protocol, ports=PortRange(first, first + rng.choice((0, 0, 0, 10))))
