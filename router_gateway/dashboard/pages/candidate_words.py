"""Candidates in words: what they are made of, where they stand, what may be done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router_gateway.dashboard import words
from router_gateway.dashboard.parts import Tone

TONES: Mapping[str, Tone] = {
    "draft": "",
    "fitting": "accent",
    "failed": "bad",
    "shadow": "accent",
    "canary": "warn",
    "live": "good",
    "rolled_back": "bad",
    "retired": "",
}
WAY = ("draft", "shadow", "canary", "live", "retired")
"""As it goes when all goes well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that may be done. verb : of the API; about : what happens then; grave : it changes what is served."""

    verb: str
    title: str
    about: str
    grave: bool = False


_DEEDS: Mapping[str, Deed] = {
    "shadow": Deed(
        verb="shadow",
        title="To shadow",
        about="It decides live requests once more, beside them. Nothing of it is served.",
    ),
    "canary": Deed(
        verb="canary",
        title="Start canary",
        about="It serves a share of the traffic and is compared with what is live.",
        grave=True,
    ),
    "promote": Deed(
        verb="promote",
        title="Promote",
        about="On to the next share of the traffic; after the last one it is live.",
        grave=True,
    ),
    "live": Deed(
        verb="promote",
        title="Make live now",
        about="It serves all the traffic at once, whatever shares are left.",
        grave=True,
    ),
    "rollback": Deed(
        verb="rollback",
        title="Roll back",
        about="It is taken out of service at once; what served before comes back as it was.",
        grave=True,
    ),
    "retire": Deed(verb="retire", title="Retire", about="It is put away for good."),
}
_MAY: Mapping[str, tuple[str, ...]] = {
    "draft": ("shadow", "canary", "retire"),
    "shadow": ("canary", "retire"),
    "canary": ("promote", "live", "rollback", "retire"),
    "live": ("rollback",),
    "rolled_back": ("shadow", "canary", "retire"),
    "failed": ("retire",),
}


def deeds(state: str) -> Mapping[str, Deed]:
    """What may be done in a state, the next step first."""
    return {name: _DEEDS[name] for name in _MAY.get(state, ())}


def state_pill(row: Mapping[str, Any]) -> tuple[str, Tone]:
    """Words and tone of where a candidate stands."""
    if row.get("failing"):
        return f"{state(row)}, failing", "bad"
    return state(row), TONES.get(row["state"], "")


def state(row: Mapping[str, Any]) -> str:
    """Where it stands, with its share of the traffic."""
    named = str(row["state"]).replace("_", " ")
    return named if row.get("share") is None else f"{named} {words.percent(row['share'], digits=0)}"


def move(row: Mapping[str, Any]) -> str:
    """A line of the trail: from where to where."""
    before = str(row["before"]).replace("_", " ")
    return state(row) if before == "none" else f"{before} → {state(row)}"


def made_of(row: Mapping[str, Any]) -> str:
    """The policy it scores with, and what it changes."""
    policy = f"the policy of {row['base']}" if row["base"] else "the configured policy"
    if row["snapshot"]:
        policy = row["snapshot"] if "@" in row["snapshot"] else f"{row['snapshot']}, fitted anew"
    said = changes(row["changes"])
    return f"{policy}, {said}" if said else policy


def changes(made: Mapping[str, Any]) -> str:
    """Changes of dial, rule and guard."""
    said = []
    if (worth := made.get("worth_usd")) is not None:
        said.append(f"dial {words.money(worth)}")
    if (rule := made.get("rule")) is not None:
        more = [f"{name} {words.number(value)}" for name, value in rule.items() if name != "name"]
        said.append(" ".join([str(rule["name"]).replace("_", " "), *more]))
    if (own := made.get("guard")) is not None:
        said.append(f"guard {guard(own)}")
    if (optimism := made.get("optimism")) is not None:
        said.append(f"optimism {words.number(optimism)}")
    return ", ".join(said)


def guard(made: Mapping[str, Any]) -> str:
    """How much evidence it takes to leave the default endpoint."""
    said = []
    if made.get("z"):
        said.append(f"z {words.number(made['z'])}")
    if made.get("novelty_stddev_max") is not None:
        said.append(f"novelty {words.number(made['novelty_stddev_max'])}")
    return ", ".join(said) or "none"
