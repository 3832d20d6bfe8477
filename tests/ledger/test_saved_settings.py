from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.exc import DBAPIError

from router_gateway.core.errors import Conflict, NotFound
from router_gateway.ledger.connections import writing
from router_gateway.ledger.saved_settings import SavedSettings
from router_gateway.ledger.tables import settings


@pytest.fixture
def saved(engine: Engine) -> SavedSettings:
    return SavedSettings(engine)


def test_each_row_is_the_whole_state_from_then_on(saved: SavedSettings) -> None:
    assert (saved.newest(), saved.newest_id(), saved.history()) == (None, 0, [])
    first = saved.save({"worth_usd": 0.01}, author="ann", note="dearer")
    second = saved.save({"rule": {"name": "greedy"}}, author="bob")
    third = saved.save({"worth_usd": None}, author="ann")
    assert [row.state for row in (first, second, third)] == [
        {"worth_usd": 0.01},
        {"worth_usd": 0.01, "rule": {"name": "greedy"}},
        {"rule": {"name": "greedy"}},
    ]
    assert saved.history() == [third, second, first]
    assert (saved.newest(), saved.newest_id(), saved.at(first.id)) == (third, third.id, first)
    assert (first.author, first.note, third.changes) == ("ann", "dearer", {"worth_usd": None})
    with pytest.raises(NotFound):
        saved.at(third.id + 1)


def test_going_back_is_a_new_row(saved: SavedSettings) -> None:
    first = saved.save({"worth_usd": 0.01, "optimism": 1.0}, author="ann")
    saved.save({"worth_usd": 0.02, "optimism": None}, author="ann")
    back = saved.roll_back(first.id, author="bob", note="too dear")
    assert (back.state, back.restores, back.note) == (first.state, first.id, "too dear")
    assert back.changes == {"optimism": 1.0, "worth_usd": 0.01}
    assert saved.roll_back(0, author="bob").state == {}
    assert len(saved.history()) == 4
    assert len(saved.history(limit=2)) == 2


def test_of_those_who_save_at_once_nobody_is_overwritten_unseen(saved: SavedSettings) -> None:
    ready, refused = threading.Barrier(4), []

    def save(number: int) -> None:
        ready.wait()
        try:
            saved.save({f"s{number}": number}, author=str(number), base=0)
        except Conflict:
            refused.append(number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(saved.history()) == 1


def test_what_was_saved_stays_on_record(saved: SavedSettings, engine: Engine) -> None:
    saved.save({"worth_usd": 0.01}, author="ann")
    for change in (update(settings).values(author="bob"), delete(settings)):
        with pytest.raises(DBAPIError), writing(engine) as connection:
            connection.execute(change)
    assert [row.author for row in saved.history()] == ["ann"]
