"""The verbs `lifecycle list`, `draft`, `shadow`, `canary`, `promote`, `rollback`, `retire`, `evidence` and `trail`."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_gateway.core.errors import RequestError

if TYPE_CHECKING:
    from router_gateway.brain import Progress
    from router_gateway.config import Config
    from router_gateway.learning.snapshots import Snapshots
    from router_gateway.ledger.candidates import Transition
    from router_gateway.ledger.shadows import Shadows
    from router_gateway.lifecycle.desk import Desk
    from router_gateway.lifecycle.judge import Judge

Name = Annotated[str, typer.Argument(help="The candidate's name.")]
Note = Annotated[str, typer.Option(help="Why, for the audit trail.")]
Author = Annotated[str | None, typer.Option(help="Who, for the audit trail; default: who is logged in.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="The bundled demo: replayed endpoints, no API key.")]
Source = Callable[[Path | None, bool], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the verbs work with."""

    config: Config
    desk: Desk
    judge: Judge
    shadows: Shadows
    engine: Any

    def fitting(self, name: str, params: Any, progress: Progress) -> Callable[[Snapshots], str]:
        """What fits a policy into a candidate's folder. Raises RequestError for parameters that are no object."""
        from router_gateway.brain import Brain, build_endpoints

        if not isinstance(params, dict):
            raise RequestError("--params must be a JSON object", param="params")
        brain = Brain(config=self.config, endpoints=build_endpoints(self.config))
        return lambda home: brain.fit_candidate(name, params, home, self.engine, progress)


def verbs(source: Source, progress: Progress) -> typer.Typer:
    """The sub-commands; `source` finds the configuration file, `progress` draws bars."""
    app = typer.Typer(help="Candidates: draft, shadow, canary, live, retired.", no_args_is_help=True)
    _reading(app, source)
    _drafting(app, source, progress)
    _moving(app, source)
    return app


