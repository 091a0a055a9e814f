"""What the server says: one event a line on standard error, JSON for machines or plain for people, and the audit.

Everything goes through the standard library's logging, so that what grpcio and others say has the same form. Keys that
recur: ``revision``, ``request_id``, ``object``, ``txn``. Rules, manifests and addresses of users are never logged.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path

import structlog

from ovnk_core.errors import OvnkError
from ovnk_server.settings import LogSettings

LOGGER: structlog.stdlib.BoundLogger = structlog.get_logger("ovnk")


class LogError(OvnkError):
    """The audit's file cannot be written."""

    is_usage = True


def configure_log(settings: LogSettings) -> None:
    """Once, when the process starts. Raises LogError."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    is_pretty = settings.format == "pretty" or (settings.format == "auto" and sys.stderr.isatty())
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if is_pretty
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    said = logging.StreamHandler(sys.stderr)
    said.setFormatter(_formatter(shared, render))
    root = logging.getLogger()
    root.handlers[:] = [said]
    root.setLevel(settings.level.upper())
    _configure_audit(settings.audit, shared)


def _formatter(
    shared: list[structlog.typing.Processor], render: list[structlog.typing.Processor]
) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )


def _configure_audit(path: str, shared: list[structlog.typing.Processor]) -> None:
    """To a file of its own that only we may read, which may be moved away at any time; otherwise into the log."""
    audit = logging.getLogger("ovnk.audit")
    audit.setLevel(logging.INFO)
    for handler in audit.handlers:
        handler.close()
    audit.handlers.clear()
    audit.propagate = not path
    if path:
        try:
            Path(path).touch(mode=0o600)
            kept = WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise LogError(f"log.audit {path}: {error.strerror}") from error
        kept.setFormatter(_formatter(shared, [structlog.processors.JSONRenderer()]))
        audit.addHandler(kept)
