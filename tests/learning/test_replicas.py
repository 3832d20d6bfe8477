"""Several processes on one ledger: who learns, who follows, and what a kill in the middle costs."""

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from router_gateway.core.errors import LedgerUnavailable
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.lessons import Lessons, Watermark
from tests.learning.school import OFFLINE, WORLD, enrolled, fitted, rate, school, scores


def taught_once(ledger, name):
    """The policy that has seen every row of the ledger once, in one piece."""
    rows = Lessons(ledger.engine).read(Watermark(), embedding_space=WORLD.space, rows_max=10_000).experience
    return fitted(name).partial_fit(rows)


def test_two_learners_that_race_learn_every_row_once(ledger, saved):
    enrolled(saved, "linear")
    classes = [school(ledger.engine, saved, "linear", rows_max=10) for _ in range(2)]
    rate(ledger, 100, seed=7)
    start, seen = threading.Barrier(2), []

    def race(learner):
        start.wait()
        for _ in range(200):
            outcomes = learner.step()
            seen.append(outcomes.get("linear", "none"))
            if seen.count("learned") >= 10:
                return

    threads = [threading.Thread(target=race, args=(learner,)) for learner, _ in classes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count("learned") == 10
    assert set(seen) <= {"learned", "waiting", "none"}
    for learner, live in classes:
        learner.step()
        assert live["linear"].current().version == 11
        np.testing.assert_allclose(
            scores(live["linear"].current().policy), scores(taught_once(ledger, "linear")), atol=1e-4
        )
    assert Snapshots(saved).load("linear")[1].provenance.observations == len(OFFLINE) + 100


def test_while_another_learns_one_follows(ledger, saved):
    enrolled(saved, "knn")
    (first, _), (second, live) = (school(ledger.engine, saved, "knn") for _ in range(2))
    rate(ledger, 30, seed=7)
    assert first.step() == {"knn": "learned"}
    other = Lease(ledger.engine, "learner")
    assert other.take(60)
    assert second.step() == {}
    assert live["knn"].current().version == 2
    assert second.counts()["knn", "followed"] == 1


def test_who_loses_the_lease_while_learning_saves_nothing(ledger, saved):
    enrolled(saved, "knn")
    learner, live = school(ledger.engine, saved, "knn")
    rate(ledger, 30, seed=7)
    learner._pupils["knn"].still_ours = lambda: False
    assert learner.step() == {"knn": "outpaced"}
    assert Snapshots(saved).newest("knn") == live["knn"].current().version == 1


def test_a_snapshot_of_other_parameters_is_told_of_once_and_does_not_serve(ledger, saved, caplog):
    enrolled(saved, "knn")
    learner, live = school(ledger.engine, saved, "knn")
    named, manifest = Snapshots(saved).load("knn")
    other = type(named)(name="knn", version=2, policy=type(named.policy)(k=3).fit(OFFLINE))
    Snapshots(saved).save(other, manifest.provenance)
    with caplog.at_level(logging.WARNING):
        learner.step()
        learner.step()
    assert len([r for r in caplog.records if "other parameters" in r.message]) == 1
    assert live["knn"].current().version == 1


_KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.engine import open_engine

where, checkout = sys.argv[3:]
sys.path.append(checkout)
from tests.learning.school import school
write = Snapshots._write

def killed(self, folder, named, provenance):
    if where == "while writing":
        (folder / "policy").mkdir()
    else:
        write(self, folder, named, provenance)
    os.kill(os.getpid(), signal.SIGKILL)

Snapshots._write = killed
learner, _ = school(open_engine(sys.argv[1]), Path(sys.argv[2]), "linear", lease_s=300)
print("learning", flush=True)
learner.step()
"""


@pytest.mark.parametrize("where", ["while writing", "before its place"])
def test_a_kill_in_the_middle_of_a_step_loses_nothing_and_doubles_nothing(ledger, saved, database_url, where):
    enrolled(saved, "linear")
    rate(ledger, 40, seed=7)
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "-c", _KILLED_WHILE_SAVING, database_url, str(saved), where, str(checkout)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (killed.returncode, killed.stdout) == (-9, "learning\n"), killed.stderr
    assert Snapshots(saved).newest("linear") == 1
    learner, live = school(ledger.engine, saved, "linear")
    assert learner.step() == {"linear": "learned"}  # the lease of the dead is taken over
    assert np.array_equal(scores(live["linear"].current().policy), scores(taught_once(ledger, "linear")))
    assert Snapshots(saved).load("linear")[1].provenance.observations == len(OFFLINE) + 40
    again, live = school(ledger.engine, saved, "linear")  # a restart
    assert again.step() == {"linear": "waiting"}
    assert live["linear"].current().version == 2


def test_the_thread_learns_by_itself_and_outlives_a_failing_step(ledger, saved, caplog):
    enrolled(saved, "knn")
    learner, live = school(ledger.engine, saved, "knn", interval_s=0.05, rows_max=10)
    read, failures = learner._pupils["knn"].lessons.read, iter([LedgerUnavailable("away"), ZeroDivisionError("secret")])

    def failing(*args, **options):
        for error in failures:
            raise error
        return read(*args, **options)

    learner._pupils["knn"].lessons.read = failing
    rate(ledger, 35, seed=7)
    deadline = time.monotonic() + 60
    with caplog.at_level(logging.ERROR), learner.running():
        while live["knn"].current().version < 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    counts = learner.counts()
    assert counts["all", "failed"] == counts["knn", "failed"] == 1
    assert counts["knn", "learned"] == 4
    assert "away" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text
    assert "learner" not in [thread.name for thread in threading.enumerate()]
