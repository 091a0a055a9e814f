"""The source of a pod that reaches itself through a Service opens nothing to the outside: ours and OVN's opinion.

The ACL that lets it in is on every node switch, above every NetworkPolicy's denial; what a router forwards with that
source is dropped before it gets there.
"""

from __future__ import annotations

import pytest

from ovnk_core.flows.table import FlowTable
from ovnk_core.trace.question import parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer
from tests.kit import manifest as m
from tests.kit.oracle import Laboratory
from tests.kit.questions import cluster_of

pytestmark = pytest.mark.ovn
DUAL = m.network(
    {
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}, {"cidr": "fd01::/48", "hostPrefix": 64}],
        "serviceNetwork": ["172.30.0.0/16", "fd02::/112"],
    }
)
ADDRESSES = [{"type": "InternalIP", "address": address} for address in ("192.0.2.1", "2001:db8::1")]
NODE = m.node("n1", status={"addresses": ADDRESSES}, address=None)
WEB = m.pod(spec={"nodeName": "n1", "containers": []})
CLOSED = m.policy({"podSelector": {}, "policyTypes": ["Ingress"]})


@pytest.mark.parametrize("has_policy", [False, True])
def test_nobody_outside_passes_as_a_hairpin(laboratory: Laboratory, has_policy: bool) -> None:
    cluster = cluster_of([DUAL, NODE, WEB, *([CLOSED] if has_policy else [])])
    scene = Scene(cluster)
    tracer = Tracer(scene, lambda: FlowTable(cluster.engine))
    laboratory.show(cluster)
    pod = next(iter(scene.endpoints.values()))
    for source, honest in (("169.254.169.5", "203.0.113.9"), ("fd69::5", "2001:db8:ffff::9")):
        target = str(pod.address(6 if ":" in source else 4))
        for address, verdict in ((source, "drop"), (honest, "drop" if has_policy else "allow")):
            question = parse_question(address, target, "tcp", 80)
            assert tracer.ask(question).verdict == verdict, address
            assert laboratory.ask(scene, question).is_allowed == (verdict == "allow"), address
