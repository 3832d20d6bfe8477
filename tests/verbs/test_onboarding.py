"""The verb as typed, in this process."""

import pytest
from typer.testing import CliRunner

from router_gateway.cli import app
from router_gateway.core.errors import GatewayError
from router_gateway.ledger.tables import decisions
from tests.e2e import quiz, world


@pytest.fixture
def typed(tmp_path):
    def run(pool, *arguments):
        """Exit code and output of `onboard ARGUMENTS`."""
        named = {"default_endpoint": pool[0]["name"], "training": {"outcomes": None}}
        config = world.write_config(tmp_path, pool, embedder={"kind": "hashing"}, **named)
        done = CliRunner().invoke(app, ["onboard", *arguments, "--config", str(config)])
        if isinstance(done.exception, GatewayError):  # `main` says these
            return 1, done.exception.message
        return done.exit_code, done.output

    return run


def test_a_dry_run_shows_the_probes_and_asks_nothing(typed, tmp_path):
    with quiz.taking(0.5) as pupil:
        code, said = typed([world.endpoint("newcomer", pupil.base_url)], "newcomer", "--probes", "5", "--dry-run")
        assert code == 0, said
        assert "5 probes, chosen to stand for all probes there are; 5 without an answer yet" in said
        assert "--max-usd 1" in said
        assert pupil.asked == []
        assert world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db").all(decisions) == []


def test_a_wide_interval_is_called_wide_and_what_is_known_is_not_asked(typed):
    with quiz.taking(0.5) as pupil:
        pool = [world.endpoint("newcomer", pupil.base_url)]
        code, said = typed(pool, "newcomer", "--probes", "8", "--max-tokens", "50")
        assert code == 0, said
        assert "8 graded" in said
        assert "the interval is wide" in said
        code, said = typed(pool, "newcomer", "--probes", "8", "--max-tokens", "50", "--half-width", "0.5")
        assert code == 0, said
        assert "0 without an answer yet" in said
        assert "wide" not in said
        assert len(pupil.asked) == 8


def test_an_endpoint_that_fails_leaves_the_run_incomplete(typed):
    with quiz.taking(0.5) as pupil:
        pupil.refuses = True
        code, said = typed([world.endpoint("newcomer", pupil.base_url)], "newcomer", "--probes", "4")
        assert code == 3
        assert "goes on from here" in said


def test_who_cannot_be_asked_is_said_at_once(typed):
    pool = [world.endpoint("small", "replay")]
    assert typed(pool, "medium") == (1, "no endpoint 'medium' in the configuration; there are small")
    code, said = typed(pool, "small")
    assert code == 1
    assert "replayed" in said
