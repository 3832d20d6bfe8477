"""What an audit says: figures with intervals, a verdict in words, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from router_gateway.evaluation.offpolicy import Estimate, Overlap

if TYPE_CHECKING:
    from router_gateway.evaluation.audit_standing import Compared

Verdict = Literal["worth it", "not shown", "harmful", "not identifiable"]

_ORACLE = "not known: nobody saw what the endpoints that were not called would have answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Rated decisions read, those learned from, and the draws asked about with their sessions."""

    rated: int = 0
    learned: int = 0
    asked: int = 0
    sessions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Valued:
    """One row of the table, per request: doubly robust, with SNIPS beside; None where `refused`.

    share : of the requests, by endpoint
    """

    name: str
    overlap: Overlap
    refused: str
    share: Mapping[str, float]
    quality: Estimate | None = None
    quality_snips: Estimate | None = None
    cost_usd: Estimate | None = None
    net: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """The candidate against what needs no router. All paired: intervals are of the differences themselves.

    quality_at_equal_cost : over the coin between single endpoints (`mix`, its weights) that costs the same
    net_over_best_single : in quality, over the single endpoint that is best at this dial
    saving_… : share of the other's cost that is not spent
    """

    quality_at_equal_cost: Estimate
    mix: Mapping[str, float]
    best_single: str
    net_over_best_single: Estimate
    quality_over_best_single: Estimate
    saving_over_best_single: Estimate
    quality_over_logged: Estimate
    saving_over_logged: Estimate
    usd_per_1000_saved_over_logged: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """The answer. verdict : is routing worth it here; sentence and recommendation : the same in words."""

    candidate: str
    rule: str
    worth_usd: float | None
    traffic: Traffic
    verdict: Verdict
    sentence: str
    recommendation: str
    rows: tuple[Valued, ...] = ()
    gains: Gains | None = None
    notes: tuple[str, ...] = ()
    oracle: str = field(default=_ORACLE)

    @classmethod
    def refused(
        cls,
        candidate: str,
        rule: str,
        worth_usd: float | None,
        traffic: Traffic,
        why: str,
        notes: Sequence[str] = (),
        rows: tuple[Valued, ...] = (),
    ) -> AuditResult:
        """No figure, and why."""
        why = why.removeprefix("not identifiable: ")
        return cls(
            candidate=candidate,
            rule=rule,
            worth_usd=worth_usd,
            traffic=traffic,
            verdict="not identifiable",
            sentence=f"Whether routing is worth it here is not identifiable: {why}.",
            recommendation="Let the gateway explore (`rule`), post feedback, and ask again.",
            rows=rows,
            notes=tuple(notes),
        )

    @classmethod
    def of(
        cls,
        candidate: str,
        rule: str,
        worth_usd: float | None,
        traffic: Traffic,
        found: Compared,
        notes: Sequence[str],
    ) -> AuditResult:
        """The verdict on what was found."""
        warned = [f"{row.name}: {row.overlap.warning}" for row in found.rows if row.overlap.warning and not row.refused]
        notes = (*notes, *warned)
        if found.gains is None:
            return cls.refused(candidate, rule, worth_usd, traffic, found.why, notes, found.rows)
        verdict, sentence, recommendation = _judged(found.gains, candidate, traffic)
        return cls(
            candidate=candidate,
            rule=rule,
            worth_usd=worth_usd,
            traffic=traffic,
            verdict=verdict,
            sentence=sentence,
            recommendation=recommendation,
            rows=found.rows,
            gains=found.gains,
            notes=notes,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _judged(gains: Gains, candidate: str, traffic: Traffic) -> tuple[Verdict, str, str]:
    gain, single = gains.net_over_best_single, gains.best_single
    coin = _points(gains.quality_at_equal_cost)
    said = (
        f"at this dial {candidate} is worth {_points(gain)} of quality a request, price included, more than sending "
        f"everything to {single}, and {coin} more than a random mix at equal cost (95 % intervals)"
    )
    if gain.low > 0:
        keep = f"Keep routing: {single} alone would be worth less."
        return "worth it", f"Yes, routing is worth it here: {said}.", keep
    off = f"Turn routing off and send everything to {single}"
    if gain.high < 0:
        return "harmful", f"No, routing is not worth it here: {said}.", f"{off}."
    more = _needed(gain, traffic.asked)
    return (
        "not shown",
        f"That routing is worth it here is not shown: {said}.",
        f"{off}, or wait for more feedback{more}.",
    )


def _needed(gain: Estimate, asked: int) -> str:
    """How much more, if the estimate should be right: intervals shrink with the root of what was seen."""
    arm = (gain.high - gain.low) / 2
    if gain.value <= 0 or arm <= 0:
        return ""
    needed = max((arm / gain.value) ** 2, 1.0) * asked
    return f" (a gain like the one estimated would show with about {needed:,.0f} rated draws, not {asked:,})"


def _points(gain: Estimate) -> str:
    return f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
