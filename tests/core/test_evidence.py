import numpy as np
import pytest

from router_gateway.core.evidence import grown, nothing


def alarms(excess, least, outcomes: float) -> list[int]:
    """Where the evidence reaches `outcomes`, beginning anew after each time."""
    found, evidence = [], nothing()
    for t, more in enumerate(excess):
        evidence = grown(evidence, float(more), least)
        if evidence.mean() >= outcomes:
            found.append(t)
            evidence = nothing()
    return found


@pytest.mark.parametrize("chance", [0.02, 0.5, 0.9])
def test_false_alarms_are_as_far_apart_as_was_asked(chance: float):
    rng = np.random.default_rng(int(100 * chance))
    excess = (rng.random(60_000) < chance) - chance  # as good as said, however skewed
    assert len(alarms(excess, chance, 500.0)) <= 60_000 / 500


def test_a_change_is_found_in_a_few_dozen_outcomes():
    rng = np.random.default_rng(1)
    late = [
        alarms(np.r_[rng.random(300) < 0.1, rng.random(300) < 0.3].astype(float) - 0.1, 0.1, 2_000.0) for _ in range(40)
    ]
    delays = [next((t - 300 for t in found if t >= 300), 300) for found in late]
    assert np.median(delays) < 60


def test_evidence_is_never_negative_and_starts_at_nothing():
    assert grown(nothing(), -1.0, 1.0).min() >= 0.0
    assert nothing(3, 2).shape == (3, 2, 4)
