"""One live policy that learns from the ledger: on a copy, judged, saved, and only then in service."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

import numpy as np

from router_gateway import registry
from router_gateway.core.errors import PolicyError
from router_gateway.core.experience import Experience
from router_gateway.core.ids import draw
from router_gateway.core.protocols import DetectsChanges, Policy
from router_gateway.core.types import NamedPolicy
from router_gateway.learning.gate import judge
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.recalibration import JudgeCorrection
from router_gateway.learning.settings import Learning
from router_gateway.learning.snapshots import Snapshots
from router_gateway.learning.standing import Standing
from router_gateway.ledger.lessons import Lesson, Lessons, Watermark

log = logging.getLogger(__name__)

Outcome = Literal[
    "learned",     # a new snapshot is in service
    "refitted",    # likewise, from the base and all rows that stand
    "refused",     # it predicts recent answers worse than what serves
    "unchanged",   # the rows changed nothing that the policy says
    "waiting",     # too few new rows
    "unteachable", # the policy refuses to learn these rows; told once
    "current",     # nobody has saved a newer snapshot
    "followed",    # another process's newer snapshot is in service
    "outpaced",    # the lease ran out before the snapshot was saved
    "failed",      # anything else went wrong
]  # fmt: skip

_COMPARED_ROWS = 64
_SALT = "held-out"


@dataclass(kw_only=True)
class Pupil:
    """A live policy, its snapshots and the ledger it learns from. Used by one thread.

    unfitted : builds the policy as configured, for one that has never learned
    correction : what judges' scores are worth, None for as they were said
    still_ours : whether nobody else has begun to learn meanwhile; asked just before saving
    """

    live: LivePolicy
    snapshots: Snapshots
    lessons: Lessons
    space: str
    settings: Learning
    unfitted: Callable[[str], Policy]
    still_ours: Callable[[], bool]
    correction: JudgeCorrection | None = None
    more: bool = field(default=False, init=False)
    """Whether the last piece was full: there is more to learn at once."""

    def __post_init__(self) -> None:
        serving = self.live.current()
        manifest = self.snapshots.manifest(serving.name, serving.version) if serving.version else None
        self._standing = Standing() if manifest is None else Standing.of(manifest)
        self._from = self._standing.reached
        self._provenance = None if manifest is None else manifest.provenance
        self._unusable = 0
        self._told: int | None = None
        self._in_vain: Watermark | None = None

    @property
    def name(self) -> str:
        return self.live.current().name

    def follow(self) -> bool:
        """Put a newer snapshot into service, where there is one of these parameters and this space."""
        serving = self.live.current()
        newest = self.snapshots.newest(serving.name) or 0
        if newest <= max(serving.version, self._unusable):
            return False
        named, manifest = self.snapshots.load(serving.name, newest)
        same = manifest.params == registry.parameters(serving.policy)
        if not same or manifest.provenance.embedding_space != self.space:
            self._unusable = newest
            log.warning("%s was made with other parameters or vectors; %s serves on", named.label, serving.label)
            return False
        self._serve(named, Standing.of(manifest), manifest.provenance)
        return True

    def learn(self, *, rows_min: int) -> Outcome:
        """Learn the next piece of feedback past the watermark."""
        self.more = False
        lesson = self._read(self._from)
        if lesson.taken_back:
            return self.refit()
        size = _size(lesson.experience)
        if size == 0 or (size < rows_min and not lesson.full) or lesson.reached == self._in_vain:
            if size == 0:
                self._pass_over(lesson)
                self._step_back()
            return "waiting"
        outcome = self._try(lesson)
        if outcome in ("refused", "unteachable"):  # tried again with the rows that come, as long as a piece has room
            self._in_vain = lesson.reached
        if outcome == "unchanged" or (lesson.full and outcome in ("refused", "unteachable")):
            self._pass_over(lesson)
        self.more = lesson.full
        return outcome

    def _try(self, lesson: Lesson) -> Outcome:
        serving, taught = self.live.current(), lesson.experience
        candidate = self._teach(copy.deepcopy(serving.policy) if serving.version else None, taught)
        if candidate is None:
            return "unteachable"
        if serving.version:
            if _says_the_same(serving.policy, candidate, taught):
                return "unchanged"
            if self._refuses(serving.policy, candidate, lesson.reached):
                return "refused"
        standing = replace(self._standing, reached=lesson.reached)
        before = 0 if self._provenance is None else self._provenance.observations
        return self._keep(candidate, standing, taught, before + _size(taught), "learned")

    def refit(self) -> Outcome:
        """Learn anew from the base, or from nothing, and the newest rows that stand: what was removed has no part.

        It is not judged against what serves: that has learned from what must be forgotten.
        """
        policy = self._base()
        newest, depth = self.lessons.newest(), self.settings.history_rows_max
        reached = replace(
            newest, feedback=max(newest.feedback - depth, 0), comparisons=max(newest.comparisons - depth, 0)
        )
        size, taught = 0, None
        while True:
            lesson = self._read(reached)
            if _size(lesson.experience):
                taught = lesson.experience
                policy = self._teach(policy, taught)
                if policy is None:
                    return "unteachable"
                size += _size(taught)
            # What is taken back between two pieces is for the next step to find.
            reached = replace(lesson.reached, revocations=newest.revocations)
            if not lesson.full:
                break
        if policy is None:
            raise PolicyError(f"{self.name}: there is nothing to fit on", hint="train it: router-gateway train FILE")
        return self._keep(policy, replace(self._standing, reached=reached), taught, size, "refitted")

    def _base(self) -> Policy | None:
        base = self._standing.base
        if base is None or self.snapshots.manifest(self.name, base) is None:
            return None
        return self.snapshots.load(self.name, base)[0].policy

    def _read(self, since: Watermark) -> Lesson:
        share = self.settings.held_out_share
        return self._lesson(since, self.settings.rows_max, lambda query_id: draw(query_id, _SALT) >= share)

    def _lesson(self, since: Watermark, rows_max: int, chosen: Callable[[UUID], bool]) -> Lesson:
        return self.lessons.read(
            since,
            embedding_space=self.space,
            rows_max=rows_max,
            settle_s=self.settings.settle_s,
            chosen=chosen,
            quality=attrgetter("quality") if self.correction is None else self.correction.quality,
        )

    def _teach(self, policy: Policy | None, taught: Experience) -> Policy | None:
        """The policy, taught; a new one, fitted, where there is none. None when it refuses."""
        try:
            learned = self.unfitted(self.name).fit(taught) if policy is None else policy.partial_fit(taught)
            learned.score(taught.queries.take(slice(0, _COMPARED_ROWS))).check(min(len(taught.queries), _COMPARED_ROWS))
        except PolicyError as error:
            serving = self.live.current()
            if self._told != serving.version:
                self._told = serving.version
                log.warning("%s learns nothing from the ledger: %s", serving.label, error.message)
            return None
        return learned

    def _refuses(self, serving: Policy, candidate: Policy, reached: Watermark) -> bool:
        """Whether the held-out rows among the newest up to `reached` speak against the candidate."""
        share, depth = self.settings.held_out_share, self.settings.judged_rows_max
        if not share:
            return False
        since = replace(reached, feedback=max(reached.feedback - depth, 0))
        held_out = self._lesson(since, depth, lambda query_id: draw(query_id, _SALT) < share).experience
        if not len(held_out):
            return False
        found = judge(serving, candidate, held_out)
        refused = found.refuses(z=self.settings.z, rows_min=self.settings.judged_min)
        if refused:
            log.warning(
                "%s serves on: what it would have learned predicts %d recent answers worse, by %.4f ± %.4f",
                self.live.current().label,
                found.rows,
                found.worse,
                found.stderr,
            )
        return refused

    def _pass_over(self, lesson: Lesson) -> None:
        """Read on from there, without a snapshot: after a restart these rows are looked at once more."""
        self._from, self.more = lesson.reached, lesson.full

    def _step_back(self) -> None:
        """Where the newest rows were deleted their numbers may come again: do not read on past them."""
        newest = self.lessons.newest()
        there = Watermark(
            feedback=min(self._from.feedback, newest.feedback),
            comparisons=min(self._from.comparisons, newest.comparisons),
            revocations=min(self._from.revocations, newest.revocations),
        )
        if there != self._from:
            log.warning("%s has read rows that are gone; `learn --refit` forgets them", self.live.current().label)
            self._from = there

    def _keep(
        self, policy: Policy, standing: Standing, taught: Experience | None, observations: int, outcome: Outcome
    ) -> Outcome:
        """Save, then serve. Whoever is killed in between has saved it all, or nothing."""
        serving = self.live.current()
        if not self.still_ours():
            log.warning("learning %s took longer than its lease; another process goes on", serving.label)
            return "outpaced"
        version = max(self.snapshots.newest(serving.name) or 0, serving.version) + 1
        named = NamedPolicy(name=serving.name, version=version, policy=policy)
        provenance = self._of(policy, standing, taught, observations)
        self.snapshots.save(named, provenance, spare=standing.base)
        self._serve(named, standing, provenance)
        return outcome

    def _of(self, policy: Policy, standing: Standing, taught: Experience | None, observations: int) -> Provenance:
        """What the manifest says; what is not the ledger's (the cost model's state) is handed on."""
        before, mark = self._provenance, json.dumps(standing.extra(), sort_keys=True)
        changes: dict[str, Any] = {
            "observations": observations,
            "created": datetime.now(UTC),
            "data_fingerprint": hashlib.sha256(mark.encode()).hexdigest(),
            "extra": ({} if before is None else before.extra) | standing.extra(),
        }
        if taught is not None:
            changes["endpoints"] = policy.score(taught.queries.take(slice(0, 1))).endpoints
            changes["width"] = taught.queries.embedding.shape[1]
        if before is None:
            return Provenance(embedding_space=self.space, **changes)
        return replace(before, **changes)

    def _serve(self, named: NamedPolicy, standing: Standing, provenance: Provenance) -> None:
        before = self.live.swap(named)
        for endpoint, found in changes_of(named).items():
            if found > changes_of(before).get(endpoint, found):
                log.warning("%s: answers of %s are no longer what they were", named.label, endpoint)
        self._standing, self._from, self._provenance = standing, standing.reached, provenance


def changes_of(named: NamedPolicy) -> Mapping[str, int]:
    """Changes that a policy has noticed, by endpoint; nothing for one that looks for none."""
    return named.policy.changes() if named.version and isinstance(named.policy, DetectsChanges) else {}


def _size(experience: Experience) -> int:
    return len(experience) + len(experience.comparisons)


def _says_the_same(serving: Policy, candidate: Policy, taught: Experience) -> bool:
    """Whether both score the first rows taught alike, to the bit."""
    asked = taught.queries.take(slice(0, _COMPARED_ROWS))
    before, after = serving.score(asked), candidate.score(asked)
    return before.endpoints == after.endpoints and all(
        np.array_equal(old, new) for old, new in ((before.quality, after.quality), (before.stddev, after.stddev))
    )
