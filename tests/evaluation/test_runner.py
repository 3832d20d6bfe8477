import importlib.util
import json
import operator
import subprocess
import sys

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation import runner
from router_gateway.evaluation.backends import run_all, run_sharing
from router_gateway.evaluation.runner import Entry, plan, run
from router_gateway.evaluation.sitting import Spec

SPECS = [Spec(name="knn", label="knn"), Spec(name="linear", label="linear")]


@pytest.fixture
def entries(prepared_of, world):
    prepared = prepared_of(world(60, extra=1))
    return {"made": Entry(prepared=prepared, fingerprint=prepared.fingerprint())}


def jobs_of(entries, protocols=("pooled",), seeds=(0, 1), specs=SPECS):
    return plan(entries, specs=specs, protocols=protocols, seeds=seeds, resamples=20, select_parameters=False)


def without_times(records):
    """What must not depend on where or when a job ran."""
    timed = ("fit_s", "score_ms_p50", "score_ms_p99")
    return [{key: value for key, value in record.items() if key not in timed} for _, record in records]


def test_a_plan_has_every_combination_once(entries):
    jobs = jobs_of(entries, ("pooled", "tasks"), (0, 1, 2))
    assert len(set(map(repr, jobs))) == len(jobs) == 3 * 3 + 3  # three rows; `tasks` has one way to split
    assert [job.protocol for job in jobs[:3]] == ["tasks"] * 3  # the long ones first
    resampled = [job for job in jobs if job.resamples]
    assert {(job.protocol, job.seed) for job in resampled} == {("pooled", 0)}
    assert all(job.spec is not None for job in resampled)


STACK = Spec(name="stack", label="stack", params={"over": ["linear", "knn"]})


@pytest.mark.parametrize("protocol", ["tasks", "dynamic", "probes", "pooled"])
def test_what_a_policy_is_made_of_is_learned_once_and_finds_the_same(prepared_of, world, tmp_path, protocol):
    prepared = prepared_of(world(90, extra=1))
    entries = {"made": Entry(prepared=prepared, fingerprint=prepared.fingerprint())}
    other = Spec(name="knn", label="another knn", params={"k": 3})
    jobs = jobs_of(entries, (protocol,), (0,), [*SPECS, other, STACK])
    together = run(entries, jobs, folder=tmp_path / "together", backend="threads")
    apart = [run(entries, [job], folder=tmp_path / "apart", backend="threads")[0] for job in jobs]
    assert without_times(together) == without_times(apart)
    learned = {job.spec.label for job, record in together if job.spec is not None and record["fit_s"] > 0}
    assert learned == {"another knn", "stack"} | ({"knn", "linear"} if protocol == "pooled" else set())


def test_where_a_policy_fails_those_it_is_made_of_sit_alone(entries, tmp_path, monkeypatch):
    monkeypatch.setattr("policies.stack.Stack.score", lambda *_: 1 / 0)
    jobs = jobs_of(entries, ("tasks",), (0,), [*SPECS, STACK])
    records = {
        job.spec.label: record for job, record in run(entries, jobs, folder=tmp_path, backend="threads") if job.spec
    }
    assert records["stack"] == {"failed": "ZeroDivisionError"}
    assert records["knn"]["fit_s"] > 0
    assert "parts" in records["linear"]


@pytest.fixture
def alone(entries, tmp_path):
    return run(entries, jobs_of(entries), folder=tmp_path / "alone", backend="threads", workers=1)


NO_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install ray)")


@pytest.mark.parametrize("backend", ["threads", "processes", "dask", pytest.param("ray", marks=NO_RAY)])
def test_every_backend_finds_the_same(entries, tmp_path, alone, backend):
    """Dask, and Ray where it is there, with a real cluster of processes on this machine."""
    records = run(entries, jobs_of(entries), folder=tmp_path / backend, backend=backend, workers=2)
    assert without_times(records) == without_times(alone)
    assert all("parts" in record or "references" in record for _, record in records)


def test_a_backend_that_is_not_installed_says_how_to_get_it():
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("ray is installed here")
    with pytest.raises(ConfigError, match="needs Ray"):
        list(run_all(len, [[1]], backend="ray"))


def test_nothing_to_do_starts_nothing():
    assert list(run_all(len, [], backend="dask")) == []


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_jobs_meet_the_shared_thing_they_name(backend):
    shared = {"ones": np.ones(50_000), "twos": np.full(50_000, 2.0), "small": np.full(2, 3.0)}
    jobs = [(name, number) for number in range(3) for name in shared]
    found = dict(run_sharing(operator.mul, jobs, shared, backend=backend, workers=2))
    assert sorted(found) == list(range(len(jobs)))
    for at, (name, number) in enumerate(jobs):
        np.testing.assert_array_equal(found[at], number * shared[name])
    assert list(run_sharing(operator.mul, [], shared, backend=backend)) == []


