"""``ovnk serve``. The command is the server's own: its flags are the server's settings."""

from __future__ import annotations

from ovnk_server.command import serve

__all__ = ["serve"]
