from contextlib import AsyncExitStack

import httpx
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


@pytest.fixture
async def office_of():
    """`await office_of(site)`: a client of its admin API, with an admin's key."""
    async with AsyncExitStack() as stack:

        async def open_office(site):
            client = admin_client(site, site.keys.create("operator", admin=True))
            return await stack.enter_async_context(client)

        yield open_office


@pytest.fixture
async def office(site, office_of):
    """The office of the gateway as it comes."""
    return await office_of(site)


@pytest.fixture
async def visitor(site):
    """The same with a viewer's."""
    async with admin_client(site, site.keys.create("onlooker", viewer=True)) as client:
        yield client


def admin_client(site, key, **headers):
    headers = {"authorization": f"Bearer {key}", **headers}
    return httpx.AsyncClient(base_url=f"{site.url}/admin/api", headers=headers, timeout=30, trust_env=False)
