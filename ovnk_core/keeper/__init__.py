"""Accepted means kept: objects in a durable log, watched without gaps, programmed by one of several servers."""

from ovnk_core.keeper.keeper import Keeper
from ovnk_core.keeper.settings import KeeperSettings

__all__ = ["Keeper", "KeeperSettings"]
