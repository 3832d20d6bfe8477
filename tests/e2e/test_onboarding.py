"""A new endpoint through the real processes: asked, graded, placed, and known to the gateway that serves meanwhile."""

import re
import subprocess

from router_gateway.ledger.engine import open_engine
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.tables import attempts, decisions, feedback
from tests.e2e import process, quiz, world
from tests.e2e.test_learning import policy_of, say
from tests.e2e.test_lifecycle import HASHING, ask, eventually
from tests.loopback import http

LEARNING = {"interval_s": 0.1, "rows_min": 3, "settle_s": 0, "held_out_share": 0}
COST_NUSD = quiz.TOKENS_INPUT * 2_000 + quiz.TOKENS_OUTPUT * 8_000  # at the prices of world.endpoint


def onboard(directory, config, *options):
    command = [process.PROGRAM, "onboard", "newcomer", "--config", config, "--half-width", "0.2", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_newcomer_is_placed_while_the_gateway_serves(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    with quiz.taking(0.7) as pupil:
        pool = [world.endpoint(name, "replay") for name in world.PRICES]
        pool.append(world.endpoint("newcomer", pupil.base_url))
        config = world.write_config(tmp_path, pool, learning=LEARNING, **HASHING)
        gateway = process.start(tmp_path, "--config", str(config))
        ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")

        # The money lasts for some of them only: it is never exceeded, and nothing is asked twice.
        code, _, errors = onboard(tmp_path, config, "--probes", "60", "--max-usd", "0.008", "--max-tokens", "100")
        assert code == 3, errors
        assert "might exceed --max-usd" in errors
        some = len(pupil.asked)
        assert 0 < some < 60
        assert sum(row["cost_nusd"] for row in ledger.all(attempts)) == some * COST_NUSD <= 8_000_000
        code, said, errors = onboard(tmp_path, config, "--probes", "60", "--max-tokens", "100")
        assert code == 0, errors
        assert f"{60 - some} without an answer yet" in said
        assert len(pupil.asked) == len(set(pupil.asked)) == 60

        # The ledger agrees with the endpoint, and says what these calls were.
        assert sum(row["cost_nusd"] for row in ledger.all(attempts)) == 60 * COST_NUSD
        assert {(row["requested_model"], row["reason"], row["propensity"]) for row in ledger.all(decisions)} == {
            ("onboard", "pinned", 0.0)
        }
        graded = ledger.all(feedback)
        assert {row["source"] for row in graded} == {"verifier"}
        assert sum(row["quality"] for row in graded) == sum(prompt in pupil.right for prompt in pupil.asked)

        # It stands where it truly is, and the gateway that served all the while knows it now.
        [line] = [line for line in said.splitlines() if "newcomer" in line]
        mean, low, high = map(float, re.search(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", line).groups())
        assert low <= pupil.accuracy <= high
        assert low <= mean <= high
        assert eventually(lambda: policy_of(ask(gateway, "What is 6 times 7?"))[1] > 1, within_s=30)
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.errors()
        shown = subprocess.run(
            [process.PROGRAM, "explain", "What is 47 + 86?", "--config", config],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        [newcomer] = [line for line in shown.splitlines() if "newcomer" in line]
        assert "0.500" not in newcomer.split("│")[2]  # no longer what nobody knows anything of


def test_a_newcomer_gets_its_share_until_it_is_known(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    with quiz.taking(0.7) as pupil:
        pool = [world.endpoint(name, "replay") for name in world.PRICES]
        pool.append(world.endpoint("newcomer", pupil.base_url))
        newcomers = {"share": 0.5, "outcomes_min": 5, "refresh_s": 0.05}
        quiet = {"enabled": False}  # the policy learns nothing here: what changes is the exploring alone
        config = world.write_config(tmp_path, pool, newcomers=newcomers, learning=quiet, **HASHING)
        gateway = process.start(tmp_path, "--config", str(config))
        ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
        prompts = iter([each.prompt for each in world.recorded()])
        explored, asked = [], 0
        while len(explored) < 5 or len(explored) == asked:  # somebody else is to serve, too
            answer, asked = ask(gateway, next(prompts)), asked + 1
            if answer.headers["x-router-model"] == "newcomer":
                explored.append(answer.headers["x-router-decision-id"])
        ledger.decision(answer.headers["x-router-decision-id"])  # once it is there, so are those before
        rows = {str(row["query_id"]): row for row in ledger.all(decisions)}
        assert len(rows) == asked
        assert {rows[id_]["propensity"] for id_ in explored} == {0.5}
        assert {row["probability"][3] for row in rows.values()} == {0.5}
        for id_ in explored:
            say(gateway, "POST", "", decision_id=id_, verdict="good")
        known = next(prompts)
        assert eventually(lambda: _odds(gateway, ledger, known)[3] != 0.5, within_s=30)
        assert sorted(_odds(gateway, ledger, known)) == [0.0, 0.0, 0.0, 1.0]  # the rule alone, which is greedy
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.errors()


def _odds(gateway, ledger, prompt):
    """Each endpoint's probability in the decision behind an answer to `prompt`."""
    decided, _ = ledger.decision(ask(gateway, prompt).headers["x-router-decision-id"])
    return decided["probability"]


def test_an_onboarding_over_the_api_is_gone_on_with_after_a_kill(tmp_path):
    with quiz.taking(0.7) as pupil:
        pool = [world.endpoint("newcomer", pupil.base_url)]
        plain = {"default_endpoint": "newcomer", "training": {"outcomes": None}, **HASHING}
        config = world.write_config(tmp_path, pool, **plain)
        gateway = process.start(tmp_path, "--config", str(config))
        url = f"sqlite:///{tmp_path}/state/ledger.db"
        engine = open_engine(url)
        key = Keys(engine).create("operator", admin=True)
        engine.dispose()

        def admin(method, path, body=None):
            base = gateway.base_url.removesuffix("/v1") + "/admin/api"
            headers = {"authorization": f"Bearer {key}"}
            return http.request(method, base + path, json=body, headers=headers, timeout=60).json()

        wish = {"endpoint": "newcomer", "probes": 24, "max_tokens": 100}
        pupil.pause_s = 0.2
        first = admin("POST", "/onboardings", wish)["id"]
        assert eventually(lambda: admin("GET", f"/onboardings/{first}")["answered"] >= 8, within_s=60)
        gateway.kill()
        pupil.pause_s = 0.0
        gateway = process.start(tmp_path, "--config", str(config))
        told = admin("GET", f"/onboardings/{first}")
        assert (told["state"], told["answered"] >= 8, told["ended_at"]) == ("interrupted", True, None)
        second = admin("POST", "/onboardings", wish)["id"]
        assert eventually(lambda: admin("GET", f"/onboardings/{second}")["state"] == "done", within_s=60)
        assert admin("GET", f"/onboardings/{second}")["answered"] == 24
        assert gateway.stop() == 0
        assert len(set(pupil.asked)) == 24
        assert len(pupil.asked) <= 24 + 4, "only what was under way at the kill is asked again"
        graded = world.LedgerRows(url).all(feedback)
        assert len(graded) == 24
        assert sum(row["quality"] for row in graded) == sum(prompt in pupil.right for prompt in set(pupil.asked))
