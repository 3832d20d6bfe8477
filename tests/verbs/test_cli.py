"""The command line, verb by verb, on a small installation of its own."""

import json
import re
import sqlite3
import subprocess
import sysconfig
from pathlib import Path

import pytest

CONFIG = """
state_dir: {state}
embedder: {{kind: hashing}}
policy: {{name: knn, params: {{k: 3}}}}
other_policies: [{{name: best_on_average}}]
default_endpoint: small
endpoints:
  - {{name: small, model: m-small, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
  - {{name: large, model: m-large, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 2.5, price_output_usd_per_mtok: 10}}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(state=tmp_path / "state"))
    return path


@pytest.fixture
def run(console):
    """`run(*arguments)`: (exit code, stdout, stderr) of the console script."""
    return console


@pytest.fixture
def outcomes(tmp_path):
    """Recorded outcomes: `large` answers everything, `small` only sums."""
    path = tmp_path / "outcomes.jsonl"
    rows = []
    for number in range(12):
        for model in ("small", "large"):
            sums = number % 2 == 0
            prompt = f"What is the sum of {number} and two?" if sums else f"Summarise clause {number} of this contract."
            score = 1.0 if sums or model == "large" else 0.0
            rows.append(
                {
                    "dataset": "made",
                    "task": "sums" if sums else "law",
                    "sample_id": str(number),
                    "split": "train" if number < 8 else "test",
                    "prompt": prompt,
                    "model": model,
                    "score": score,
                    "cost_usd": 0.001,
                    "input_tokens": 10,
                    "output_tokens": 100,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def failed(result, *told):
    """The verb failed with a message: exit code 1, no traceback, nothing on stdout."""
    code, out, err = result
    assert code == 1
    assert "Traceback" not in out + err
    assert err.startswith("error: ")
    for text in told:
        assert text in err


def test_the_console_script_is_installed_and_light():
    script = Path(sysconfig.get_path("scripts")) / "router-gateway"
    done = subprocess.run([script, "version"], capture_output=True, text=True, timeout=120, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_policies_lists_the_installed_ones(run):
    code, out, _ = run("policies")
    assert code == 0
    for name in ("knn", "random", "cheapest", "best_on_average"):
        assert name in out


def test_policies_shows_the_parameters_of_one(run):
    code, out, _ = run("policies", "knn")
    assert code == 0
    assert "how many past queries vote" in out
    for name in ("k", "prior_weight", "sharpness", "rows_max"):
        assert name in out


def test_an_unknown_policy_is_a_message(run):
    failed(run("policies", "knm"), "'knm'", "did you mean 'knn'?")


def test_check_of_the_demo_passes_and_changes_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ROUTER_GATEWAY__EMBEDDER__KIND", "hashing")
    monkeypatch.setenv("ROUTER_GATEWAY__STATE_DIR", str(tmp_path / "untouched"))
    code, out, _ = run("check", "--demo")
    assert code == 0, out
    assert [line[:4] for line in out.splitlines()] == ["ok  "] * 5
    assert "not there yet" in out
    assert not (tmp_path / "untouched").exists()


def test_check_says_what_fails_and_goes_on(run, config, tmp_path):
    config.write_text(config.read_text().replace("model: m-small,", "model: m-small, api_key_env: NO_SUCH_KEY,"))
    (tmp_path / "state").mkdir()
    sqlite3.connect(tmp_path / "state" / "ledger.db").close()
    code, out, _ = run("check")
    assert code == 1
    assert "FAIL  provider keys: " in out
    assert "NO_SUCH_KEY is not set" in out
    assert "FAIL  ledger: " in out
    assert "router-gateway migrate" in out
    assert "ok    policies: " in out


def test_a_wrong_configuration_is_a_list_of_messages(run, config):
    config.write_text(config.read_text().replace("hashing", "magic").replace("default_endpoint: small", ""))
    result = run("check")
    failed(result, "error: embedder.kind: ", "error: default_endpoint: ", "hint:  in gateway.yaml")


def test_a_missing_file_is_a_message(run, tmp_path):
    failed(run("check", "--config", tmp_path / "nowhere.yaml"), "nowhere.yaml: No such file")


def test_demo_and_config_exclude_each_other(run, config):
    code, _, err = run("check", "--demo", "--config", config)
    assert code == 2
    assert "either --demo or --config" in err


def test_migrate_makes_the_database_and_may_be_repeated(run, config, tmp_path):
    for _ in range(2):
        code, out, _ = run("migrate")
        assert (code, out) == (0, "the ledger's schema is current\n")
    tables = sqlite3.connect(tmp_path / "state" / "ledger.db")
    assert tables.execute("select count(*) from decisions").fetchone() == (0,)
    tables.close()
    code, out, _ = run("check")
    assert code == 0
    assert "reachable, schema current" in out


def test_keys_are_shown_once_listed_and_revoked(run, config, tmp_path):
    code, out, _ = run("keys", "create", "ci", "--tenant", "team", "--allow", "small", "--allow", "m-*")
    key = out.strip()
    assert code == 0
    assert re.fullmatch(r"rg-[\w-]{43}", key)
    code, listed, _ = run("keys", "list")
    assert code == 0
    for shown in ("ci", "team", "small, m-*", key[:11]):
        assert shown in listed
    assert key not in listed
    assert key.encode() not in b"".join(path.read_bytes() for path in (tmp_path / "state").glob("ledger.db*"))
    assert run("keys", "revoke", key[:11] + "…")[:2] == (0, "revoked\n")
    assert key[:11] not in run("keys", "list")[1]
    failed(run("keys", "revoke", key[:11]), "no active API key")


def test_train_explain_and_their_snapshots(run, config, outcomes, tmp_path):
    code, out, _ = run("train", f"{outcomes}:train")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["knn@1", "best_on_average@1"]
    assert (tmp_path / "state" / "snapshots" / "knn" / "000001" / "manifest.json").is_file()
    assert run("train", outcomes)[1].startswith("knn@2 ")

    code, easy, _ = run("explain", "What is the sum of 3 and two?")
    assert code == 0
    assert re.search(r"knn@2 under greedy, worth \$0\.02 → small", easy)
    assert "reason: scored" in easy
    _, hard, _ = run("explain", "Summarise clause 3 of this contract.")
    assert "→ large" in hard
    assert re.search(r"below worth_usd = \$\S+ this would go to small", hard)
    _, cheap, _ = run("explain", "Summarise clause 3 of this contract.", "--worth-usd", "0.0000001")
    assert "→ small" in cheap
    _, other, _ = run("explain", "What is the sum of 3 and two?", "--policy", "best_on_average")
    assert "best_on_average@2" in other


def test_explain_refuses_what_it_cannot_explain(run, config, outcomes):
    failed(run("explain", "hello"), "learned nothing yet", "router-gateway train")
    run("train", outcomes)
    failed(run("explain", "hello", "--policy", "nobody"), "'nobody'", "knn, best_on_average")
    failed(run("explain", "hello", "--worth-usd", "-1"), "worth_usd")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.jsonl", "no such file"),
        ("outcomes.jsonl:val", "no split 'val'"),
        ("paretobandit:train", "val and test_holdout"),
        ("paretobandit:val", "none of which is an endpoint here"),
    ],
)
def test_train_on_the_wrong_thing_is_a_message(run, config, outcomes, source, told):
    failed(run("train", source), told)


def test_train_names_every_bad_row(run, config, outcomes):
    lines = outcomes.read_text().splitlines()
    broken = [json.dumps({**json.loads(line), "score": score}) for line, score in zip(lines, [7, -1], strict=False)]
    outcomes.write_text("\n".join([*broken, "{", *lines[3:]]))
    code, _, err = run("train", outcomes)
    assert code == 1
    assert [line for line in ("1", "2", "3") if f"outcomes.jsonl:{line}:" in err] == ["1", "2", "3"]


def test_report_of_no_ledger_an_old_one_and_an_empty_one(run, config, tmp_path):
    failed(run("report"), "there is no ledger yet")
    assert not (tmp_path / "state").exists()
    (tmp_path / "state").mkdir()
    sqlite3.connect(tmp_path / "state" / "ledger.db").close()
    (tmp_path / "state" / "ledger.db").touch()
    failed(run("report"), "router-gateway migrate")
    run("migrate")
    for by in ("endpoint", "day", "tenant"):
        code, out, _ = run("report", "--by", by)
        assert code == 0
        assert f"Ledger by {by}" in out
    failed(run("report", "--by", "moon"), "endpoint")


def test_the_replay_verb_needs_its_socket(run):
    failed(run("replay", "--demo"), "--fd is missing")


def test_without_arguments_it_shows_its_help(run):
    code, out, err = run()
    assert code == 2
    assert "serve" in out + err
