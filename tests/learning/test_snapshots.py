import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from policies.baseline import BestOnAverage
from policies.knn import KNN
from router_gateway.core.errors import NotFitted, SnapshotMismatch, UnknownPolicy
from router_gateway.core.types import NamedPolicy
from router_gateway.learning.manifest import Provenance, fingerprint
from router_gateway.learning.snapshots import Snapshots
from router_gateway.testing import specialists

WORLD = specialists(seed=1)
TRAIN = WORLD.experience(60, seed=2)
ASKED, _ = WORLD.queries(10, seed=3)
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROVENANCE = Provenance.of(TRAIN, created=CREATED, extra={"cost": {"tokens": [1.5, None]}})


def knn(version, **params):
    return NamedPolicy(name="knn", version=version, policy=KNN(**params).fit(TRAIN))


def test_what_is_loaded_scores_as_what_was_saved(tmp_path):
    named = knn(3, k=7)
    place = Snapshots(tmp_path).save(named, PROVENANCE)
    assert place == tmp_path / "knn" / "000003"
    loaded, manifest = Snapshots(tmp_path).load("knn")
    assert loaded.label == "knn@3"
    assert loaded.policy == named.policy
    np.testing.assert_array_equal(loaded.policy.score(ASKED).quality, named.policy.score(ASKED).quality)
    np.testing.assert_array_equal(loaded.policy.score(ASKED).stddev, named.policy.score(ASKED).stddev)
    assert manifest.params["k"] == 7
    assert manifest.provenance == PROVENANCE
    assert manifest.provenance.extra == {"cost": {"tokens": [1.5, None]}}


def test_the_newest_version_is_loaded_unless_one_is_named(tmp_path):
    snapshots = Snapshots(tmp_path)
    for version in (2, 10, 9):
        snapshots.save(knn(version, k=version), PROVENANCE)
    assert snapshots.newest("knn") == 10
    assert snapshots.load("knn")[0].policy.k == 10
    assert snapshots.load("knn", 2)[0].policy.k == 2


def test_retention_keeps_the_newest_of_each_name(tmp_path):
    snapshots = Snapshots(tmp_path, keep=2)
    snapshots.save(NamedPolicy(name="best_on_average", version=1, policy=BestOnAverage().fit(TRAIN)), PROVENANCE)
    for version in range(1, 5):
        snapshots.save(knn(version), PROVENANCE)
    assert [(m.name, m.version) for m in snapshots.list()] == [("best_on_average", 1), ("knn", 3), ("knn", 4)]
    assert [m.version for m in snapshots.list("knn")] == [3, 4]
    assert sorted(path.name for path in (tmp_path / "knn").iterdir()) == ["000003", "000004"]


def test_a_version_is_never_overwritten(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.save(knn(1), PROVENANCE)
    with pytest.raises(SnapshotMismatch, match="saved already"):
        snapshots.save(knn(1), PROVENANCE)


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(NotFitted):
        Snapshots(tmp_path).save(NamedPolicy(name="knn", version=1, policy=KNN()), PROVENANCE)
    assert list((tmp_path / "knn").iterdir()) == []


def test_what_a_killed_writer_left_is_ignored_and_cleared(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.save(knn(1), PROVENANCE)
    (tmp_path / "knn" / "000001").rename(tmp_path / "knn" / ".unfinished-000001")
    assert snapshots.newest("knn") is None
    assert snapshots.list() == ()
    snapshots.save(knn(1), PROVENANCE)
    assert [path.name for path in (tmp_path / "knn").iterdir()] == ["000001"]


def test_none_saved_says_what_there_is(tmp_path):
    snapshots = Snapshots(tmp_path)
    with pytest.raises(SnapshotMismatch, match="no snapshot of 'knn'"):
        snapshots.load("knn")
    snapshots.save(knn(4), PROVENANCE)
    with pytest.raises(SnapshotMismatch, match="version 5") as caught:
        snapshots.load("knn", 5)
    assert "4" in caught.value.hint


def flip_a_byte(place):
    path = place / "policy" / "arrays.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lose_a_file(place):
    (place / "policy" / "state.json").unlink()


def add_a_file(place):
    (place / "policy" / "surprise.npz").write_bytes(b"")


def lose_the_manifest(place):
    (place / "manifest.json").unlink()


def cut_the_manifest(place):
    path = place / "manifest.json"
    path.write_text(path.read_text()[:-20])


def empty_the_manifest(place):
    (place / "manifest.json").write_text("[]")


def rewrite_manifest(place, **changes):
    path = place / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def claim_another_format(place):
    rewrite_manifest(place, format_version=99)


def claim_another_name(place):
    rewrite_manifest(place, name="somebody_else")


def add_a_key(place):
    rewrite_manifest(place, surprise=1)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lose_a_file,
        add_a_file,
        lose_the_manifest,
        cut_the_manifest,
        empty_the_manifest,
        claim_another_format,
        claim_another_name,
        add_a_key,
    ],
)
def test_a_damaged_or_foreign_snapshot_is_refused_with_advice(tmp_path, damage):
    snapshots = Snapshots(tmp_path)
    damage(snapshots.save(knn(1), PROVENANCE))
    with pytest.raises(SnapshotMismatch, match="knn@1 cannot be used") as caught:
        snapshots.load("knn")
    assert "remove the folder knn/000001" in caught.value.hint


def test_a_folder_moved_under_another_policy_is_refused(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.save(knn(1), PROVENANCE)
    (tmp_path / "knn").rename(tmp_path / "random")
    with pytest.raises(SnapshotMismatch, match="says knn@1"):
        snapshots.load("random")


def test_a_policy_no_longer_installed_is_named(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.save(NamedPolicy(name="gone", version=1, policy=KNN().fit(TRAIN)), PROVENANCE)
    with pytest.raises(UnknownPolicy, match="'gone'"):
        snapshots.load("gone")


@pytest.mark.parametrize("name", ["", "..", "../escape", "a/b", ".hidden", "a" * 101, "ü"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(SnapshotMismatch, match="cannot name a snapshot"):
        Snapshots(tmp_path).save(NamedPolicy(name=name, version=1, policy=KNN().fit(TRAIN)), PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_follows_the_data():
    assert fingerprint(TRAIN) == fingerprint(WORLD.experience(60, seed=2))
    assert fingerprint(TRAIN) != fingerprint(WORLD.experience(60, seed=4))
    assert fingerprint(TRAIN) != fingerprint(replace(TRAIN, quality=1 - TRAIN.quality))
    assert fingerprint(TRAIN) != fingerprint(replace(TRAIN, queries=replace(TRAIN.queries, space="other")))


def test_extra_that_is_not_json_is_refused_before_anything_is_in_place(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        Snapshots(tmp_path).save(knn(1), replace(PROVENANCE, extra={"cost": float("nan")}))
    assert Snapshots(tmp_path).list() == ()


def test_an_instant_without_timezone_is_refused():
    with pytest.raises(ValueError, match="timezone"):
        Provenance.of(TRAIN, created=datetime(2026, 1, 1))
