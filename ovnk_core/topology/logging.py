"""Which namespaces ask for their verdicts to be logged, and at what severity."""

from __future__ import annotations

from collections.abc import Iterable

from ovnk_core.engine.rule import Reader, rule
from ovnk_core.engine.table import Output, Table
from ovnk_core.model.namespace import Namespace
from ovnk_core.model.tables import NAMESPACE
from ovnk_core.terms.name import NamespacedName
from ovnk_core.terms.struct import Value


class AclLogging(Value, frozen=True, kw_only=True, gc=False):
    """Severities of a namespace's verdicts; empty means off."""

    allow: str = ""
    deny: str = ""


ACL_LOGGING = Table[str, AclLogging]("acl_logging")
"""By namespace; absent means off."""


@rule(driver=NAMESPACE, out=(ACL_LOGGING,))
def acl_logging(read: Reader, key: NamespacedName, item: Namespace) -> Iterable[Output]:
    """A namespace that asks for logging -> its severities, so that its other edits touch no ACL."""
    if item.log_allow or item.log_deny:
        yield ACL_LOGGING.row(key.name, AclLogging(allow=item.log_allow, deny=item.log_deny))
