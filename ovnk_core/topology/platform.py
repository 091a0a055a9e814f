"""Which platform a cluster runs on: what the operator of this control plane says comes before what Infrastructure says.

Whoever says it by hand may write the name in another case; the object's spelling is OpenShift's, and read alike.
"""

from __future__ import annotations

from ovnk_core.engine.engine import Engine
from ovnk_core.model.cluster import Infrastructure
from ovnk_core.model.tables import CLUSTER, INFRASTRUCTURE
from ovnk_core.topology.place import SETTINGS, Settings

LAYER_2_PLATFORMS = ("None", "BareMetal", "VSphere", "OpenStack", "oVirt")
CLOUDS = (
    *("AWS", "Azure", "GCP", "IBMCloud", "PowerVS", "AlibabaCloud"),
    *("EquinixMetal", "External", "Nutanix", "KubeVirt"),
)
"""Every platform type of config.openshift.io Infrastructure, by whether guests share a layer 2 there (15.11.1)."""
_SPELLINGS = {name.lower(): name for name in (*LAYER_2_PLATFORMS, *CLOUDS)}


def platform_of(settings: Settings, infrastructure: Infrastructure | None) -> str:
    """The platform type, spelt as OpenShift does where it is a known one; empty where nobody states any."""
    stated = settings.platform or (infrastructure.platform if infrastructure is not None else "")
    return _SPELLINGS.get(stated.lower(), stated)


def platform_in_force(engine: Engine) -> str:
    """``platform_of`` what a cluster's tables hold."""
    return platform_of(engine.rows(SETTINGS)[CLUSTER], engine.rows(INFRASTRUCTURE).get(CLUSTER))


def is_known(platform: str) -> bool:
    """Whether ``platform_of`` gave a type that OpenShift has; none stated counts as one."""
    return not platform or platform in _SPELLINGS.values()
