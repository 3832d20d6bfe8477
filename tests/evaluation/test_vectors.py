import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from router_gateway.core.errors import DataError
from router_gateway.evaluation.vectors import VectorStore, text_key

WIDTH = 8


def store_in(folder: Path, **options) -> VectorStore:
    return VectorStore(folder, "made-up/space", WIDTH, **options)


def some(count: int, *, first: int = 0) -> tuple[list[bytes], np.ndarray]:
    """Keys, and vectors that float16 holds exactly."""
    numbers = np.arange(first, first + count)
    vectors = (numbers[:, None] + np.arange(WIDTH)[None, :] / 8).astype(np.float32)
    return [text_key(f"text {n}") for n in numbers], vectors


def test_what_was_put_in_comes_out(tmp_path):
    keys, vectors = some(5)
    store_in(tmp_path).append(keys, vectors)
    again = store_in(tmp_path)  # another process would open it so
    found = again.find([keys[3], text_key("never seen"), keys[0]])
    assert set(found) == {keys[0], keys[3]}
    np.testing.assert_array_equal(found[keys[3]], vectors[3])
    assert found[keys[0]].dtype == np.float32
    assert len(again) == 5


def test_a_key_is_kept_once_and_as_it_was(tmp_path):
    keys, vectors = some(3)
    store = store_in(tmp_path)
    store.append(keys, vectors)
    store.append([*keys, text_key("new")], np.full((4, WIDTH), 9.0, dtype=np.float32))
    assert len(store) == 4
    np.testing.assert_array_equal(store.find(keys)[keys[1]], vectors[1])


def test_it_is_a_plain_npy_file(tmp_path):
    keys, vectors = some(2)
    store = store_in(tmp_path)
    store.append(keys, vectors)
    table = np.load(store.path, allow_pickle=False)
    assert table.dtype.names == ("key", "vector")
    np.testing.assert_array_equal(table["vector"], vectors)


def test_what_a_killed_writer_left_is_overwritten(tmp_path):
    """The header counts; records behind the last counted one are of a writer that did not live to count them."""
    keys, vectors = some(3)
    store = store_in(tmp_path)
    store.append(keys, vectors)
    with store.path.open("ab") as file:
        file.write(b"\xff" * 41)  # a record and a half
    assert set(store.find(keys)) == set(keys)
    later, more = some(2, first=10)
    store.append(later, more)
    found = store.find([*keys, *later])
    np.testing.assert_array_equal(found[keys[2]], vectors[2])
    np.testing.assert_array_equal(found[later[1]], more[1])


def test_the_bound_drops_the_oldest(tmp_path):
    store = store_in(tmp_path, bytes_max=10 * (16 + 2 * WIDTH))
    for first in range(0, 24, 4):
        store.append(*some(4, first=first))
        assert len(store) <= 10
    newest, vectors = some(4, first=20)
    np.testing.assert_array_equal(store.find(newest)[newest[0]], vectors[0])
    assert not store.find(some(4)[0])
    assert store.path.stat().st_size < 10 * (16 + 2 * WIDTH) + 512


def test_more_than_the_bound_at_once_keeps_the_last(tmp_path):
    store = store_in(tmp_path, bytes_max=4 * (16 + 2 * WIDTH))
    keys, vectors = some(9)
    store.append(keys, vectors)
    assert set(store.find(keys)) == set(keys[-4:])


def test_spaces_do_not_meet(tmp_path):
    keys, vectors = some(1)
    store_in(tmp_path).append(keys, vectors)
    assert VectorStore(tmp_path, "made-up_space", WIDTH).find(keys) == {}


@pytest.mark.parametrize("damage", [b"not a numpy file at all", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_cache_is_refused_by_name(tmp_path, damage):
    store = store_in(tmp_path)
    store.path.write_bytes(damage)
    with pytest.raises(DataError, match="not a readable cache"):
        store.find([text_key("x")])


def test_another_width_is_refused(tmp_path):
    keys, vectors = some(2)
    store_in(tmp_path).append(keys, vectors)
    with pytest.raises(DataError, match="another width"):
        VectorStore(tmp_path, "made-up/space", WIDTH + 1).find(keys)


def test_shapes_must_fit(tmp_path):
    keys, vectors = some(2)
    with pytest.raises(ValueError, match="need vectors"):
        store_in(tmp_path).append(keys, vectors[:, :3])
    with pytest.raises(ValueError, match="room for two"):
        store_in(tmp_path, bytes_max=10)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from router_gateway.evaluation.vectors import VectorStore, text_key

store = VectorStore(Path(sys.argv[1]), "made-up/space", 8)
for start in range(int(sys.argv[2]), int(sys.argv[2]) + 40, 4):
    numbers = np.arange(start, start + 4)
    vectors = (numbers[:, None] + np.arange(8)[None, :] / 8).astype(np.float32)
    store.append([text_key(f"text {n}") for n in numbers], vectors)
"""


def test_two_processes_may_append_at_once(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-P", "-c", WRITER, str(tmp_path), str(first)])
        for first in (0, 20)  # 20 in common
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    keys, vectors = some(60)
    store = store_in(tmp_path)
    found = store.find(keys)
    assert len(store) == 60
    np.testing.assert_array_equal(np.stack([found[key] for key in keys]), vectors)
