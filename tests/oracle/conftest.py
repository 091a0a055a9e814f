"""One set of OVN daemons per test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.oracle import Laboratory
from tests.kit.ovn import short_directory


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    with short_directory() as directory, Laboratory(directory) as laboratory:
        yield laboratory
