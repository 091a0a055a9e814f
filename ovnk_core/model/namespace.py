"""A namespace: labels, and the annotations that change what its pods may do."""

from __future__ import annotations

from ovnk_core.model.object import Declared
from ovnk_core.terms.label import Labels

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label every namespace carries, with its own name: the API server sets it."""


class Namespace(Declared, frozen=True, kw_only=True):
    """``log_allow`` / ``log_deny``: severities of k8s.ovn.org/acl-logging, empty when off."""

    labels: Labels = ()
    log_allow: str = ""
    log_deny: str = ""


def labels_of(name: str, declared: Namespace | None) -> Labels:
    """Labels of a namespace. One that nobody declares, but that holds objects, exists all the same: pods cannot be
    without it, so it is there with its name label alone."""
    return declared.labels if declared is not None else ((NAME_LABEL, name),)
