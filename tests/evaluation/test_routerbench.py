"""Frames of RouterBench's layout, written here as pandas 1 to 3 would write them, and hostile pickles."""

import io
import pickle  # noqa: TID251 -- the files under test are pickles
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_gateway.core.errors import DataError
from router_gateway.evaluation.routerbench import read_routerbench

FRAME = {
    "sample_id": ["mmlu.1", "mmlu.2", "mbpp.3"],
    "prompt": ["what is 2 + 2?", "name a prime", ["first turn", "second turn"]],
    "eval_name": ["mmlu", "mmlu", "mbpp"],
    "vendor/small": [1.0, 0.0, 0.5],
    "vendor/small|model_response": ["4", "4", "pass"],
    "vendor/small|total_cost": [0.001, 0.002, 0.003],
    "large": [1.0, 1.0, np.nan],
    "large|model_response": ["four", "seven", ""],
    "large|total_cost": [0.01, 0.02, np.nan],
    "oracle_model_to_route_to": ["vendor/small", "large", "vendor/small"],
}


def frame(**changes: list) -> pd.DataFrame:
    """Texts as objects, as before pandas 3."""
    columns = {
        name: pd.Series(values, dtype=object if isinstance(values[0], (str, list)) else None)
        for name, values in (FRAME | changes).items()
    }
    return pd.DataFrame(columns).set_axis(pd.Index(list(columns), dtype=object), axis=1)


def pickled(table: pd.DataFrame, protocol: int) -> bytes:
    file = io.BytesIO()
    pickle.dump(table, file, protocol=protocol)
    return file.getvalue()


def as_older_pandas(raw: bytes) -> bytes:
    """The same stream with the module names that pandas 1 and 2 and numpy 1 wrote (protocol 2 spells them out)."""
    for new, old in (
        (b"cpandas\nDataFrame\n", b"cpandas.core.frame\nDataFrame\n"),
        (b"cpandas\nIndex\n", b"cpandas.core.indexes.base\nIndex\n"),
        (b"cpandas\nRangeIndex\n", b"cpandas.core.indexes.range\nRangeIndex\n"),
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
    ):
        assert new in raw
        raw = raw.replace(new, old)
    return raw


def check(path: Path) -> None:
    benchmark = read_routerbench(path)
    assert benchmark.endpoints == ("vendor/small", "large")
    assert benchmark.sample_ids == ("mmlu.1", "mmlu.2", "mbpp.3")
    assert benchmark.prompts == ("what is 2 + 2?", "name a prime", "first turn\nsecond turn")
    assert benchmark.tasks == ("mmlu", "mmlu", "mbpp")
    np.testing.assert_array_equal(benchmark.quality, np.array([[1, 1], [0, 1], [0.5, np.nan]], dtype=np.float32))
    np.testing.assert_array_equal(benchmark.cost_usd, [[0.001, 0.01], [0.002, 0.02], [0.003, np.nan]])
    assert benchmark.responses is None
    assert benchmark.notes == ()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_a_frame_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "rb.pkl"
    path.write_bytes(pickled(frame(), protocol))
    check(path)


def test_reads_a_frame_with_the_names_of_older_pandas(tmp_path):
    path = tmp_path / "rb.pkl"
    path.write_bytes(as_older_pandas(pickled(frame(), 2)))
    check(path)


def test_reads_blocks_of_several_kinds(tmp_path):
    """Scores as integers, numpy scalars among objects, an index that is no range, float32 costs."""
    table = frame(**{"vendor/small": [1, 0, 1], "large": [np.float64(0.25), 1, 0.5]})
    table["large"] = table["large"].astype(object)
    table["large|total_cost"] = np.array([0.5, 0.25, 0.125], dtype=">f4")
    path = tmp_path / "rb.pkl"
    for protocol in (2, 5):
        path.write_bytes(pickled(table.set_axis([7, 2, 9]), protocol))
        benchmark = read_routerbench(path)
        assert benchmark.quality.tolist() == [[1, 0.25], [0, 1], [1, 0.5]]
        assert benchmark.cost_usd[:, 1].tolist() == [0.5, 0.25, 0.125]


def test_conversations_of_equal_length_stay_conversations(tmp_path):
    path = tmp_path / "rb.pkl"
    path.write_bytes(pickled(frame(prompt=[["a", "b"], ["c", "d"], ["e", "f"]]), 4))
    assert read_routerbench(path).prompts == ("a\nb", "c\nd", "e\nf")


def test_answers_are_kept_when_asked_for(tmp_path):
    path = tmp_path / "rb.pkl"
    path.write_bytes(pickled(frame(), 4))
    responses = read_routerbench(path, responses=True).responses
    assert responses is not None
    assert responses.tolist() == [["4", "four"], ["4", "seven"], ["pass", None]]


def problems_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_routerbench(path)
    return str(caught.value).replace(str(path), "F")


