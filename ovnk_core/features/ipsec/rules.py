"""The cluster with IPsec -> the mark by which reconcile turns NB_Global.ipsec on, and off again when the mark goes.

The row of NB_Global is not ours. Without the mark the column is nobody's of us: what somebody else turned on stays on.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.cluster import ClusterNetwork
from ovnk_core.nb.desired import GLOBAL_KEYS
from ovnk_core.nb.row import IPSEC_KEY
from ovnk_core.terms.name import NamespacedName
from ovnk_core.topology.place import CLUSTER_NETWORK


@rule(driver=CLUSTER_NETWORK, out=(GLOBAL_KEYS,))
def ipsec_switch(read: Reader, key: NamespacedName, network: ClusterNetwork) -> Iterable[Output]:
    """A cluster with IPsec -> the mark."""
    if network.has_ipsec:
        yield GLOBAL_KEYS.row(IPSEC_KEY, "true")


RULES = (ipsec_switch,)