def test_what_is_known_is_not_done_again(entries, tmp_path):
    jobs = jobs_of(entries)
    folder = tmp_path / "jobs"
    first = run(entries, jobs, folder=folder, backend="threads")
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(files) == len(jobs)
    told = []
    again = run(entries, jobs, folder=folder, backend="threads", advance=lambda done, total: told.append((done, total)))
    assert told == [(len(jobs), len(jobs))]
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files


def test_other_data_parameters_or_code_are_other_work(entries, tmp_path, prepared_of, world, monkeypatch):
    [_, job, *_] = jobs_of(entries)
    prepared = prepared_of(world(60, extra=1, seed=1), "other")
    other = Entry(prepared=prepared, fingerprint=prepared.fingerprint())
    keys = [runner._key(job, entries["made"]), runner._key(job, other)]
    [_, changed, *_] = jobs_of(entries, specs=[Spec(name="knn", label="knn", params={"k": 3})])
    keys.append(runner._key(changed, entries["made"]))
    monkeypatch.setattr(runner, "_own_code", lambda: "another version")
    keys.append(runner._key(job, entries["made"]))
    assert len(set(keys)) == 4


def test_the_code_a_figure_depends_on_is_found():
    names = {path.stem for path in runner.imported_by("router_gateway.evaluation.sitting")}
    assert {"sitting", "sweep", "judging", "metrics", "upgrades", "router", "rules", "experience", "registry"} <= names
    assert not {"report", "command", "cli", "runner", "tuning"} & names  # how results are shown changes none of them


def test_a_file_cut_short_is_done_again(entries, tmp_path):
    jobs = jobs_of(entries, seeds=(0,))
    folder = tmp_path / "jobs"
    first = run(entries, jobs, folder=folder, backend="threads")
    [place, *_] = sorted(folder.iterdir())
    place.write_text(place.read_text()[:40])
    again = run(entries, jobs, folder=folder, backend="threads")
    assert without_times(again) == without_times(first)
    assert json.loads(place.read_text())


def test_a_protocol_that_does_not_fit_says_why(prepared_of, world, tmp_path):
    prepared = prepared_of(world(30))
    entries = {"made": Entry(prepared=prepared, fingerprint=prepared.fingerprint())}
    records = run(entries, jobs_of(entries, ("dynamic",), (0,)), folder=tmp_path, backend="threads")
    assert [record for _, record in records] == [{"skipped": "fewer than four endpoints"}] * 3


def test_a_policy_that_fails_fails_alone_and_is_tried_again(entries, tmp_path):
    bad = Spec(name="knn", label="broken", params={"k": 10})
    broken = Entry(prepared=entries["made"].prepared, fingerprint="x")
    jobs = jobs_of({"made": broken}, ("robustness",), (0,), specs=[bad])  # its perturbed prompts were not embedded
    records = run({"made": broken}, jobs, folder=tmp_path / "jobs", backend="threads")
    outcomes = {job.spec.label if job.spec else "references": record for job, record in records}
    assert outcomes["broken"] == {"failed": "KeyError"}
    assert "references" in outcomes["references"]
    assert len(list((tmp_path / "jobs").iterdir())) == 1  # the failure is not kept


KILLED = """
import os, signal, sys
from pathlib import Path
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.prepared import load_tables, prepare
from router_gateway.evaluation.runner import Entry, plan, run
from router_gateway.evaluation.sitting import Spec

def entries_of(file, cache):
    [(_, table)] = load_tables(file)
    prepared = prepare("made", table, encoder=Encoder(kind="hashing"), cache=Path(cache))
    return {"made": Entry(prepared=prepared, fingerprint=prepared.fingerprint())}

def advance(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

entries = entries_of(sys.argv[1], sys.argv[2])
specs = [Spec(name="knn", label="knn"), Spec(name="linear", label="linear")]
jobs = plan(entries, specs=specs, protocols=["pooled"], seeds=[0, 1, 2], resamples=20, select_parameters=False)
run(entries, jobs, folder=Path(sys.argv[3]), backend="threads", advance=advance)
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(world, outcome_file, prepared_of, tmp_path):
    rows = world(60)
    file, folder = outcome_file(rows), tmp_path / "jobs"
    command = [sys.executable, "-P", "-c", KILLED, str(file), str(tmp_path / "vectors"), str(folder)]
    assert subprocess.run(command, timeout=240, check=False, capture_output=True).returncode == -9
    kept = list(folder.glob("*.json"))
    assert len(kept) == 4
    prepared = prepared_of(rows)
    entries = {"made": Entry(prepared=prepared, fingerprint=prepared.fingerprint())}
    jobs, told = jobs_of(entries, seeds=(0, 1, 2)), []
    records = run(
        entries, jobs, folder=folder, backend="threads", advance=lambda done, total: told.append((done, total))
    )
    assert told[0] == (4, 9)  # what was finished is taken over
    assert len(told) == 6
    assert all("parts" in record or "references" in record for _, record in records)
