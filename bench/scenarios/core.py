"""The core alone: objects in, desired rows out. ``Cluster.apply`` is measured, engine and allocation included.

Every kind of event starts from the loaded cluster, is applied one object at a time and is compared with a recompute
of everything (``Engine.rebuild``): the ratio says what incrementality is worth.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

import msgspec

from bench.measure import percentiles, spin_us, timed
from bench.scenarios import cluster_10k as made
from ovnk_core.cluster import Cluster
from ovnk_core.engine.engine import Engine
from ovnk_core.engine.transaction import Delta
from ovnk_core.features.network_policy.rules import rule_acls
from ovnk_core.indexes.selection import SELECTED, SELECTION_WANT
from ovnk_core.ingest.outcome import Item
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.network_policy import NetworkPolicy, Peer, PolicyPort, PolicyRule
from ovnk_core.model.pod import Pod
from ovnk_core.nb.desired import ACLS, DESIRED, MEMBER
from ovnk_core.terms.label import labels
from ovnk_core.terms.name import ObjectRef
from ovnk_core.terms.port import PortRange

EVENTS = 1_000
GOAL_RATIO, GOAL_P50_US = 2_000, 100
Event = tuple[tuple[Item, ...], tuple[ObjectRef, ...]]
"""What to put and what to delete."""


def run() -> dict[str, Any]:
    """Cold load, recompute, and every kind of event; figures by name."""
    items = made.items()
    cluster = Cluster()
    applied, cold = timed(lambda: cluster.apply(items))
    assert not applied.errors
    engine = cluster.engine
    cold |= {"rule_runs": _runs(engine), "rows": _rows(engine), "members": _members(engine)}
    size = {kind: len(cluster.objects(kind)) for kind in ("Pod", "Namespace", "Node", "NetworkPolicy")}
    size |= {"selectors": len(engine.sets(SELECTION_WANT)), "selected": sum(map(len, engine.sets(SELECTED).values()))}
    delta, recompute = timed(engine.rebuild)
    assert not delta
    gc.collect()
    gc.freeze()
    rng = random.Random(made.SEED)
    pods = [item for item in items if isinstance(item.value, Pod)]
    policies = [item for item in items if isinstance(item.value, NetworkPolicy)]
    kinds = {
        "unchanged pod": _unchanged(rng, pods),
        "pod label change": _label_changes(rng, pods),
        "pod deleted, added": _restarts(rng, pods),
        "policy port edit": _port_edits(rng, policies),
        "policy with new selectors added, deleted": _new_policies(rng),
        "namespace label change": _namespace_changes(rng, items),
    }
    events = {name: _measure(cluster, each, recompute["cpu_seconds"]) for name, each in kinds.items()}
    engine.verify()
    gc.unfreeze()
    return {"cluster": size, "cold_load": cold, "recompute": recompute, "events": events, "goals": _goals(events)}


def _measure(cluster: Cluster, events: Iterable[Event], recompute_s: float) -> dict[str, Any]:
    engine = cluster.engine
    seconds: list[float] = []
    totals = dict.fromkeys(
        ("rule_runs", "acl_runs", "rows_compared", "rows_changed", "member_changes", "acl_changes"), 0
    )
    prepared, deltas = tuple(events), list[Delta]()
    runs, acl_runs = _runs(engine), engine.stats()[rule_acls.name]["runs"]
    for put, delete in prepared:
        started = perf_counter()
        applied = cluster.apply(put, delete)
        seconds.append(perf_counter() - started)
        deltas.append(applied.delta)
    totals["rule_runs"] = _runs(engine) - runs
    totals["acl_runs"] = engine.stats()[rule_acls.name]["runs"] - acl_runs
    for delta in deltas:
        for name, count in _changes(delta).items():
            totals[name] += count
    found = {"events": len(seconds), **percentiles(seconds)}
    found |= {f"{name}_per_event": round(total / len(seconds), 2) for name, total in totals.items()}
    return found | {"recompute_ratio": round(recompute_s * 1e6 / found["p50_us"]), "spin_us": spin_us()["p50"]}


def _changes(delta: Delta) -> dict[str, int]:
    return {
        "rows_compared": delta.compared,
        "rows_changed": sum(len(delta.rows(table)) for table in DESIRED.values()),
        "member_changes": sum(len(new) + len(gone) for new, gone in delta.sets(MEMBER).values()),
        "acl_changes": len(delta.rows(ACLS)),
    }


def _goals(events: dict[str, dict[str, Any]]) -> dict[str, Any]:
    label = events["pod label change"]
    return {
        "label change at least 2,000x cheaper than a recompute": label["recompute_ratio"] >= GOAL_RATIO,
        "label change p50 under 100 us": label["p50_us"] < GOAL_P50_US,
        "label change runs no ACL rule": not label["acl_runs_per_event"] and not label["acl_changes_per_event"],
    }


def _runs(engine: Engine) -> int:
    return sum(stat["runs"] for stat in engine.stats().values())


def _rows(engine: Engine) -> int:
    return sum(len(engine.rows(table)) for table in DESIRED.values())


def _members(engine: Engine) -> int:
    return sum(map(len, engine.sets(MEMBER).values()))


# ------------------------------------------------------------------------------------------------ kinds of events


def _unchanged(rng: random.Random, pods: list[Item]) -> Iterator[Event]:
    for item in rng.choices(pods, k=EVENTS):
        yield (item,), ()


def label_change(rng: random.Random, pod: Pod) -> Pod:
    """The pod with another ``app``: it leaves the sets of the old one and joins those of the new one."""
    current = dict(pod.labels)
    names = [made.app(index) for index in range(made.APPS) if made.app(index) != current["app"]]
    return msgspec.structs.replace(pod, labels=labels({**current, "app": rng.choice(names)}))


def _label_changes(rng: random.Random, pods: list[Item]) -> Iterator[Event]:
    for item in rng.sample(pods, EVENTS):
        assert isinstance(item.value, Pod)
        yield (made.item(label_change(rng, item.value)),), ()


def _restarts(rng: random.Random, pods: list[Item]) -> Iterator[Event]:
    for item in rng.sample(pods, EVENTS // 2):
        yield (), (item.ref,)
        yield (item,), ()


def _port_edits(rng: random.Random, policies: list[Item]) -> Iterator[Event]:
    for number, item in enumerate(rng.choices([each for each in policies if _has_plain_rule(each)], k=EVENTS)):
        policy = item.value
        assert isinstance(policy, NetworkPolicy)
        first, *others = policy.ingress
        edited = PolicyRule(peers=first.peers, ports=(PolicyPort(ports=PortRange(20_000 + number, 20_000 + number)),))
        yield (made.item(msgspec.structs.replace(policy, ingress=(edited, *others))),), ()


def _has_plain_rule(item: Item) -> bool:
    policy = item.value
    return (
        isinstance(policy, NetworkPolicy) and bool(policy.ingress) and not any(p.name for p in policy.ingress[0].ports)
    )


def _new_policies(rng: random.Random) -> Iterator[Event]:
    for number in range(EVENTS // 2):
        where = made.namespace(rng.randrange(made.NAMESPACES))
        fresh = made.is_label("release", f"r{rng.randrange(5)}"), made.is_label("version", f"v{rng.randrange(4)}")
        policy = NetworkPolicy(
            name=f"new-{number}",
            namespace=where,
            subject=fresh[0],
            ingress=(PolicyRule(peers=(Peer(pods=fresh[1]),), ports=(PolicyPort(ports=PortRange(80, 80)),)),),
        )
        item = made.item(policy)
        yield (item,), ()
        yield (), (item.ref,)


def _namespace_changes(rng: random.Random, items: list[Item]) -> Iterator[Event]:
    namespaces = [item.value for item in items if isinstance(item.value, Namespace)]
    for namespace in rng.choices(namespaces, k=EVENTS):
        team = f"team-{rng.randrange(made.TEAMS):02d}"
        yield (
            (made.item(msgspec.structs.replace(namespace, labels=labels({**dict(namespace.labels), "team": team}))),),
            (),
        )
