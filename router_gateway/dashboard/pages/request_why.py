"""Why a request went where it went: the candidates with what was expected of each, and what would have changed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts, words
from router_gateway.dashboard.charts import Chart, Series, chart
from router_gateway.dashboard.pages.requests import reason
from router_gateway.dashboard.tables import Column, table

Told = Mapping[str, Any]

_CANDIDATES = (
    Column(name="endpoint", title="Endpoint"),
    Column(name="place", title="Standing", form="pill"),
    Column(name="quality", title="Quality expected", form="percent"),
    Column(name="interval", title="95 % interval"),
    Column(name="cost_usd", title="Cost expected", form="money"),
    Column(name="value", title="Value at the dial", form="number"),
    Column(name="probability", title="Chance", form="percent"),
    Column(name="guard", title="Guard"),
)


def tiles(told: Told) -> None:
    """What came of it, beside what was expected."""
    chosen = _chosen(told)
    ratings = [each["quality"] for each in told["feedback"]]
    with ui.element("div").classes("rg-tiles rg-six"):
        answered = told["answered_by"]
        moved = answered not in (None, told["endpoint"])
        parts.tile(
            "Answered by" if answered else "Sent to",
            answered or told["endpoint"],
            detail=f"after {told['endpoint']} was tried" if moved else reason(told),
        )
        expected = chosen and words.percent(chosen["quality"])
        around = chosen and chosen["interval"] and words.interval(*chosen["interval"])
        parts.tile("Chance", words.percent(told["propensity"]), detail=f"rule: {told['rule']}")
        parts.tile("Quality expected", expected or words.DASH, detail=around or "nothing was scored")
        parts.tile(
            "Cost",
            words.money_nusd(told["cost_nusd"]),
            detail=f"{words.money(chosen['cost_usd'])} expected" if chosen else "",
        )
        first = words.duration_ms(told["timings"]["first_byte_ms"])
        parts.tile("Took", words.duration_ms(told["timings"]["total_ms"]), detail=f"first byte after {first}")
        rated = words.percent(sum(ratings) / len(ratings)) if ratings else words.DASH
        parts.tile("Rated", rated, detail=f"{len(ratings)} rating{'' if len(ratings) == 1 else 's'}")


def why(told: Told) -> None:
    """One sentence, what would have changed it, and the candidates."""
    parts.text(sentence(told), "rg-lead", tag="p")
    for said in switches(told):
        parts.text(said, tag="p")
    candidates(told)


def sentence(told: Told) -> str:
    """Why it was this one, in words."""
    name, chosen = told["endpoint"], _chosen(told)
    if told["reason"] == "pinned":
        return f"The client named {name}: nothing was weighed."
    if told["reason"] == "held:tool_state":
        return f"{name} had asked for a tool, and its result goes back to {name}."
    if chosen is None:
        return f"Nothing was scored ({told['detail'] or reason(told)}): {name} served."
    said = f"{name} was expected to be {words.percent(chosen['quality'])} good for {words.money(chosen['cost_usd'])}"
    if told["reason"] == "guard:low_evidence":
        return f"{said}; too little was known of the others to leave the default endpoint."
    if told["reason"] in ("gate:modality", "fallback:context"):
        return f"{said}; no other endpoint could take the request."
    others = [e for e in told["candidates"] if not e["chosen"] and e["eligible"] and e["value"] is not None]
    if told["reason"] == "explored":
        return f"{said}, and was drawn to learn more: its chance was {words.percent(told['propensity'])}."
    if not others:
        return f"{said}."
    second = max(others, key=lambda each: float(each["value"]))
    lead = chosen["value"] - second["value"]
    dial = f"where a perfect answer is worth {words.money(told['worth_usd'])}"
    if lead < 0:
        return f"{said}; {second['endpoint']} had a higher value, {dial}, before doubt and chance were counted."
    return f"{said}: {dial} that beats {second['endpoint']} by {words.points(lead).lstrip('+')}."


def switches(told: Told) -> list[str]:
    """At which dials the choice would have been another."""
    found = []
    for side, word in (("below", "Below"), ("above", "Above")):
        if (switch := told["switch"][side]) is not None:
            worth = words.money(switch["worth_usd"])
            found.append(f"{word} {worth} for a perfect answer, {switch['endpoint']} would have been chosen.")
    return found


def candidates(told: Told) -> None:
    """Every endpoint of the pool, the best value first."""
    rows = [_candidate(told, each) for each in told["candidates"]]
    rows.sort(key=lambda row: (row["value"] is None, -(row["value"] or 0.0)))
    columns = [c for c in _CANDIDATES if c.name != "guard" or told.get("guard")]
    table(columns, label="Candidates", none="The pool of then is not known.").show(rows)


def trade(scored: Sequence[Told], named: Mapping[str, str]) -> None:
    """Quality against cost. `named` are the endpoints that stand out, and as what."""
    series = []
    rest = [each for each in scored if each["endpoint"] not in named]
    for name, each in (*((named[e["endpoint"]], [e]) for e in scored if e["endpoint"] in named), ("others", rest)):
        if each:
            points = [(float(e["cost_usd"]), float(e["quality"])) for e in each]
            labels = [str(e["endpoint"]) for e in each]
            size = 10 if name == "others" else 16
            series.append(Series(name=name, points=points, labels=labels, kind="scatter", symbol_px=size))
    chart(
        Chart(
            title="Quality against cost",
            unit="expected quality",
            x_kind="value",
            x_title="expected cost, USD",
            x_form="usd",
            form="percent",
            kind="scatter",
            y_min=0.0,
            y_max=1.0,
            series=series,
        ),
        height="260px",
    )


def facts(told: Told) -> None:
    """Policy, rule, dial, draw, guard, and what was tried at the time."""
    rows: list[tuple[str, object]] = [
        ("Policy", told["policy"]),
        ("Rule", told["rule"]),
        ("Dial", f"{words.money(told['worth_usd'])} for a perfect answer"),
        ("Chance of this choice", words.percent(told["propensity"])),
        ("Draw", words.number(told["draw"]) if told["draw"] is not None else "nothing was drawn"),
        ("Guard", _guard(told["guard"])),
        ("Order", ", then ".join(told["order"])),
        ("Vector", f"{told['embedding_space']}{'' if told['stored']['vector'] else ', not kept'}"),
        (
            "Evidence",
            "neighbours, below" if told["evidence"] else "its policy names no neighbours, or no vector is there",
        ),
    ]
    if told["candidate"] or told["experiment"]:
        rows.append(("Candidate", told["candidate"] or f"control of {told['experiment']}"))
        if told["arm_share"] is not None:
            rows.append(("Share of the traffic", words.percent(told["arm_share"])))
    if told["detail"]:
        rows.append(("Detail", told["detail"]))
    for shadow in told["shadows"]:
        rows.append((f"In shadow: {shadow['candidate']}", shadow["endpoint"] or f"failed ({shadow['error']})"))
    for pair in told["comparisons"]:
        rows.append((f"Compared by {pair['source']}", f"{pair['better']} over {pair['worse']}"))
    parts.definition(rows)


def evidence(near: Told) -> None:
    """The neighbours, with how each endpoint did on them."""
    names = sorted({name for each in near["neighbours"] for name in each["quality"]})
    columns = [
        Column(name="row", title="Row", form="count"),
        Column(name="cosine", title="Likeness", form="number"),
        *(Column(name=f"q{i}", title=name, form="percent") for i, name in enumerate(names)),
    ]
    rows = [
        {**each, **{f"q{i}": each["quality"].get(name) for i, name in enumerate(names)}} for each in near["neighbours"]
    ]
    table(columns, label="Neighbours").show(rows)
    parts.text(f"As {near['policy']} remembers them now; their texts are not kept.", "rg-dim rg-small", tag="p")


def _candidate(told: Told, each: Told) -> dict[str, Any]:
    place: tuple[str, parts.Tone] = ("eligible", "") if each["eligible"] else ("not eligible", "warn")
    if each["endpoint"] == told["endpoint"]:
        place = ("chosen", "accent")
    admits = (told.get("guard") or {}).get("admits", {}).get(each["endpoint"])
    interval = each.get("interval")
    return {
        **each,
        "place": place,
        "interval": words.interval(*interval) if interval else None,
        "guard": None if admits is None else "admits" if admits else "holds back",
    }


def _guard(guard: Told | None) -> str:
    if guard is None:
        return "cannot be said"
    if not guard["z"] and guard["novelty_stddev_max"] is None:
        return "asks for no evidence (as it is now)"
    return f"leaves {guard['default_endpoint']} at z = {words.number(guard['z'])} (as it is now)"


def _chosen(told: Told) -> Told | None:
    return next((e for e in told["candidates"] if e["chosen"] and e["quality"] is not None), None)
