import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router_gateway.core.errors import DataError
from router_gateway.evaluation.readers import read_outcomes


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_outcomes(path)
    return [problem.replace(str(path), "F") for problem in caught.value.problems]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "t.jsonl.gz"])
def test_every_format_gives_the_same_benchmark(tmp_path, rows, name):
    benchmark = read_outcomes(write(tmp_path / name, rows))
    assert benchmark.endpoints == ("small", "large")
    assert benchmark.sample_ids == ("q1", "q2")
    assert benchmark.prompts == ("one plus one?", 'a "quoted", broken\nline: ü')
    assert benchmark.splits == ("train", None)
    assert benchmark.quality.dtype == np.float32
    assert benchmark.quality.tolist() == [[1, 0.5], [0, 0.25]]
    np.testing.assert_array_equal(benchmark.cost_usd, [[0.001, 0.02], [0.001, np.nan]])
    np.testing.assert_array_equal(benchmark.tokens_input, [[4, 4], [4, np.nan]])
    np.testing.assert_array_equal(benchmark.latency_ms, [[12.5, 12.5], [np.nan, 12.5]])
    assert benchmark.responses is not None
    assert benchmark.responses.tolist() == [["two", "two"], [None, None]]
    assert benchmark.notes == ()


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_optional_columns_may_be_absent_and_unknown_ones_are_named(tmp_path, rows, name):
    required = ("dataset", "task", "sample_id", "prompt", "model", "score")
    bare = [{key: row[key] for key in required} | {"mood": "good"} for row in rows[:3]]
    benchmark = read_outcomes(write(tmp_path / name, bare))
    assert np.isnan(benchmark.cost_usd).all()
    assert benchmark.responses is None
    assert benchmark.splits == (None, None)
    assert np.isnan(benchmark.quality[1, 1])
    assert benchmark.notes == ("ignored columns: mood",)


def test_all_bad_rows_are_reported_together(tmp_path, rows):
    good = rows[0]
    bad = [
        good,
        good | {"model": "m2", "score": 1.5},
        good | {"model": "m3", "cost_usd": -0.1, "latency_ms": "fast"},
        good | {"model": "m4", "score": True, "input_tokens": 10**400},
        good,
        good | {"model": "m5", "prompt": "another text"},
        good | {"model": None, "task": 7, "dataset": ""},
    ]
    path = write(tmp_path / "t.jsonl", bad)
    with path.open("ab") as file:
        file.write(b'{"score": NaN}\n{broken\n[1]\n\n"\xff"\n' + b"[" * 100_000 + b"\n")
    assert problems_of(path) == [
        "F:2: score: 1.5 is above 1",
        "F:3: cost_usd: -0.1 is below 0",
        "F:3: latency_ms: must be a number, not str",
        "F:4: score: must be a number, not bool",
        "F:4: input_tokens: must be finite, not inf",
        "F:5: model: 'small' answered this sample_id already at 1",
        "F:6: prompt: differs from that of the same sample_id at 1",
        "F:7: dataset: empty",
        "F:7: task: must be text, not int",
        "F:7: model: missing",
        "F:8: not valid JSON: NaN is not a JSON value",
        "F:9: not valid JSON: Expecting property name enclosed in double quotes at column 2",
        "F:10: must be a JSON object, not list",
        "F:12: not valid UTF-8 (byte 1 of the line)",
        "F:13: nested too deeply",
    ]


def test_csv_problems_stand_at_the_line_where_their_row_begins(tmp_path, rows):
    path = write(tmp_path / "t.csv", [rows[2], rows[0] | {"score": "nan"}, rows[0] | {"model": "m", "score": "high"}])
    with path.open("ab") as file:
        file.write(b"too,few\r\n")
        file.write(b"made-up,sums,q9,,\xff\xfe,small,1,,,,,\r\n")
    assert problems_of(path) == [
        "F:4: score: must be finite, not nan",
        "F:5: score: must be a number, not str",
        "F:6: has 2 fields, the header 12",
        "F:7: prompt: not valid UTF-8",
    ]


def test_csv_that_breaks_off_inside_a_quote_is_refused(tmp_path, rows):
    path = write(tmp_path / "t.csv", rows[:2])
    with path.open("ab") as file:
        file.write(b'made-up,"sums')
    assert problems_of(path) == ["F:4: not valid CSV: unexpected end of data"]
    assert csv.field_size_limit() == 131072


def test_parquet_problems_name_rows(tmp_path, rows):
    path = write(tmp_path / "t.parquet", [rows[0], rows[0] | {"model": "m2", "score": float("inf")}, rows[0]])
    assert problems_of(path) == [
        "F:row 2: score: must be finite, not inf",
        "F:row 3: model: 'small' answered this sample_id already at row 1",
    ]


def test_parquet_reads_a_missing_number_written_as_nan(tmp_path, rows):
    path = write(tmp_path / "t.parquet", [rows[0] | {"cost_usd": float("nan")}])
    assert np.isnan(read_outcomes(path).cost_usd).all()
    path = write(tmp_path / "u.parquet", [rows[0] | {"score": float("nan")}])
    assert problems_of(path) == ["F:row 1: score: must be finite, not nan"]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_missing_columns_are_all_named(tmp_path, rows, name):
    path = write(tmp_path / name, [{key: row[key] for key in row if key not in ("score", "task")} for row in rows])
    assert problems_of(path) == ["F: task: the column is missing", "F: score: the column is missing"]


def test_the_list_of_problems_is_bounded(tmp_path, rows):
    path = write(tmp_path / "t.jsonl", [rows[0] | {"sample_id": f"q{i}", "score": 2} for i in range(173)])
    listed = problems_of(path)
    assert len(listed) == 51
    assert listed[-1] == "F: and 123 more"


def test_no_prompt_or_answer_reaches_a_message(tmp_path, rows):
    secret = "the launch code is swordfish"
    bad = [rows[0] | {"prompt": secret, "response": 7}, rows[0], rows[0] | {"prompt": secret, "model": "m"}]
    assert "swordfish" not in " ".join(problems_of(write(tmp_path / "t.jsonl", bad)))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.jsonl", b"", "F: no rows"),
        ("t.jsonl.gz", gzip.compress(b"\n" * 99_999, mtime=0)[:-9], "the gzip stream is damaged"),
        ("t.jsonl.gz", gzip.compress(b"\n", mtime=0)[:10] + b"\xff" * 20, "the gzip stream is damaged"),
        ("t.jsonl.gz", b"plain text", "the gzip stream is damaged"),
        ("t.parquet", b"no parquet at all", "F: not a readable Parquet file (ArrowInvalid)"),
        ("t.xlsx", b"", "F: cannot read this kind of file"),
        ("t.csv", b"", "F: dataset: the column is missing"),
        ("t.csv", b"model,model\n", "F:1: a column name appears twice"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    assert any(problem in line for line in problems_of(path))


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    assert problems_of(tmp_path / "absent.csv") == ["F: No such file or directory"]
