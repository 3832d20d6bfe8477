import math
from collections.abc import Iterator
from uuid import RFC_4122, UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.ids import draw, uuid7

RFC_EXAMPLE = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
"""RFC 9562, appendix A.6."""


def milliseconds(identifier: UUID) -> int:
    return identifier.int >> 80


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The nanoseconds that the next readings of the clock will give."""
    readings: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr("router_gateway.core.ids.time.time_ns", lambda: readings.pop(0))
        yield readings


def test_the_example_of_the_rfc(monkeypatch: pytest.MonkeyPatch, clock: list[int]):
    clock.append(1_645_557_742_000 * 1_000_000 + 999_999)
    random_bits = 0xCC3 << 68 | (0b01 << 60 | 0x8C4DC0C0C07398F)
    monkeypatch.setattr("router_gateway.core.ids.os.urandom", lambda size: random_bits.to_bytes(size, "big"))
    assert uuid7() == RFC_EXAMPLE


def test_version_variant_and_no_repeats():
    made = [uuid7() for _ in range(2_000)]
    assert {identifier.version for identifier in made} == {7}
    assert {identifier.variant for identifier in made} == {RFC_4122}
    assert len(set(made)) == len(made)


@given(st.lists(st.integers(0, 2**48 - 1), unique=True, min_size=2, max_size=20))
def test_ids_of_later_milliseconds_sort_later(instants_ms: list[int]):
    with pytest.MonkeyPatch.context() as patch:
        readings = [ms * 1_000_000 for ms in sorted(instants_ms)]
        patch.setattr("router_gateway.core.ids.time.time_ns", lambda: readings.pop(0))
        made = [uuid7() for _ in instants_ms]
    assert made == sorted(made)
    assert [str(identifier) for identifier in made] == sorted(str(identifier) for identifier in made)
    assert [milliseconds(identifier) for identifier in made] == sorted(instants_ms)


def test_all_74_random_bits_vary():
    made = np.array([[int(bit) for bit in f"{uuid7().int & (2**80 - 1):080b}"] for _ in range(500)])
    varying = (made.min(axis=0) == 0) & (made.max(axis=0) == 1)
    assert varying.sum() == 74
    assert not varying[:4].any(), "the version is fixed"
    assert not varying[16:18].any(), "the variant is fixed"


def test_draws_do_not_change_between_releases():
    """A ledger written by an older release must still be recomputable."""
    assert draw(RFC_EXAMPLE) == 0.9228382596890228
    assert draw(RFC_EXAMPLE, "salt") == 0.45509937020350877


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_draw_is_a_function_of_id_and_salt(identifier: UUID, salt: str):
    assert 0 <= draw(identifier, salt) < 1
    assert draw(UUID(str(identifier)), salt) == draw(identifier, salt)


@pytest.mark.parametrize("salt", ["", "another"])
def test_draws_are_uniform_even_over_consecutive_ids(salt: str):
    draws = np.sort([draw(UUID(int=RFC_EXAMPLE.int + i), salt) for i in range(10_000)])
    steps = np.arange(len(draws) + 1) / len(draws)
    kolmogorov = max(np.abs(draws - steps[1:]).max(), np.abs(draws - steps[:-1]).max())
    assert kolmogorov < 1.95 / math.sqrt(len(draws)), "beyond the 0.1 % point of Kolmogorov's distribution"


def test_two_salts_draw_independently():
    ids = [UUID(int=i) for i in range(4_000)]
    pairs = np.array([[draw(i, "a"), draw(i, "b")] for i in ids])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(len(ids))
