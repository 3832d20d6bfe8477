"""The configuration file and environment as checked models.

Later wins: defaults < preset < YAML < environment (`ROUTER_GATEWAY__SERVER__PORT=9000`), and before all of them what
admins saved while the gateway ran (saving.py). Unknown keys are errors,
every mistake is reported at once with its path, and secrets are named by environment variable only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from router_gateway import registry
from router_gateway.core.errors import ConfigError, PolicyError
from router_gateway.core.yaml_file import read_mapping
from router_gateway.dispatch.endpoints import REPLAY, EndpointSettings, PositiveFloat
from router_gateway.grading.settings import Judging
from router_gateway.grading.settings import problems as judging_problems
from router_gateway.learning.settings import Learning
from router_gateway.lifecycle.settings import Lifecycle
from router_gateway.presets import PresetSource
from router_gateway.routing.newcomers import NewcomerSettings
from router_gateway.routing.settings import Pacing

ENV_PREFIX = "ROUTER_GATEWAY__"
HttpUrl = Annotated[str, Field(pattern=r"^https://[^\s/?#@]+|^http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)")]
"""Over TLS, unless it is on this machine."""
_USERINFO = re.compile(r"//[^/\s\"@]*@")
_ALIAS = "auto"  # what clients call the routed model


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """Where the gateway listens, and its bounds."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    body_bytes_max: int = Field(20 * 1024 * 1024, ge=1024)
    routing_deadline_ms: PositiveFloat = 1_000.0
    stream_ping_s: PositiveFloat = 15.0
    requests_in_flight_max: int = Field(1_000, ge=1)


class Ledger(_Section):
    """Where decisions, attempts and feedback go."""

    url: SecretStr = SecretStr("sqlite:///{state_dir}/ledger.db")
    store_text: bool = False
    journal_bytes_max: int = Field(1024**3, ge=1024**2)
    sync_interval_ms: float | None = Field(100.0, ge=0, le=60_000)
    disk_free_bytes_min: int = Field(64 * 1024**2, ge=0)


class Embedder(_Section):
    """What turns a query into a vector."""

    kind: Literal["static", "onnx", "onnx-int8", "sentence", "hashing"] = "static"
    model: str = "all-MiniLM-L6-v2"
    batch_max: int = Field(8, ge=1, le=1024)
    wait_ms_max: float = Field(0.0, ge=0, le=1000)
    queue_max: int = Field(1_000, ge=1)
    cache_entries_max: int = Field(10_000, ge=0)
    threads: int = Field(2, ge=1, le=256)


class PolicyChoice(_Section):
    """A registered policy and its parameters."""

    name: str = "clusters"
    params: dict[str, Any] = Field(default_factory=dict)


class GreedyRule(_Section):
    """Always the best value."""

    name: Literal["greedy"] = "greedy"


class EpsilonGreedyRule(_Section):
    """The best value, but `epsilon` of the time any endpoint."""

    name: Literal["epsilon_greedy"]
    epsilon: float = Field(0.05, ge=0, le=1)


class InverseGapRule(_Section):
    """The best value mostly; others by how close they come."""

    name: Literal["inverse_gap"]
    gamma: float = Field(200.0, ge=0, allow_inf_nan=False)


class GuardSettings(_Section):
    """How much evidence it takes to leave the default endpoint."""

    z: float = Field(0.0, ge=0, le=10)
    novelty_stddev_max: float | None = Field(None, gt=0)


class Changes(_Section):
    """What a candidate may change of how choices are made (docs/lifecycle.md); null leaves it as it is."""

    worth_usd: PositiveFloat | None = None
    optimism: float | None = Field(None, ge=0, le=10)
    rule: Annotated[GreedyRule | EpsilonGreedyRule | InverseGapRule, Field(discriminator="name")] | None = None
    guard: GuardSettings | None = None


class Savable(Changes):
    """What an admin may save while the gateway serves (docs/settings.md); null lifts what was saved."""

    pacing_usd: float | None = Field(None, gt=0, le=1e9)


