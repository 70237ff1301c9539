"""A testbed that the tests of a module share, for tests with the parameter `field`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.testbed.beds import bed_home
from support.testbed.fault_field import Field, a_field


@pytest.fixture(scope="module")
def whole_field() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


@pytest.fixture
def field(whole_field: Field) -> Iterator[Field]:
    yield whole_field
    whole_field.reset()
