"""An audit as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router_gateway.evaluation.audit_result import AuditResult, Valued
from router_gateway.evaluation.audit_standing import CANDIDATE
from router_gateway.evaluation.offpolicy import Estimate

if TYPE_CHECKING:
    from rich.table import Table


def table(result: AuditResult) -> Table:
    """One line per thing compared; doubly robust values with their 95 % intervals."""
    from rich.table import Table

    dial = "each request's own dial" if result.worth_usd is None else f"worth ${result.worth_usd:g}"
    drawn = Table(
        title=f"{result.candidate}, {result.rule}, {dial}: {result.traffic.asked:,} rated draws of "
        f"{result.traffic.sessions:,} sessions, {result.traffic.learned:,} decisions learned from",
        caption="\n".join(_gained(result)),
    )
    drawn.add_column("", no_wrap=True)
    for heading in ("quality", "SNIPS", "USD/1,000", "net", "ESS", "mostly"):
        drawn.add_column(heading, justify="right")
    for row in result.rows:
        name = result.candidate if row.name == CANDIDATE else row.name
        if row.refused or row.quality is None or row.quality_snips is None or row.cost_usd is None or row.net is None:
            drawn.add_row(name, row.refused)
            continue
        drawn.add_row(
            name,
            cell(row.quality),
            f"{row.quality_snips.value:.3f}",
            cell(row.cost_usd, scale=1000, digits=4),
            cell(row.net),
            f"{row.overlap.ess:,.0f}",
            _mostly(row),
        )
    return drawn


def cell(one: Estimate, *, scale: float = 1.0, digits: int = 3) -> str:
    """The value and its interval."""
    value, low, high = (f"{scale * number:.{digits}f}" for number in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})"


def _mostly(row: Valued) -> str:
    name = max(row.share, key=lambda each: row.share[each])
    return f"{name} {row.share[name]:.0%}"


def _gained(result: AuditResult) -> list[str]:
    gains = result.gains
    if gains is None:
        return []
    return [
        f"against {gains.best_single} alone: {cell(gains.saving_over_best_single, scale=100, digits=0)} % of its cost "
        f"saved, quality {cell(gains.quality_over_best_single)} higher",
        f"against as logged: {cell(gains.saving_over_logged, scale=100, digits=0)} % saved, "
        f"{cell(gains.usd_per_1000_saved_over_logged, digits=4)} USD/1,000, "
        f"quality {cell(gains.quality_over_logged)} higher",
        f"oracle: {result.oracle}",
    ]