def _reading(app: typer.Typer, source: Source) -> None:
    @app.command("list")
    def list_candidates(as_json: AsJson = False, config: ConfigFile = None, demo: Demo = False) -> None:
        """List the candidates with where they stand."""
        from router_gateway.lifecycle import telling

        with _office(source(config, demo)) as office:
            rows = telling.candidates(office.desk)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        columns = ("candidate", "for", "state", "share", "since (UTC)", "made of", "reason")
        _print("Candidates", columns, [_listed(row) for row in rows])

    @app.command("evidence")
    def evidence(name: Name, as_json: AsJson = False, config: ConfigFile = None, demo: Demo = False) -> None:
        """Show what a candidate shows: as a canary now, else what its last move rested on; and in shadow."""
        from router_gateway.lifecycle import telling

        with _office(source(config, demo)) as office:
            found = telling.evidence(office.desk, office.judge, office.shadows, name)
        if as_json:
            typer.echo(json.dumps(found, indent=1))
            return
        typer.echo(f"{name} is {_words(found['state'])}")
        recorded = found["last_move_on_evidence"] or {}
        for shown in filter(None, (found["canary"] or recorded.get("evidence"),)):
            _print_canary(shown)
        if found["shadow"]:
            _print("In shadow", ("", ""), [(_words(key), _number(value)) for key, value in found["shadow"].items()])

    @app.command("trail")
    def trail(
        name: Annotated[str | None, typer.Argument(help="One candidate's; default: all.")] = None,
        as_json: AsJson = False,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Show the audit trail, newest first: who moved what, when and why."""
        from router_gateway.lifecycle import telling

        with _office(source(config, demo)) as office:
            rows = office.desk.register.trail(candidate=name)
        if as_json:
            typer.echo(json.dumps([telling.transition(row) for row in rows], indent=1))
            return
        columns = ("at (UTC)", "candidate", "for", "from", "to", "share", "by", "reason", "note")
        _print("Audit trail", columns, [_trailed(row) for row in rows])


def _drafting(app: typer.Typer, source: Source, progress: Progress) -> None:
    @app.command("draft")
    def draft(
        name: Name,
        policy: Annotated[
            str | None, typer.Option(help="The policy it would replace; default: the one that `auto` asks.")
        ] = None,
        snapshot: Annotated[
            str | None, typer.Option(help="knn@3, or knn: its newest. Default: the live policy, as it learns.")
        ] = None,
        params: Annotated[
            str | None, typer.Option(help='Parameters to fit a policy with, as JSON: {"k": 80}. See `policies NAME`.')
        ] = None,
        kind: Annotated[
            str | None, typer.Option(help="The policy to fit with them; default: the one it would replace.")
        ] = None,
        worth_usd: Annotated[float | None, typer.Option(help="Its dial.")] = None,
        optimism: Annotated[float | None, typer.Option(help="Its weight of doubt.")] = None,
        rule: Annotated[str | None, typer.Option(help='Its rule, as JSON: {"name": "greedy"}.')] = None,
        guard: Annotated[str | None, typer.Option(help='Its guard, as JSON: {"z": 1.0}.')] = None,
        margin: Annotated[
            list[str] | None,
            typer.Option(help="MEASURE=NUMBER, or MEASURE=none: quality, errors, cost, first_token. Repeatable."),
        ] = None,
        note: Note = "",
        author: Author = None,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Register a candidate: a snapshot or a policy fitted anew, another dial, rule or guard. Nothing is served yet.

        With --params or --kind a policy is fitted on training.outcomes, if any, and on the ledger's feedback.
        """
        said = {
            "worth_usd": worth_usd,
            "optimism": optimism,
            "rule": _json("rule", rule),
            "guard": _json("guard", guard),
        }
        with _office(source(config, demo)) as office:
            place = policy or office.config.policy.name
            fitted = None if params is None and kind is None else (kind or place, _json("params", params or "{}"))
            one = office.desk.draft(
                name,
                policy=place,
                snapshot=snapshot,
                fit=None if fitted is None else office.fitting(*fitted, progress),
                changes={key: value for key, value in said.items() if value is not None},
                margins=dict(_margin(each) for each in margin or ()),
                author=author or _who(),
                note=note,
            )
        typer.echo(f"{one.name}: draft, for {one.policy}, of {_made_of(one.snapshot, one.base, one.changes)}")


_PLAIN_MOVES = {
    "shadow": "Let it decide live requests beside the live policy; nothing of it is served.",
    "rollback": "Take it out of service; what served before a live one comes back as it was.",
    "retire": "Put it away for good.",
}


def _moving(app: typer.Typer, source: Source) -> None:
    for verb, told in _PLAIN_MOVES.items():
        app.command(verb, help=told)(_plain_move(verb, source))

    @app.command("canary")
    def canary(
        name: Name,
        share: Annotated[float | None, typer.Option(help="Of the traffic; default: the first configured.")] = None,
        note: Note = "",
        author: Author = None,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """Serve a share of the traffic with it and compare it with the live policy."""
        with _office(source(config, demo)) as office:
            _say(office.desk.canary(name, share=share, author=author or _who(), note=note))

    @app.command("promote")
    def promote(
        name: Name,
        to_live: Annotated[bool, typer.Option("--to-live", help="At once, whatever shares are left.")] = False,
        note: Note = "",
        author: Author = None,
        config: ConfigFile = None,
        demo: Demo = False,
    ) -> None:
        """On to the next share, and after the last one to live."""
        with _office(source(config, demo)) as office:
            _say(office.desk.promote(name, to_live=to_live, author=author or _who(), note=note))


def _plain_move(verb: str, source: Source) -> Callable[..., None]:
    def move(name: Name, note: Note = "", author: Author = None, config: ConfigFile = None, demo: Demo = False) -> None:
        with _office(source(config, demo)) as office:
            _say(getattr(office.desk, verb)(name, author=author or _who(), note=note))

    return move


@contextmanager
def _office(source: Path | None) -> Iterator[Office]:
    from router_gateway import config as configuration
    from router_gateway.ledger.engine import migrate
    from router_gateway.ledger.shadows import Shadows
    from router_gateway.opening import database, open_desk, open_judge

    loaded = configuration.load(source)
    loaded.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(loaded.ledger_url)
    with database(loaded) as engine:
        desk = open_desk(loaded, engine)
        judge = open_judge(desk, engine, loaded.learning)
        yield Office(config=loaded, desk=desk, judge=judge, shadows=Shadows(engine), engine=engine)


def _who() -> str:
    try:
        return f"{getpass.getuser()} (cli)"
    except (KeyError, OSError):  # a container may have no name for its user
        return "cli"


def _json(option: str, given: str | None) -> Any:
    if given is None:
        return None
    try:
        return json.loads(given)
    except ValueError:
        raise RequestError(f"--{option} is no JSON", param=option) from None


def _margin(given: str) -> tuple[str, float | None]:
    name, _, value = given.partition("=")
    try:
        return name, None if value == "none" else float(value)
    except ValueError:
        raise RequestError(f"--margin {given!r}: say quality=0.05, or cost=none", param="margin") from None


def _say(row: Transition) -> None:
    share = "" if row.share is None else f" of {row.share:.0%} of the traffic"
    typer.echo(f"{row.candidate}: {_words(row.state)}{share}; running gateways follow within seconds")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _made_of(snapshot: str | None, base: str | None, changes: Any) -> str:
    policy = snapshot or (f"the policy of {base}" if base else "the configured policy")
    said = ", ".join(f"{key} {json.dumps(value)}" for key, value in changes.items())
    return policy + (f" with {said}" if said else "")


def _listed(row: dict[str, Any]) -> tuple[str, ...]:
    share = "" if row["share"] is None else f"{row['share']:.0%}"
    made_of = _made_of(row["snapshot"], row["base"], row["changes"])
    return row["name"], row["policy"], _words(row["state"]), share, row["since"][:16], made_of, row["reason"]


def _trailed(row: Transition) -> tuple[str, ...]:
    share = "" if row.share is None else f"{row.share:.0%}"
    where = (row.candidate, row.policy, _words(row.before), _words(row.state))
    return f"{row.at:%Y-%m-%d %H:%M:%S}", *where, share, row.author, row.reason, row.note


def _print_canary(shown: dict[str, Any]) -> None:
    title = f"{shown['share']:.0%} of the traffic since {shown['since'][:16]}: {shown['verdict']['why']}"
    columns = ("measure", "blocks", "live", "candidate", "worse by", "at least", "at most", "margin", "finding")
    keys = ("name", "blocks", "live", "candidate", "worse", "lower", "upper", "margin", "finding")
    _print(title, columns, [tuple(_number(each[key]) for key in keys) for each in shown["measures"]])


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
