"""A namespace: labels, and the annotations that change what its pods may do."""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.label import Labels

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label every namespace carries, with its own name: the API server sets it."""
MULTICAST = "k8s.ovn.org/multicast-enabled"
"""The annotation that turns multicast on with the value ``true`` (15.13)."""


class Namespace(Declared, frozen=True, kw_only=True):
    """``log_allow`` / ``log_deny``: severities of k8s.ovn.org/acl-logging, empty when off. ``is_blocked``: it is
    refused and no accepted version is on record, so its labels are unknown and no namespaceSelector may match it.
    ``is_multicast``: its pods may send multicast to each other (k8s.ovn.org/multicast-enabled)."""

    labels: Labels = ()
    log_allow: str = ""
    log_deny: str = ""
    is_blocked: bool = False
    is_multicast: bool = False


def labels_of(name: str, declared: Namespace | None) -> Labels | None:
    """Labels of a namespace; None when they are unknown. One that nobody declares, but that holds objects, exists all
    the same: pods cannot be without it, so it is there with its name label alone."""
    if declared is None:
        return ((NAME_LABEL, name),)
    return None if declared.is_blocked else declared.labels
