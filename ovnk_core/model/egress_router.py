"""NetworkAttachmentDefinition with the egress-router CNI configuration (15.12.1)."""

from __future__ import annotations

from ovnk_core.model.object import Declared


class NetworkAttachmentDefinition(Declared, frozen=True, kw_only=True):
    """One secondary network that pods may ask for by annotation."""