class Training(_Section):
    """Outcomes from which the policy is fitted when there is no snapshot yet."""

    outcomes: str | None = None


class Replay(_Section):
    """The bundled replay server: recorded outcomes answer for endpoints whose `base_url` is "replay"."""

    outcomes: str = "paretobandit"
    speed: float = Field(0.0, ge=0, le=100)


class Budgets(_Section):
    """What is set aside for a call of a caller with a budget; `router-gateway budgets` makes them."""

    output_tokens_assumed: int | None = Field(4096, ge=1)
    prompt_margin: float = Field(1.5, ge=1, le=100)
    refresh_s: float = Field(5.0, gt=0, le=3600)


class AdminApi(_Section):
    """What the admin API shows to whom (docs/admin-api.md)."""

    viewers_read_text: bool = False


class Dispatch(_Section):
    """How requests are sent on."""

    drop_params: bool = False


class Oidc(_Section):
    """An identity provider by which people sign in to the dashboard (docs/dashboard.md); keys stand in variables."""

    issuer: HttpUrl
    client_id: str = Field(min_length=1)
    client_secret_env: str | None = None
    url: HttpUrl
    scopes: list[str] = ["openid", "profile", "email"]
    groups_claim: str = Field("groups", min_length=1)
    admin_groups: list[str] = Field(default_factory=list, max_length=1_000)
    viewer_groups: list[str] = Field(default_factory=list, max_length=1_000)
    admin_key_env: str = "ROUTER_GATEWAY_DASHBOARD_ADMIN_KEY"
    viewer_key_env: str = "ROUTER_GATEWAY_DASHBOARD_VIEWER_KEY"


class Dashboard(_Section):
    """The pages for people, in a process of their own beside `serve` (docs/dashboard.md)."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = Field(8081, ge=0, le=65535)
    oidc: Oidc | None = None


class Config(BaseSettings):
    """The whole configuration; `load` is the way to make one."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__")

    preset: Literal["bandit", "carrot"] | None = None
    state_dir: Path = Path(".router-gateway")
    server: Server = Server()
    ledger: Ledger = Ledger()
    embedder: Embedder = Embedder()
    policy: PolicyChoice = PolicyChoice()
    other_policies: list[PolicyChoice] = Field(default_factory=list, max_length=50)
    rule: Annotated[GreedyRule | EpsilonGreedyRule | InverseGapRule, Field(discriminator="name")] = GreedyRule()
    guard: GuardSettings = GuardSettings()
    worth_usd: PositiveFloat = 0.02
    optimism: float = Field(0.0, ge=0, le=10)
    cost_model: Literal["constant", "learned", "streaming"] = "constant"
    learn_output_tokens: bool = True
    training: Training = Training()
    dispatch: Dispatch = Dispatch()
    admin_api: AdminApi = AdminApi()
    budgets: Budgets = Budgets()
    pacing: Pacing | None = None
    learning: Learning = Learning()
    newcomers: NewcomerSettings | None = None
    judging: Judging = Judging()
    lifecycle: Lifecycle = Lifecycle()
    dashboard: Dashboard = Dashboard()
    replay: Replay | None = None
    default_endpoint: str
    endpoints: list[EndpointSettings] = Field(min_length=1, max_length=1_000)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then what the file said, then the preset that they name; no other source."""
        return env_settings, init_settings, PresetSource(settings_cls)

    @property
    def ledger_url(self) -> str:
        """The database's URL with `{state_dir}` filled in. May hold a password: never print it."""
        return self.ledger.url.get_secret_value().replace("{state_dir}", str(self.state_dir))

    def shown(self) -> dict[str, Any]:
        """The settings as JSON values, for people: secrets and what stands before an @ in a URL are masked."""
        shown: dict[str, Any] = json.loads(_USERINFO.sub("//***@", self.model_dump_json()))
        return shown

    @property
    def snapshots_dir(self) -> Path:
        """Where policies are saved."""
        return self.learning.snapshots_dir or self.state_dir / "snapshots"

    @property
    def policies(self) -> tuple[PolicyChoice, ...]:
        """The live policy first."""
        return (self.policy, *self.other_policies)


