"""The asynchronous Python client: typed calls, errors that say what to do, watches that outlive their connection."""

from ovnk_client.channel import Tls
from ovnk_client.client import Client
from ovnk_client.errors import (
    ClientError,
    Conflict,
    DeadlineExceeded,
    Denied,
    Exists,
    Expired,
    NotFound,
    QuotaExceeded,
    Refused,
    ServerFault,
    Unavailable,
    Unidentified,
    Unimplemented,
    Unreachable,
    Untrusted,
    Violation,
)
from ovnk_client.progress import STAGES, StageName
from ovnk_client.questions import question
from ovnk_client.shape import reference
from ovnk_client.sync import SyncSession
from ovnk_client.watch import Watch, WatchEvent

__all__ = [
    "STAGES",
    "Client",
    "ClientError",
    "Conflict",
    "DeadlineExceeded",
    "Denied",
    "Exists",
    "Expired",
    "NotFound",
    "QuotaExceeded",
    "Refused",
    "ServerFault",
    "StageName",
    "SyncSession",
    "Tls",
    "Unavailable",
    "Unidentified",
    "Unimplemented",
    "Unreachable",
    "Untrusted",
    "Violation",
    "Watch",
    "WatchEvent",
    "question",
    "reference",
]
