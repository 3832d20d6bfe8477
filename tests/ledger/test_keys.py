from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.tables import api_key_revocations, api_keys


@pytest.fixture
def keys(engine: Engine) -> Keys:
    return Keys(engine)


def test_a_key_is_found_by_its_plaintext_which_is_stored_nowhere(keys: Keys, engine: Engine) -> None:
    plaintext = keys.create("laptop", "acme", ["gpt-*", "local"])
    assert re.fullmatch(r"rg-[A-Za-z0-9_-]{43}", plaintext)
    found = keys.find(plaintext)
    assert found is not None
    assert (found.name, found.tenant, found.allows) == ("laptop", "acme", ("gpt-*", "local"))
    assert plaintext.startswith(found.prefix)
    assert found.created_at.tzinfo is UTC
    with engine.connect() as connection:
        row = connection.execute(select(api_keys)).mappings().one()
    assert plaintext not in str(dict(row))


def test_nobody_gets_a_key_of_the_gateways_own_tenant(keys: Keys) -> None:
    with pytest.raises(RequestError, match="gateway's own"):
        keys.create("spy", tenant=JUDGING_TENANT)


def test_other_strings_are_no_keys(keys: Keys) -> None:
    plaintext = keys.create("laptop")
    for wrong in ("", plaintext[:-1], plaintext + "x", plaintext.upper(), plaintext[:11], "\ud800", "\0"):
        assert keys.find(wrong) is None


def test_keys_differ(keys: Keys) -> None:
    assert len({keys.create("same", "same") for _ in range(5)}) == 5


@pytest.mark.parametrize("by", ["id", "id in words", "prefix"])
def test_a_revoked_key_is_known_no_more_and_stays_on_record(keys: Keys, engine: Engine, by: str) -> None:
    plaintext, other = keys.create("laptop"), keys.create("server")
    found = keys.find(plaintext)
    assert found is not None
    names: dict[str, UUID | str] = {"id": found.id, "id in words": str(found.id), "prefix": found.prefix}
    assert keys.revoke(names[by]) == found
    assert keys.find(plaintext) is None
    assert [key.name for key in keys.list()] == ["server"]
    assert keys.find(other) is not None
    with engine.connect() as connection:
        assert len(connection.execute(select(api_keys)).all()) == 2
        assert connection.execute(select(api_key_revocations.c.key_id)).scalars().all() == [found.id]
    with pytest.raises(NotFound):
        keys.revoke(names[by])


def test_revoking_needs_a_key_and_only_one(keys: Keys) -> None:
    for name in ("first", "second"):
        keys.create(name)
    for unknown in (uuid7(), "rg-", "", "nothing", keys.list()[0].prefix + "x"):
        with pytest.raises(NotFound):
            keys.revoke(unknown)
    assert len(keys.list()) == 2


def test_a_prefix_that_several_keys_share_names_none(keys: Keys) -> None:
    seen: set[str] = set()
    while (shared := keys.create("many")[:4]) not in seen:  # 64 different first letters: it ends
        seen.add(shared)
    with pytest.raises(RequestError, match="2 API keys"):
        keys.revoke(shared)


def test_a_key_has_one_role(keys: Keys) -> None:
    made = {"user": keys.create("u"), "viewer": keys.create("v", viewer=True), "admin": keys.create("a", admin=True)}
    for role, secret in made.items():
        found = keys.find(secret)
        assert found is not None
        assert found.role == role
    with pytest.raises(RequestError, match="not both"):
        keys.create("x", admin=True, viewer=True)


def test_a_key_ends_at_its_instant(keys: Keys) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.3)
    secret = keys.create("guest", expires_at=ends)
    found = keys.find(secret)
    assert found is not None
    assert found.expires_at == ends
    assert (found.expired(ends - timedelta(microseconds=1)), found.expired(ends)) == (False, True)
    while datetime.now(UTC) < ends:
        time.sleep(0.05)
    assert keys.find(secret) is None
    assert keys.list() == []
    with pytest.raises(RequestError, match="over already"):
        keys.create("late", expires_at=datetime.now(UTC))
