"""Checks of hyperparameters, learned state, copies and saved folders."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from router_gateway.core.errors import NotFitted, SnapshotMismatch
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Queries
from router_gateway.testing._exam import asked, other_train, require, same, train

_Factory = Callable[[], Policy]


def is_a_keyword_only_dataclass(factory: _Factory) -> None:
    policy = factory()
    require(dataclasses.is_dataclass(policy), "decorate the policy with @dataclass(kw_only=True)")
    for field in dataclasses.fields(cast(Any, policy)):
        require(field.kw_only, f"field {field.name!r} is positional: use @dataclass(kw_only=True)")
        require(
            not field.name.endswith("_"),
            f"{field.name!r} is a field but named like learned state: set learned attributes in __post_init__ instead",
        )


def hyperparameters_survive_fit(factory: _Factory) -> None:
    policy = factory()
    before = _hyperparameters(policy)
    policy.fit(train()).partial_fit(train()).score(asked())
    after = _hyperparameters(policy)
    changed = sorted(name for name in before if before[name] != after[name])
    require(
        not changed, f"learning changed the hyperparameters {changed}: keep learned values in attributes ending in _"
    )


def replace_gives_an_unfitted_clone(factory: _Factory) -> None:
    fitted = factory().fit(train())
    clone = cast(Policy, dataclasses.replace(cast(Any, fitted)))
    require(_hyperparameters(clone) == _hyperparameters(fitted), "dataclasses.replace changed a hyperparameter")
    try:
        clone.score(asked())
    except NotFitted:
        return
    raise AssertionError(
        "dataclasses.replace carries learned state over: set it to None in __post_init__, not as a field"
    )


def copy_learns_alone(factory: _Factory) -> None:
    policy = factory().fit(train())
    before = policy.score(asked())
    twin = copy.deepcopy(policy)
    require(same(before, twin.score(asked())), "copy.deepcopy scores differently from the original")
    twin.partial_fit(other_train())
    require(same(before, policy.score(asked())), "teaching a copy.deepcopy changed the original: they share state")


def other_width_is_refused(factory: _Factory) -> None:
    wider = np.zeros((len(asked()), asked().embedding.shape[1] + 1), dtype=np.float32)
    wider[:, 0] = 1.0
    _refused(factory, replace(asked(), embedding=wider), "vectors of another width")


def other_space_is_refused(factory: _Factory) -> None:
    _refused(factory, replace(asked(), space="another space"), "vectors of another embedding space")


def saved_policy_scores_alike(factory: _Factory) -> None:
    policy = factory().fit(train()).partial_fit(other_train())
    with tempfile.TemporaryDirectory() as folder:
        loaded = _reloaded(policy, Path(folder))
        require(type(loaded) is type(policy), f"load returned a {type(loaded).__name__}")
        require(_hyperparameters(loaded) == _hyperparameters(policy), "load lost hyperparameters: save them too")
        require(
            same(policy.score(asked()), loaded.score(asked())), "a loaded policy scores differently: save all state"
        )


def loaded_policy_learns_on(factory: _Factory) -> None:
    policy = factory().fit(train())
    with tempfile.TemporaryDirectory() as folder:
        loaded = _reloaded(policy, Path(folder))
    policy.partial_fit(other_train())
    require(
        same(policy.score(asked()), loaded.partial_fit(other_train()).score(asked())),
        "a loaded policy learns differently: save what partial_fit needs, not only what score needs",
    )


def saves_no_pickle(factory: _Factory) -> None:
    policy = factory().fit(train())
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder))
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        require(files, "save wrote nothing")
        for path in files:
            require(not _runs_code(path), f"{path.name} is a pickle, which runs code on load: write npz and json")


def unfitted_is_not_saved(factory: _Factory) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            factory().save(Path(folder))
        except NotFitted:
            return
    raise AssertionError("save before fit must raise router_gateway.NotFitted")


def score_does_not_grow_the_policy(factory: _Factory) -> None:
    policy = factory().fit(train())
    before = _saved_bytes(policy)
    for start in range(0, len(asked()), 5):
        policy.score(asked().take(slice(start, start + 5)))
    require(_saved_bytes(policy) == before, "scoring changed what is saved: score must leave the policy as it is")


def _hyperparameters(policy: Policy) -> dict[str, Any]:
    fields = dataclasses.fields(cast(Any, policy))
    return {field.name: copy.deepcopy(getattr(policy, field.name)) for field in fields}


def _refused(factory: _Factory, queries: Queries, what: str) -> None:
    experience = replace(
        train().select(train().query < len(queries)), queries=queries, comparisons=np.zeros((0, 3), int)
    )
    calls: tuple[tuple[str, Callable[[Policy], object]], ...] = (
        ("score", lambda policy: policy.score(queries)),
        ("partial_fit", lambda policy: policy.partial_fit(experience)),
    )
    for name, call in calls:
        policy = factory().fit(train())
        try:
            call(policy)
        except SnapshotMismatch:
            continue
        raise AssertionError(
            f"{name} accepts {what}: remember space and width in fit and call queries.expect(space=..., width=...)"
        )


def _reloaded(policy: Policy, folder: Path) -> Policy:
    policy.save(folder)
    return type(policy).load(folder)


def _saved_bytes(policy: Policy) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder))
        root = Path(folder)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _runs_code(path: Path) -> bool:
    """Whether a file is a pickle or a numpy file that contains one."""
    if path.suffix in (".npz", ".npy"):
        try:
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                with loaded:
                    for name in loaded.files:
                        loaded[name]
        except ValueError:
            return True
        return False
    content = path.read_bytes()
    binary_pickle = content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05" and content[-1:] == b"."
    return binary_pickle or path.suffix in (".pkl", ".pickle", ".joblib", ".pt", ".pth")


ALL = [
    is_a_keyword_only_dataclass,
    hyperparameters_survive_fit,
    replace_gives_an_unfitted_clone,
    copy_learns_alone,
    other_width_is_refused,
    other_space_is_refused,
    saved_policy_scores_alike,
    loaded_policy_learns_on,
    saves_no_pickle,
    unfitted_is_not_saved,
    score_does_not_grow_the_policy,
]