def test_bad_rows_are_reported_together(tmp_path):
    path = tmp_path / "rb.pkl"
    wrong = {"vendor/small": [1.5, 0.0, 1.0], "large|total_cost": [-1.0, 0.0, 0.0], "eval_name": ["a", "b", ""]}
    path.write_bytes(pickled(frame(**wrong), 5))
    assert problems_of(path).splitlines() == [
        "F:row 1: score: 1.5 is above 1",
        "F:row 1: cost_usd: -1.0 is below 0",
        "F:row 3: task: empty",
    ]


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "rb.pkl"
    path.write_bytes(pickled(frame().drop(columns=["eval_name", "large"]), 5))
    assert problems_of(path).splitlines() == ["F: eval_name: the column is missing", "F: large: the column is missing"]
    path.write_bytes(pickled(frame()[["sample_id", "prompt", "eval_name"]], 5))
    assert "no model has outcomes" in problems_of(path)


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args, state)

    def __reduce__(self):
        return self.reduced


def _touch(path: str) -> None:
    Path(path).touch()


def hostile(mark: str) -> dict[str, tuple[bytes, str]]:
    """Name → (stream, the name that must be refused); each would leave `mark` behind if it ran."""
    import copyreg
    import os

    def stream(thing, protocol=4):
        return pickle.dumps(thing, protocol=protocol)

    objects = np.empty(1, dtype=object)
    objects[0] = Calls(os.system, f"touch {mark}")
    hidden = frame()
    hidden.at[0, "prompt"] = Calls(eval, f"open({mark!r}, 'w')")
    return {
        "os.system": (stream(Calls(os.system, f"touch {mark}")), f"{os.system.__module__}.system"),
        "eval": (stream(Calls(eval, f"open({mark!r}, 'w')")), "builtins.eval"),
        "eval, protocol 0": (stream(Calls(eval, f"open({mark!r}, 'w')"), 0), "builtins.eval"),
        "getattr": (stream(Calls(getattr, "text", "format_map")), "builtins.getattr"),
        "copyreg": (stream(Calls(copyreg._reconstructor, Path, object, None)), "copyreg._reconstructor"),
        "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "numpy.ndarray.dump"),
        "dotted module": (b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93.", "numpy.os.system"),
        "in an object array": (stream(objects), f"{os.system.__module__}.system"),
        "in a cell of a good frame": (stream(hidden), "builtins.eval"),
        "extension registry": (b"\x80\x02\x82\x01.", ""),
        "a function of ours": (stream(Calls(_touch, mark)), "_touch"),
    }


def test_hostile_pickles_are_refused_by_name_and_nothing_runs(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "rb.pkl"
    for kind, (raw, refused) in hostile(str(mark)).items():
        path.write_bytes(raw)
        message = problems_of(path)
        assert refused in message, kind
        assert ("refused" in message) == bool(refused), kind
        assert not mark.exists(), kind
    pickle.loads(hostile(str(mark))["os.system"][0])
    assert mark.exists(), "the attack would have worked"


def test_a_stream_cannot_set_attributes_on_our_stand_ins(tmp_path):
    """BUILD on a class, with a slot state: on a plain class it would replace a method for everyone."""
    path = tmp_path / "rb.pkl"
    for module, name in ((b"pandas", b"DataFrame"), (b"numpy", b"dtype"), (b"builtins", b"slice")):
        attack = b"\x80\x02c" + module + b"\n" + name + b"\nN}X\x05\x00\x00\x00valueK\x01s\x86b."
        path.write_bytes(attack)
        assert "not a pickled frame" in problems_of(path)
    path.write_bytes(pickled(frame(), 4))
    check(path)


@pytest.mark.parametrize("raw", [b"", b"not a pickle", b"\x80\x04K\x01.", b"\x80\x04}.", pickle.dumps([1, 2])])
def test_files_that_are_no_frame_are_refused(tmp_path, raw):
    path = tmp_path / "rb.pkl"
    path.write_bytes(raw)
    assert "not a pickled frame" in problems_of(path)


def test_an_array_that_lies_about_its_length_is_refused(tmp_path):
    raw = pickled(pd.DataFrame({"a": np.arange(3.0)}).set_axis(pd.Index(["a"], dtype=object), axis=1), 2)
    path = tmp_path / "rb.pkl"
    honest = b"K\x01K\x03\x86"  # the shape (1, 3)
    assert raw.count(honest) == 1
    path.write_bytes(raw.replace(honest, b"K\x01K\x7f\x86"))
    assert "not a pickled frame" in problems_of(path)


def test_a_stream_that_claims_to_be_huge_is_refused_at_once(tmp_path):
    """A row index of 2⁴⁰, a byte string of 2⁶⁰ and a memo slot of 2³¹, each in a few bytes."""
    path = tmp_path / "rb.pkl"
    rows = pickled(pd.DataFrame(index=pd.RangeIndex(1 << 40)).set_axis(pd.Index([], dtype=object), axis=1), 2)
    assert len(rows) < 2000
    path.write_bytes(rows)
    with pytest.raises(DataError):
        read_routerbench(path)
    for raw in (b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little"), b"\x80\x04Nr\xff\xff\xff\x7f."):
        path.write_bytes(raw)
        assert "not a pickled frame" in problems_of(path)


def test_a_frame_of_unsupported_columns_says_so(tmp_path):
    path = tmp_path / "rb.pkl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pd.DataFrame({"when": pd.to_datetime(["2024-01-01"])})
        path.write_bytes(pickled(table.set_axis(pd.Index(["when"], dtype=object), axis=1), 4))
    message = problems_of(path)
    assert "refused: the file asks for pandas" in message
