"""Every move of a candidate, by a person or by the judge, with who, when and why: the same for all who ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from router_gateway.core.errors import Conflict, NotFound, Overloaded, RequestError
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.candidates import Candidate, Candidates, Transition
from router_gateway.lifecycle import states
from router_gateway.lifecycle.homes import Homes
from router_gateway.lifecycle.settings import Lifecycle, Margins
from router_gateway.lifecycle.states import State

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOTE_CHARS_MAX = 2_000
_TRAIL_MAX = 10_000
AUTHOR = "gateway"
"""Who moves candidates where no person does."""
SHADOWS_MAX = 3
"""Candidates of one policy in shadow at once."""


class Desk:
    """`policies` are the configured ones; `checked` refuses changes of dial, rule and guard that are none.

    All methods block on the database, and raise LedgerUnavailable when it is away, NotFound for an unknown
    candidate, and Conflict where the move does not fit the candidate's state or somebody was faster.
    """

    def __init__(
        self,
        register: Candidates,
        homes: Homes,
        settings: Lifecycle,
        *,
        policies: Collection[str],
        checked: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        self.register = register
        self.homes = homes
        self.settings = settings
        self._policies = policies
        self._checked = checked

    def draft(
        self,
        name: str,
        *,
        policy: str,
        snapshot: str | None = None,
        fit: Callable[[Snapshots], str] | None = None,
        changes: Mapping[str, Any] | None = None,
        margins: Mapping[str, Any] | None = None,
        author: str,
        note: str = "",
    ) -> Candidate:
        """Register a candidate for the place of `policy`.

        snapshot : "knn@3" or "knn", copied so that nothing changes it; None = the policy that is live, as it learns
        fit : fits a policy and saves it in the candidate's folder instead; the label of what it saved
        changes : of dial, rule and guard; what is not named is as live
        Raises RequestError naming the argument that is wrong.
        """
        wanted = self._checked(changes or {})
        if snapshot is not None and fit is not None:
            raise RequestError("a candidate is a snapshot or is fitted, not both", param="snapshot")
        if snapshot is None and fit is None and not wanted:
            raise RequestError("a candidate needs a snapshot or a change of dial, rule or guard", param="snapshot")
        candidate = self._candidate(name, policy, wanted, margins, author, note)
        self.homes.clear(name)
        if fit is not None:
            candidate = replace(candidate, snapshot=fit(self.homes.of(name)))
        elif snapshot is not None:
            candidate = replace(candidate, snapshot=self.homes.adopt(name, snapshot))
        first = self._row(
            candidate, states.NEW, "draft", self._next(policy), author=author, reason="drafted", note=note
        )
        self.register.add(candidate, first)
        return candidate

    def begin_fit(
        self,
        name: str,
        *,
        policy: str,
        kind: str,
        params: Mapping[str, Any],
        limit_s: float,
        changes: Mapping[str, Any] | None = None,
        margins: Mapping[str, Any] | None = None,
        author: str,
        note: str = "",
    ) -> Candidate:
        """Register a candidate whose policy is fitted elsewhere, into its folder, until `fitted` or `failed` is said.

        One at a time, whichever process fits: raises Overloaded. One that took longer than `limit_s` has failed.
        """
        wanted = self._checked(changes or {})
        candidate = replace(self._candidate(name, policy, wanted, margins, author, note), snapshot=kind)
        for row in self.register.standing():
            if row.state == "fitting":
                if (datetime.now(UTC) - row.at).total_seconds() < limit_s:
                    raise Overloaded(f"another candidate is being fitted: {row.candidate!r}")
                self.failed(row.candidate, "its process ended before it was fitted")
        self.homes.clear(name)
        first = self._row(
            candidate,
            states.NEW,
            "fitting",
            self._next(policy),
            author=author,
            reason="asked",
            note=note,
            evidence={"kind": kind, "params": dict(params)},
        )
        self.register.add(candidate, first)
        return candidate

    def fitted(self, name: str) -> Transition:
        """It lies in its folder, and is a draft from here on."""
        candidate, before = self._standing(name)
        return self._move(candidate, before, "draft", author=AUTHOR, reason="fitted")

    def failed(self, name: str, why: str) -> Transition:
        """It could not be fitted; nothing of it stays but the trail."""
        candidate, before = self._standing(name)
        self.homes.clear(name)
        return self._move(candidate, before, "failed", author=AUTHOR, reason="failed", note=why)

    def _candidate(
        self,
        name: str,
        policy: str,
        wanted: Mapping[str, Any],
        margins: Mapping[str, Any] | None,
        author: str,
        note: str,
    ) -> Candidate:
        """A new one over what is live. Raises RequestError naming the argument that is wrong, Conflict for its name."""
        if not _NAME.fullmatch(name):
            raise RequestError("`name`: at most 64 letters, digits, '.', '_' and '-'", param="name")
        if policy not in self._policies:
            known = ", ".join(sorted(self._policies))
            raise RequestError(f"`policy`: {policy!r} is not configured here; {known} are", param="policy")
        own_margins = _margins(margins or {})
        base = self._live(policy)
        if name in {each.name for each in self.register.all()}:
            raise Conflict(f"a candidate {name!r} exists already", param="name")
        return Candidate(
            name=name,
            policy=policy,
            base=None if base is None else base.name,
            changes={**({} if base is None else base.changes), **wanted},
            margins=own_margins,
            author=author,
            note=_cut(note),
        )

    def checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Changes of dial, rule and guard as a candidate has them. Raises RequestError naming the first wrong."""
        return self._checked(changes)

    def shadow(self, name: str, *, author: str, note: str = "") -> Transition:
        """Score live requests with it, beside them; serve nothing."""
        candidate, before = self._standing(name)
        others = [t for t in self.register.standing() if t.policy == candidate.policy and t.state == "shadow"]
        if len(others) >= SHADOWS_MAX:
            raise Conflict(f"{len(others)} candidates of {candidate.policy} are in shadow already")
        return self._move(candidate, before, "shadow", author=author, reason="asked", note=note)

    def canary(self, name: str, *, share: float | None = None, author: str, note: str = "") -> Transition:
        """Serve a share of the traffic with it, the first configured one unless said otherwise."""
        candidate, before = self._standing(name)
        self._check_alone(candidate)
        part = self.settings.shares[0] if share is None else share
        if not 0 < part < 1:
            raise RequestError("`share` must lie between 0 and 1", param="share")
        if before.state == "canary":
            raise Conflict(f"{name!r} is a canary already: promote it, or roll it back")
        return self._move(candidate, before, "canary", share=part, author=author, reason="asked", note=note)

    def promote(
        self,
        name: str,
        *,
        to_live: bool = False,
        author: str,
        reason: str = "asked",
        note: str = "",
        evidence: Mapping[str, Any] | None = None,
        expected: Transition | None = None,
    ) -> Transition:
        """On to the next share, and after the last one to live; `to_live` skips what is between.

        expected : the transition on which the caller's reasons rest. Raises Conflict if there has been another since.
        """
        candidate, before = self._standing(name, expected)
        if before.state != "canary":
            raise Conflict(f"{name!r} is {before.state.replace('_', ' ')}: only a canary is promoted")
        wider = [share for share in self.settings.shares if share > (before.share or 0.0)]
        told: dict[str, Any] = {"author": author, "reason": reason, "note": note, "evidence": evidence}
        if wider and not to_live:
            return self._move(candidate, before, "canary", share=wider[0], **told)
        number, rows = self._next(candidate.policy), []
        if (live := self._live(candidate.policy)) is not None:
            gone = f"{name} takes its place"
            rows.append(self._row(live, "live", "retired", number, author=author, reason=states.SUPERSEDED, note=gone))
        rows.append(self._row(candidate, "canary", "live", number + len(rows), **told))
        self.register.append(*rows)
        return rows[-1]

    def rollback(
        self,
        name: str,
        *,
        author: str,
        reason: str = "asked",
        note: str = "",
        evidence: Mapping[str, Any] | None = None,
        expected: Transition | None = None,
    ) -> Transition:
        """Take it out of service. For a live one its predecessor comes back, as it was when it was relieved.

        A canary of the same policy goes with a live one: it was compared with what is no longer there.
        """
        candidate, before = self._standing(name, expected)
        states.check(name, before.state, "rolled_back")
        number = self._next(candidate.policy)
        told: dict[str, Any] = {"author": author, "reason": reason, "note": note, "evidence": evidence}
        rows = [self._row(candidate, before.state, "rolled_back", number, **told)]
        if before.state == "live":
            for other in self.register.standing():
                if other.policy == candidate.policy and other.state == "canary":
                    tried, why = self.register.named(other.candidate), f"{name} was rolled back"
                    rows.append(
                        self._row(
                            tried, "canary", "rolled_back", number + 1, author=author, reason="live_changed", note=why
                        )
                    )
            trail = self.register.trail(policy=candidate.policy, limit=_TRAIL_MAX)
            if (back := states.previous(name, trail)) is not None:
                old, why = self.register.named(back), f"{name} was rolled back"
                rows.append(
                    self._row(
                        old, "retired", "live", number + len(rows), author=author, reason=states.RESTORED, note=why
                    )
                )
        self.register.append(*rows)
        return rows[0]

    def retire(self, name: str, *, author: str, note: str = "") -> Transition:
        """Put it away for good. A live one is rolled back instead, or relieved by the next."""
        candidate, before = self._standing(name)
        if before.state == "live":
            raise Conflict(f"{name!r} is live: roll it back, or promote another")
        return self._move(candidate, before, "retired", author=author, reason="asked", note=note)

    def last(self, name: str) -> Transition:
        """The transition that a candidate stands at. Raises NotFound."""
        rows = self.register.trail(candidate=name, limit=1)
        if not rows:
            raise NotFound(f"no candidate {name[:100]!r}", param="name")
        return rows[0]

    def _standing(self, name: str, expected: Transition | None = None) -> tuple[Candidate, Transition]:
        candidate, last = self.register.named(name), self.last(name)
        if expected is not None and expected.number != last.number:
            raise Conflict(f"{name!r} was moved meanwhile")
        return candidate, last

    def _move(self, candidate: Candidate, before: Transition, state: State, **told: Any) -> Transition:
        states.check(candidate.name, before.state, state)
        row = self._row(candidate, before.state, state, self._next(candidate.policy), **told)
        self.register.append(row)
        return row

    def _check_alone(self, candidate: Candidate) -> None:
        for other in self.register.standing():
            same = other.policy == candidate.policy and other.candidate != candidate.name
            if same and other.state == "canary":
                raise Conflict(f"{other.candidate!r} is a canary of {candidate.policy} already: one at a time")

    def _live(self, policy: str) -> Candidate | None:
        """The candidate that is live in the place of `policy`; None = the policy as configured."""
        live = [row for row in self.register.standing() if row.policy == policy and row.state == "live"]
        return self.register.named(live[-1].candidate) if live else None

    def _next(self, policy: str) -> int:
        return self.register.numbers().get(policy, 0) + 1

    @staticmethod
    def _row(
        candidate: Candidate, before: str, state: State, number: int, *, author: str, note: str = "", **more: Any
    ) -> Transition:
        return Transition(
            policy=candidate.policy,
            number=number,
            candidate=candidate.name,
            before=before,
            state=state,
            author=_cut(author),
            note=_cut(note),
            **more,
        )


def _margins(said: Mapping[str, Any]) -> dict[str, Any]:
    """The margins that were named. Raises RequestError."""
    try:
        return Margins.model_validate(dict(said)).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, ("margins", *first["loc"])))
        raise RequestError(f"`{path}`: {first['msg']}", param=path) from None


def _cut(text: str) -> str:
    return text.replace("\0", "\ufffd")[:_NOTE_CHARS_MAX]
