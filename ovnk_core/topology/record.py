"""What is recorded of objects that have no row of their own: keys of NB_Global's external_ids.

The network's configuration and the labels of namespaces: without them a restart that finds the object refused, or its
file unreadable, could only guess.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output
from ovnk_core.model.cluster import Network, NetworkOperator
from ovnk_core.model.manifest import manifest_text
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.tables import NAMESPACE, NETWORK, NETWORK_OPERATOR
from ovnk_core.nb.desired import GLOBAL_KEYS
from ovnk_core.nb.row import ACCEPTED_KEY
from ovnk_core.terms.name import NamespacedName


@rule(driver=NAMESPACE, out=(GLOBAL_KEYS,))
def namespace_record(read: Reader, key: NamespacedName, item: Namespace) -> Iterable[Output]:
    """An accepted namespace -> its record."""
    if not item.is_blocked:
        yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/Namespace/{key.name}", manifest_text(item))


@rule(driver=NETWORK, out=(GLOBAL_KEYS,))
def network_record(read: Reader, key: NamespacedName, item: Network) -> Iterable[Output]:
    """The accepted Network (config.openshift.io) -> its record."""
    yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/Network/{key.name}", manifest_text(item))


@rule(driver=NETWORK_OPERATOR, out=(GLOBAL_KEYS,))
def operator_record(read: Reader, key: NamespacedName, item: NetworkOperator) -> Iterable[Output]:
    """The accepted Network (operator.openshift.io) -> its record."""
    yield GLOBAL_KEYS.row(f"{ACCEPTED_KEY}/NetworkOperator/{key.name}", manifest_text(item))
