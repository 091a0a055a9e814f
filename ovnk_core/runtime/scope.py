"""Leaving a block that owns tasks, without wrapping what ended it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType


async def leave(
    stack: AsyncExitStack, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
) -> None:
    """Close ``stack``. A task group wraps whatever ended the block; a caller's own exception goes on as it is, and one
    that stands alone is raised alone."""
    try:
        await stack.__aexit__(kind, error, at)
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if isinstance(alone, BaseExceptionGroup):
            raise
        if alone is not error:
            raise alone from None
