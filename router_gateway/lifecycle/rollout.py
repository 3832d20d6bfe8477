"""What serves now: the router of every policy, and while a candidate is tried, who gets it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

from router_gateway.core.errors import GatewayError, RequestError
from router_gateway.core.types import Decision, Query
from router_gateway.learning.live import LivePolicy
from router_gateway.learning.manifest import Manifest
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.candidates import Candidate, Transition
from router_gateway.ledger.saved_settings import Saved, SavedSettings
from router_gateway.lifecycle import makings
from router_gateway.lifecycle.assignment import Shares, unit
from router_gateway.lifecycle.desk import Desk
from router_gateway.lifecycle.judge import Judge
from router_gateway.lifecycle.shadowing import Shadowing
from router_gateway.routing.router import Router

log = logging.getLogger(__name__)

_JOIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A policy that serves or may: the configured one, or a candidate's own with the folder it lies in."""

    live: LivePolicy
    snapshots: Snapshots | None = None
    manifest: Manifest | None = None


class Workshop(Protocol):
    """What the rollout needs to have built; see brain.py."""

    @property
    def space(self) -> str:
        """The embedding space of live requests."""
        ...

    def configured(self, policy: str) -> LivePolicy:
        """The policy as configured."""
        ...

    def lay_over(self, state: Mapping[str, Any]) -> None:
        """Have routers that are built from now on follow what admins saved. Raises RequestError."""
        ...

    def router(self, live: LivePolicy, changes: Mapping[str, Any], candidate: str | None) -> Router:
        """The pool's router over a policy, with changes of dial, rule and guard."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One policy's traffic while a candidate is tried."""

    experiment: str
    shares: Shares
    router: Router


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Where one request belongs: the router that decides it, and what its row says of that."""

    router: Router
    experiment: str
    share: float
    unit: str

    def stamped(self, decision: Decision) -> Decision:
        """The decision, with the side it was made on. Its propensity stays the rule's own: the side was not drawn."""
        return replace(decision, experiment=self.experiment, arm_share=self.share, arm_unit=self.unit)


