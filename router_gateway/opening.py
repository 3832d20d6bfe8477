"""What is opened on the ledger's database: the ledger itself, the register of keys, and the rooms of the lifecycle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from router_gateway.brain import Brain, check_changes
from router_gateway.config import Config

if TYPE_CHECKING:
    from router_gateway.learning.learner import Learner
    from router_gateway.learning.settings import Learning
    from router_gateway.ledger.keys import Keys
    from router_gateway.ledger.ledger import Ledger
    from router_gateway.lifecycle.desk import Desk
    from router_gateway.lifecycle.judge import Judge
    from router_gateway.lifecycle.rollout import Rollout
    from router_gateway.routing.router import Router


def open_ledger(config: Config) -> Ledger:
    """Migrate the database and open the ledger on it."""
    from router_gateway.ledger.engine import migrate
    from router_gateway.ledger.ledger import Ledger

    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(config.ledger_url)
    return Ledger.open(
        config.ledger_url,
        directory=config.state_dir / "journal",
        journal_bytes_max=config.ledger.journal_bytes_max,
        store_text=config.ledger.store_text,
        sync_interval_ms=config.ledger.sync_interval_ms,
        disk_free_bytes_min=config.ledger.disk_free_bytes_min,
    )


@contextmanager
def database(config: Config) -> Iterator[Any]:
    """The ledger's database as it is (an engine of ledger/), for as long as the context lasts."""
    from router_gateway.ledger.engine import open_engine

    engine = open_engine(config.ledger_url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def open_keys(config: Config) -> Iterator[Keys]:
    """The register of API keys, on a migrated database."""
    from router_gateway.ledger.engine import migrate
    from router_gateway.ledger.keys import Keys

    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(config.ledger_url)
    with database(config) as engine:
        yield Keys(engine)


def open_desk(config: Config, engine: Any) -> Desk:
    """Where candidates are moved, on the ledger's database (an engine of ledger/)."""
    from router_gateway.ledger.candidates import Candidates
    from router_gateway.lifecycle.desk import Desk
    from router_gateway.lifecycle.homes import Homes

    return Desk(
        Candidates(engine),
        Homes(config.snapshots_dir),
        config.lifecycle,
        policies=[choice.name for choice in config.policies],
        checked=check_changes,
    )


def open_judge(desk: Desk, engine: Any, learning: Learning) -> Judge:
    """Who compares canaries with live traffic, from the ledger's database.

    What models as judges are worth is settled when a stage begins: until it ends, a score means the same at every look.
    """
    from router_gateway.learning.recalibration import hearing_of
    from router_gateway.ledger.experiments import read_outcomes
    from router_gateway.ledger.leases import Lease
    from router_gateway.lifecycle.evidence import trial_of
    from router_gateway.lifecycle.judge import LEASE, Judge

    hearing = lru_cache(maxsize=8)(lambda since: hearing_of(engine, learning, until=since))
    return Judge(
        desk,
        read=lambda name, since, rows_max: trial_of(read_outcomes(engine, name, since, rows_max, hearing(since))),
        held=Lease(engine, LEASE).held,
    )


def open_rollout(brain: Brain, engine: Any, routers: dict[str, Router], learner: Learner) -> Rollout:
    """Who serves which candidate, as the ledger's database has it now; `routers` and `learner` follow."""
    from router_gateway.ledger.saved_settings import SavedSettings
    from router_gateway.ledger.shadows import Shadows
    from router_gateway.lifecycle.rollout import Line, Rollout
    from router_gateway.lifecycle.shadowing import Shadowing

    def teach(policy: str, line: Line) -> None:
        params = {} if line.manifest is None else line.manifest.params
        taught = brain.unfitted_as_configured if line.manifest is None else partial(brain.unfitted, params=params)
        learner.reassign(policy, line.live, line.snapshots or brain.snapshots, taught)

    desk = open_desk(brain.config, engine)
    rollout = Rollout(
        routers=routers,
        desk=desk,
        judge=open_judge(desk, engine, brain.config.learning),
        workshop=brain,
        shadowing=Shadowing(Shadows(engine), rows_max=brain.config.lifecycle.shadow_rows_max),
        teach=teach,
        settings=SavedSettings(engine),
    )
    rollout.refresh()
    return rollout