def load(path: Path | None) -> Config:
    """Read `path` (None: the demo that ships with the package) and the environment.

    Raises ConfigError with every mistake as `path.to.key: what is wrong`.
    """
    source = path if path is not None else Path(__file__).with_name("demo.yaml")
    raw = read_mapping(source)
    problems = _unknown_variables(os.environ)
    config = None
    try:
        config = Config(**raw)
    except ValidationError as error:
        problems += [_problem(e) for e in error.errors(include_url=False, include_input=False)]
    except SettingsError as error:  # a variable that should hold JSON; the message names it without its value
        problems.append(f"environment: {error}")
    # What counts is the file with the environment laid over it; only where that is no configuration, the file.
    settings = raw if config is None else config.model_dump()
    problems += [p for p in _cross_checks(settings) if p not in problems]
    if problems or config is None:
        raise ConfigError(problems, hint=f"in {source.name}; gateway.example.yaml annotates every setting")
    return config


def api_keys(config: Config, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Endpoint name to secret, from the environment variables that the configuration names."""
    named = {e.name: e.api_key_env for e in config.endpoints if e.api_key_env}
    problems = [
        f"endpoints.{name}.api_key_env: the environment variable {variable} is not set"
        for name, variable in named.items()
        if not environ.get(variable)
    ]
    if problems:
        raise ConfigError(problems, hint="set it, or run `router-gateway serve --demo` for replayed endpoints")
    return {name: environ[variable] for name, variable in named.items()}


def _problem(error: Any) -> str:
    section, *rest = error["loc"] or ("(top level)",)
    if section == "rule":
        rest = rest[1:]  # pydantic puts the rule's name in between
    path = ".".join(map(str, (section, *rest)))
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown setting"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Pydantic refuses unknown members of a section, but passes over variables of no section."""
    ours = [variable for variable in sorted(environ) if variable.upper().startswith(ENV_PREFIX)]
    sections = {variable: variable[len(ENV_PREFIX) :].partition("__")[0].lower() for variable in ours}
    return [f"{variable}: unknown setting" for variable in ours if sections[variable] not in Config.model_fields]


def _cross_checks(raw: dict[str, Any]) -> list[str]:
    """Mistakes that no single field shows, looked for even when other fields are wrong."""
    problems = []
    listed = raw.get("endpoints")
    endpoints = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    names = [e.get("name") for e in endpoints]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            problems.append(f"endpoints.{index}.name: {name!r} is taken by another endpoint")
    default = raw.get("default_endpoint")
    if isinstance(default, str) and names and default not in names:
        problems.append(f"default_endpoint: {default!r} is not among the endpoints")
    if raw.get("replay") is None:
        problems += [
            f'endpoints.{i}.base_url: "replay" needs the section `replay`'
            for i, e in enumerate(endpoints)
            if e.get("base_url") == REPLAY
        ]
    problems += judging_problems(raw.get("judging"), names)
    others = raw.get("other_policies")
    chosen = [("policy", raw.get("policy", {}))]
    chosen += [(f"other_policies.{i}", choice) for i, choice in enumerate(others if isinstance(others, list) else [])]
    taken = {_ALIAS}
    for path, choice in chosen:
        if isinstance(choice, dict) and isinstance(choice.get("params", {}), dict):
            name = str(choice.get("name", PolicyChoice().name))
            if name in taken:
                problems.append(f"{path}.name: {name!r} is taken; a policy can be configured once")
            taken.add(name)
            try:
                registry.create(name, choice.get("params", {}))
            except PolicyError as error:
                problems += [f"{path}: {line}" for line in error.message.splitlines()]
    problems += [
        f"endpoints.{i}.name: {name!r} is what clients call a policy, or the alias"
        for i, name in enumerate(names)
        if name in taken
    ]
    return problems