@dataclass(kw_only=True)
class Rollout:
    """Follows the register, and what admins saved, and changes `routers` (the gateway's own) in place.

    settings : where admins save; None = nothing is ever saved
    teach : is told whenever another line than before is live in the place of a policy
    Without a candidate a request costs one look into an empty dictionary.
    """

    routers: MutableMapping[str, Router]
    desk: Desk
    judge: Judge
    workshop: Workshop
    shadowing: Shadowing
    teach: Callable[[str, Line], None] = lambda policy, line: None
    settings: SavedSettings | None = None
    saved: Saved | None = field(default=None, init=False)
    """The row of `settings` in force in this process."""
    live_changes: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False)
    """By policy what the candidate that is live changes: it goes before what is saved."""
    failing: dict[str, str] = field(default_factory=dict, init=False)
    """Candidates that cannot serve in this process, and why; the live policy serves in their place."""

    def __post_init__(self) -> None:
        self._following = threading.Lock()
        self._seen = -1
        self._settings_seen = 0
        self._splits: Mapping[str, Split] = {}
        self._lines: dict[str, Line] = {}
        self._taught: dict[str, str | None] = dict.fromkeys(self.routers)

    def arm(self, policy: str, query: Query, key_id: UUID | None) -> Arm | None:
        """Where a request to `policy` belongs; None outside of any experiment.

        Who asks for a version ("knn@3") or for a threshold gets the live policy: they know what they want.
        """
        split = self._splits.get(policy)
        if split is None or query.preferences.win_threshold is not None:
            return None
        digits = unit(query, key_id, split.experiment)
        side = split.shares.side(digits)
        if side == "outside":
            return None
        canary = side == "canary"
        return Arm(
            router=split.router if canary else self.routers[policy],
            experiment=split.experiment,
            share=split.shares.canary if canary else split.shares.control,
            unit=digits,
        )

    def splits(self) -> Mapping[str, Split]:
        """By policy the candidate that is tried now."""
        return self._splits

    def tried(self, policy: str, decision: Decision) -> Router | None:
        """The router that made the decision, where it is that of a candidate being tried."""
        split = self._splits.get(policy)
        return None if split is None or decision.candidate != split.experiment else split.router

    def named(self, name: str) -> Router | None:
        """What serves under a configured policy's name, or a candidate's router; None where there is neither.

        Raises PolicyError for a candidate that cannot be loaded here, LedgerUnavailable.
        """
        if (router := self.routers.get(name)) is not None:
            return router
        with self._following:
            candidates = {each.name: each for each in self.desk.register.all()}
            if (candidate := candidates.get(name)) is None:
                return None
            line = self._line(candidate.policy, _origin(candidate, candidates), candidates)
            return self.workshop.router(line.live, candidate.changes, candidate.name)

    def refresh(self) -> None:
        """Follow what is saved and the register, where anything has happened since. Raises LedgerUnavailable."""
        with self._following:
            newest = self.desk.register.newest()
            resettled = self._follow_settings()
            if resettled or newest != self._seen:
                self._follow(resettled)
                self._seen = -1 if self.failing else newest

    def _follow_settings(self) -> bool:
        """Whether another row of settings is in force than before. One that is none here is told and passed over."""
        if self.settings is None or (newest := self.settings.newest_id()) == self._settings_seen:
            return False
        saved = self.settings.at(newest)
        self._settings_seen = newest
        try:
            self.workshop.lay_over(saved.state)
        except RequestError as error:
            log.error("settings %d, saved by %s, do not fit here: %s", newest, saved.author, error.message)
            return False
        self.saved = saved
        log.info("settings %d of %s are in force", newest, saved.author)
        return True

    def _follow(self, resettled: bool) -> None:
        candidates = {each.name: each for each in self.desk.register.all()}
        standing = self.desk.register.standing()
        splits: dict[str, Split] = {}
        shadows: dict[str, tuple[Router, ...]] = {}
        needed: set[str] = set()
        told, self.failing = self.failing, {}
        for policy in self.routers:
            rows = [row for row in standing if row.policy == policy]
            self._follow_live(policy, rows, candidates, needed, resettled)
            for row in rows:
                if row.state == "canary" and (router := self._router(candidates[row.candidate], candidates, needed)):
                    share = row.share or self.desk.settings.shares[0]
                    splits[policy] = Split(experiment=row.candidate, shares=Shares(canary=share), router=router)
            in_shadow = [candidates[row.candidate] for row in rows if row.state == "shadow"]
            if routers := [r for each in in_shadow if (r := self._router(each, candidates, needed)) is not None]:
                shadows[policy] = tuple(routers)
        for name, why in self.failing.items():
            if told.get(name) != why:  # it is tried again at every refresh, and told once
                log.error("candidate %s does not serve here: %s", name, why)
        self._lines = {name: line for name, line in self._lines.items() if name in needed}
        self._splits = splits
        self.shadowing.watch(shadows)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Follow and judge in a thread for as long as the context lasts."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopping,), name="lifecycle", daemon=True)
        thread.start()
        try:
            with self.shadowing.running():
                yield
        finally:
            stopping.set()
            thread.join(_JOIN_S)

    def _run(self, stopping: threading.Event) -> None:
        settings = self.desk.settings
        judged_s = time.monotonic()
        while not stopping.wait(min(settings.refresh_s, settings.judge_s)):
            try:
                self.refresh()
                if settings.automatic and time.monotonic() - judged_s >= settings.judge_s:
                    judged_s = time.monotonic()
                    if self.judge.step():
                        self.refresh()
            except GatewayError as error:
                log.warning("candidates are as they were when last read: %s", error.code)
            except Exception as error:  # a bug here must not end the thread that takes a bad candidate back
                log.error("following candidates failed: %s", type(error).__name__)

    def _follow_live(
        self,
        policy: str,
        rows: list[Transition],
        candidates: Mapping[str, Candidate],
        needed: set[str],
        resettled: bool,
    ) -> None:
        """Put the live candidate's router in the place of the policy's, or the configured one back.

        resettled : its dial, rule or guard may be others though it is the same
        """
        live = next((row.candidate for row in reversed(rows) if row.state == "live"), None)
        router = None if live is None else self._router(candidates[live], candidates, needed)
        if live is not None and router is None:
            return  # it cannot be loaded: whatever serves, serves on
        if router is None:
            router = self.workshop.router(self.workshop.configured(policy), {}, None)
        if resettled or self.routers[policy].candidate != router.candidate:
            self.routers[policy] = router
            log.info("%s is served by %s", policy, live or "the configured policy")
        self.live_changes[policy] = {} if live is None else candidates[live].changes
        origin = None if live is None else _origin(candidates[live], candidates)
        if self._taught[policy] != origin:
            self._taught[policy] = origin
            self.teach(policy, self._line(policy, origin, candidates))

    def _router(self, candidate: Candidate, candidates: Mapping[str, Candidate], needed: set[str]) -> Router | None:
        """Its router; None, with a word in the log, where its policy cannot be had here."""
        origin = _origin(candidate, candidates)
        try:
            line = self._line(candidate.policy, origin, candidates)
        except GatewayError as error:
            self.failing[candidate.name] = error.message
            return None
        if origin is not None:
            needed.add(origin)
        return self.workshop.router(line.live, candidate.changes, candidate.name)

    def _line(self, policy: str, origin: str | None, candidates: Mapping[str, Candidate]) -> Line:
        if origin is None:
            return Line(live=self.workshop.configured(policy))
        if origin not in self._lines:
            homes = self.desk.homes
            named, manifest = homes.load(origin, candidates[origin].snapshot or "", self.workshop.space)
            self._lines[origin] = Line(live=LivePolicy(named), snapshots=homes.of(origin), manifest=manifest)
        return self._lines[origin]


def _origin(candidate: Candidate, candidates: Mapping[str, Candidate]) -> str | None:
    """The name of the candidate whose policy it scores with; None = the configured one."""
    found = makings.origin(candidate, candidates)
    return None if found is None else found.name
