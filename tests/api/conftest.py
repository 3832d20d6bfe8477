from contextlib import AsyncExitStack

import pytest

from tests.api.building import running
from tests.dispatch.conftest import serve  # noqa: F401 - a fixture: upstreams whose misbehaviour is scripted


@pytest.fixture
async def start(tmp_path):
    """`await start(...)`: a gateway made to measure; see `building.running`."""
    async with AsyncExitStack() as stack:

        async def make(**changes):
            return await stack.enter_async_context(running(tmp_path, **changes))

        yield make


@pytest.fixture
async def site(start):
    """A gateway as it comes."""
    return await start()
