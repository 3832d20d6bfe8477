from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.periods import PERIODS, next_period, period_start


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("hour", datetime(2028, 2, 29, 23, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("day", datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("month", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_periods_begin_in_utc(period, start, end):
    at = datetime(2028, 3, 1, 1, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert period_start(period, at) == start
    assert next_period(period, start) == end


@given(st.sampled_from(PERIODS), st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_every_instant_is_in_exactly_one_period(period, at):
    start = period_start(period, at)
    assert start <= at < next_period(period, start)
    assert period_start(period, next_period(period, start)) == next_period(period, start)
