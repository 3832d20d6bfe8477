from __future__ import annotations

import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.exc import DBAPIError

from router_gateway.ledger.admin_events import AdminEvent, AdminEvents
from router_gateway.ledger.connections import writing
from router_gateway.ledger.tables import admin_events


@pytest.fixture
def events(engine: Engine) -> AdminEvents:
    return AdminEvents(engine)


def test_the_trail_is_read_newest_first_and_page_by_page(events: AdminEvents) -> None:
    for number in range(5):
        events.append(AdminEvent(author="ann", action="key.create", subject=f"key {number}", detail={"n": number}))
    page = events.newest(limit=2)
    assert [(event.subject, event.detail) for event in page] == [("key 4", {"n": 4}), ("key 3", {"n": 3})]
    assert [event.subject for event in events.newest(before=page[-1].id)] == ["key 2", "key 1", "key 0"]


def test_an_action_is_found_by_its_name_or_its_family(events: AdminEvents) -> None:
    for action in ("key.create", "key.revoke", "keynote.give", "budget.set"):
        events.append(AdminEvent(author="ann", action=action))
    assert [event.action for event in events.newest(action="key")] == ["key.revoke", "key.create"]
    assert [event.action for event in events.newest(action="budget.set")] == ["budget.set"]
    assert events.newest(action="k%") == []


def test_what_was_done_stays_on_record(events: AdminEvents, engine: Engine) -> None:
    events.append(AdminEvent(author="ann", action="key.create", note="x" * 5_000))
    assert len(events.newest()[0].note) == 2_000
    for change in (update(admin_events).values(author="bob"), delete(admin_events)):
        with pytest.raises(DBAPIError), writing(engine) as connection:
            connection.execute(change)
    assert [event.author for event in events.newest()] == ["ann"]
