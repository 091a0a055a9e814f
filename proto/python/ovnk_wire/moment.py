"""Times: RFC 3339 text and the seconds and nanoseconds of a Timestamp."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ovnk_wire.fault import WireError, show

_EPOCH, _EPOCH_AWARE = datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""The first and last second of the years 1 to 9999, which is what RFC 3339 and Timestamp can tell."""


def read_time(text: str) -> dict[str, int]:
    """RFC 3339 text -> seconds and nanoseconds since 1970 (UTC). Raises WireError. Digits after the sixth of a fraction
    are cut off."""
    try:
        since = datetime.fromisoformat(text) - _EPOCH_AWARE
    except (ValueError, TypeError, OverflowError):  # TypeError: without a time zone
        since = timedelta.min
    seconds = since.days * 86_400 + since.seconds
    if not _FIRST_S <= seconds <= _LAST_S or "T" not in text.upper():
        raise WireError("not an RFC 3339 time", value=show(text), fix="write 2006-01-02T15:04:05Z")
    return {"seconds": seconds, "nanos": since.microseconds * 1_000}


def write_time(stamp: Any) -> str:
    """A Timestamp -> RFC 3339 text in UTC, with a fraction only where there is one. Raises WireError for what is no
    time."""
    seconds, nanos = stamp.seconds, stamp.nanos
    if not _FIRST_S <= seconds <= _LAST_S or not 0 <= nanos < 1_000_000_000:
        raise WireError("not a time of the years 1 to 9999", value=show(seconds))
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return f"{text}.{nanos:09d}".rstrip("0") + "Z" if nanos else text + "Z"
