"""All sittings of an evaluation, side by side; each result is a file, so a run that is killed goes on where it was."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import router_gateway
from router_gateway import registry
from router_gateway.core.errors import GatewayError
from router_gateway.core.protocols import MadeOfPolicies
from router_gateway.evaluation.backends import Backend, run_sharing
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.protocols import PROTOCOLS, DoesNotFit, Variant
from router_gateway.evaluation.selection import select
from router_gateway.evaluation.sitting import Spec, sit, sit_references, sit_together


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One set with its perturbed prompts; `fingerprint` of both."""

    prepared: Prepared
    variants: Mapping[str, Variant] = field(default_factory=dict)
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One policy (None: the references) under one protocol and seed, on the set named `entry`."""

    entry: str
    protocol: str
    seed: int
    spec: Spec | None
    resamples: int = 0
    select: bool = False


def plan(
    entries: Mapping[str, Entry],
    *,
    specs: Sequence[Spec],
    protocols: Sequence[str],
    seeds: Sequence[int],
    resamples: int,
    select_parameters: bool,
) -> list[Job]:
    """Every job of an evaluation, the long ones first so that the last ones to finish are short."""
    jobs = [
        Job(
            entry=name,
            protocol=protocol,
            seed=seed,
            spec=spec,
            resamples=resamples if spec is not None and protocol == "pooled" and seed == seeds[0] else 0,
            select=select_parameters,
        )
        for name in entries
        for protocol in protocols
        for seed in (seeds if PROTOCOLS[protocol].seeded else seeds[:1])
        for spec in (None, *specs)
    ]
    return sorted(jobs, key=lambda job: (PROTOCOLS[job.protocol].seeded, -len(entries[job.entry].prepared)))


def run(
    entries: Mapping[str, Entry],
    jobs: Sequence[Job],
    *,
    folder: Path,
    backend: Backend = "processes",
    workers: int = 2,
    scheduler: str | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[tuple[Job, dict[str, Any]]]:
    """(job, record) of all jobs, in their order. Records in `folder` are taken as they are if nothing has changed.

    A record is what `sit` returns, or `{"skipped": why}` where the protocol does not fit the set, or
    `{"failed": why}` where a policy raised: that is tried again the next time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{_key(job, entries[job.entry])}.json" for job in jobs]
    records: dict[int, dict[str, Any]] = {}
    for at, place in enumerate(places):
        if (kept := _read(place)) is not None:
            records[at] = kept
    missing = [at for at in range(len(jobs)) if at not in records]
    advance(len(records), len(jobs))
    groups = _groups([jobs[at] for at in missing])
    work = [(jobs[missing[group[0]]].entry, tuple(jobs[missing[seat]] for seat in group)) for group in groups]
    for position, found in run_sharing(_sat, work, entries, backend=backend, workers=workers, scheduler=scheduler):
        for seat, record in zip(groups[position], found, strict=True):
            at = missing[seat]
            records[at] = record
            if "failed" not in record:
                _write(places[at], record)
        advance(len(records), len(jobs))
    return [(job, records[at]) for at, job in enumerate(jobs)]


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Positions of jobs that sit together: a policy, and after it those it is made of, which need not be learned again.

    Under `pooled`, whose seconds are told, everybody sits alone; so do those whose costs a set may be unable to teach.
    """
    groups = {at: [at] for at in range(len(jobs))}
    made_of: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    exams: dict[tuple[str, str, int], list[int]] = {}
    for at, job in enumerate(jobs):
        if job.spec is not None and job.spec.cost == "mean" and job.protocol != "pooled" and not job.select:
            exams.setdefault((job.entry, job.protocol, job.seed), []).append(at)
            if job.spec.label not in made_of:
                made_of[job.spec.label] = _made_of(job.spec)
    for own in exams.values():
        by_label = {spec.label: (at, spec) for at in own if (spec := jobs[at].spec) is not None}
        for at, spec in by_label.values():
            for part, other in by_label.values():
                known = made_of[spec.label].get(other.name)
                if known == other.params and groups.get(part) == [part] and at in groups:
                    groups[at] += groups.pop(part)
    return list(groups.values())


def _made_of(spec: Spec) -> Mapping[str, Mapping[str, Any]]:
    try:
        policy = spec.build()
    except GatewayError:  # told where it sits
        return {}
    return policy.made_of() if isinstance(policy, MadeOfPolicies) else {}


def _sat(jobs: Sequence[Job], entry: Entry) -> list[dict[str, Any]]:
    """Records of jobs of one protocol and seed; where one of several fails, each sits alone."""
    if len(jobs) == 1:
        return [_sat_alone(jobs[0], entry)]
    try:
        specs = [job.spec for job in jobs if job.spec is not None]
        return sit_together(
            specs, entry.prepared, protocol=jobs[0].protocol, seed=jobs[0].seed, variants=entry.variants
        )
    except Exception:  # whose fault it was shows when each sits alone
        return [_sat_alone(job, entry) for job in jobs]


def _sat_alone(job: Job, entry: Entry) -> dict[str, Any]:
    try:
        if job.spec is None:
            return sit_references(entry.prepared, protocol=job.protocol, seed=job.seed)
        spec = job.spec
        if job.select:
            exams = PROTOCOLS[job.protocol].exams(entry.prepared, job.seed)
            spec = select(spec, entry.prepared, exams[0].stages[0], seed=job.seed)
        return sit(
            replace(spec, label=job.spec.label),
            entry.prepared,
            protocol=job.protocol,
            seed=job.seed,
            variants=entry.variants,
            resamples=job.resamples,
        )
    except DoesNotFit as error:
        return {"skipped": str(error)}
    except GatewayError as error:
        return {"failed": error.message}
    except Exception as error:  # somebody else's policy may fail in any way, and its message may quote a prompt
        return {"failed": type(error).__name__}


def _key(job: Job, entry: Entry) -> str:
    spec = (
        None if job.spec is None else [job.spec.name, dict(job.spec.params), job.spec.cost, _policy_code(job.spec.name)]
    )
    facts = [entry.fingerprint, job.protocol, job.seed, spec, job.resamples, job.select, _own_code()]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=1)
def _own_code() -> str:
    """Of all our modules that a sitting imports, however deep; a change in any makes kept results stale."""
    return _digest(sorted(imported_by("router_gateway.evaluation.sitting", "router_gateway.evaluation.selection")))


def imported_by(*modules: str) -> set[Path]:
    """Files of router_gateway that these modules are made of or import, directly or not."""
    base = Path(router_gateway.__file__).parent.parent
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = base.joinpath(*name.split(".")).with_suffix(".py")
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("router_gateway"):
                waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@lru_cache(maxsize=256)
def _policy_code(name: str) -> str:
    """Of the policy's module and its neighbours, which it may share helpers with."""
    return _digest(list(Path(inspect.getfile(registry.policy_class(name))).parent.glob("*.py")))


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _read(place: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not there, or cut short by a power failure
    return record if isinstance(record, dict) else None


def _write(place: Path, record: Mapping[str, Any]) -> None:
    aside = place.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    os.replace(aside, place)
