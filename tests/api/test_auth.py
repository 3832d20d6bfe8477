"""How long a key is remembered."""

import asyncio
import threading

import pytest
from starlette.requests import Request

from router_gateway.api.auth import Authenticator
from router_gateway.core.errors import AuthError, LedgerUnavailable
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.keys import Keys


def request(key):
    return Request({"type": "http", "headers": [(b"x-api-key", key.encode())]})


@pytest.fixture
def keys(tmp_path):
    url = f"sqlite:///{tmp_path}/keys.db"
    migrate(url)
    engine = open_engine(url)
    yield Keys(engine)
    engine.dispose()


class Counting:
    """A register that counts how often it is asked, and can be away."""

    def __init__(self, keys):
        self.keys, self.asked, self.away = keys, 0, False

    def __call__(self, secret):
        self.asked += 1
        if self.away:
            raise LedgerUnavailable("away")
        return self.keys.find(secret)


async def test_known_and_unknown_keys_are_remembered_for_a_while(keys):
    find, key = Counting(keys), keys.create("a", tenant="t")
    auth = Authenticator(find=find, remember_s=3600)
    for _ in range(3):
        assert (await auth(request(key))).tenant == "t"
        with pytest.raises(AuthError):
            await auth(request("rg-nobody"))
    assert find.asked == 2


async def test_a_revoked_key_ends_when_it_is_forgotten(keys):
    key = keys.create("a")
    auth = Authenticator(find=keys.find, remember_s=3600)
    await auth(request(key))
    keys.revoke(keys.list()[0].id)
    assert await auth(request(key))
    auth.remember_s = 0
    with pytest.raises(AuthError):
        await auth(request(key))


async def test_what_is_remembered_is_bounded_and_holds_no_key(keys):
    key = keys.create("a")
    find = Counting(keys)
    auth = Authenticator(find=find, remember_s=3600, remembered_max=2)
    for secret in (key, "rg-1", "rg-2"):
        try:
            await auth(request(secret))
        except AuthError:
            continue
    assert len(auth._remembered) == 2
    assert key not in repr(auth._remembered)
    await auth(request(key))
    assert find.asked == 4


async def test_a_key_of_any_length_costs_nothing(keys):
    find = Counting(keys)
    with pytest.raises(AuthError):
        await Authenticator(find=find)(request("x" * 513))
    assert find.asked == 0


async def test_while_the_register_is_away_good_keys_stay_good_for_a_time(keys):
    find, key = Counting(keys), keys.create("a")
    auth = Authenticator(find=find, remember_s=0)
    await auth(request(key))
    with pytest.raises(AuthError):
        await auth(request("rg-nobody"))
    find.away = True
    assert await auth(request(key))
    for stranger in ("rg-nobody", "rg-new"):
        with pytest.raises(LedgerUnavailable):
            await auth(request(stranger))
    auth.outage_s = 0
    with pytest.raises(LedgerUnavailable):
        await auth(request(key))


class Gated(Counting):
    """Answers once it is let."""

    def __init__(self, keys):
        super().__init__(keys)
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, secret):
        self.asked += 1
        found = LedgerUnavailable("away") if self.away else self.keys.find(secret)
        self.begun.set()
        assert self.let.wait(60)
        if isinstance(found, LedgerUnavailable):
            raise found
        return found


async def begun(find):
    """Return once the database is being asked."""
    while not find.begun.is_set():
        await asyncio.sleep(0.001)


async def test_those_who_come_while_the_database_is_asked_wait_for_the_same_answer(keys):
    find, key = Gated(keys), keys.create("a", tenant="t")
    auth = Authenticator(find=find, remember_s=3600)
    asking = [asyncio.ensure_future(auth(request(key))) for _ in range(10)]
    await begun(find)
    find.let.set()
    assert {each.tenant for each in await asyncio.gather(*asking)} == {"t"}
    assert find.asked == 1
    assert not auth._asked


async def test_one_who_leaves_takes_the_answer_from_nobody(keys):
    find, key = Gated(keys), keys.create("a", tenant="t")
    auth = Authenticator(find=find, remember_s=3600)
    leaving, staying = (asyncio.ensure_future(auth(request(key))) for _ in range(2))
    await begun(find)
    leaving.cancel()
    await asyncio.sleep(0)
    find.let.set()
    assert (await staying).tenant == "t"
    assert leaving.cancelled()
    assert find.asked == 1


async def test_an_answer_is_as_old_as_its_question_whoever_waited_for_it(keys):
    find, key = Gated(keys), keys.create("a")
    auth = Authenticator(find=find, remember_s=0.5)
    first = asyncio.ensure_future(auth(request(key)))
    await begun(find)
    keys.revoke(keys.list()[0].id)
    await asyncio.sleep(0.6)
    late = asyncio.ensure_future(auth(request(key)))  # waits for what the database said before the key was revoked
    await asyncio.sleep(0)
    find.let.set()
    assert await first == await late
    with pytest.raises(AuthError):
        await auth(request(key))
    assert find.asked == 2


async def test_all_who_wait_are_told_that_the_database_is_away_and_the_next_one_asks_again(keys):
    find, key = Gated(keys), keys.create("a", tenant="t")
    find.away = True
    auth = Authenticator(find=find)
    asking = [asyncio.ensure_future(auth(request(key))) for _ in range(3)]
    await begun(find)
    find.let.set()
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in told] == [LedgerUnavailable] * 3
    assert find.asked == 1
    find.away = False
    assert (await auth(request(key))).tenant == "t"
