"""What the driver tests look at: everything mirrored, and a refusal that left no trace."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ovnk_core.errors import Rejected
from ovnk_core.nb.operation import Operation
from ovnk_core.nb.schema import Row
from ovnk_core.northbound.port import Northbound
from tests.south.rows import MIRRORED


def content(nb: Northbound) -> dict[str, dict[str, Row]]:
    """Everything mirrored but NB_Global, copied."""
    return {table: dict(nb.rows(table)) for table in MIRRORED if table != "NB_Global" and nb.rows(table)}


async def refused(nb: Northbound, operations: Sequence[Operation], error: str, operation: int | None) -> None:
    """The transaction is refused for this reason at this operation, and nothing at all changed."""
    before = content(nb)
    with pytest.raises(Rejected) as caught:
        await nb.transact(operations)
    assert (caught.value.error, caught.value.operation) == (error, operation), caught.value
    await nb.transact([])
    assert content(nb) == before
