# Two commands for a fresh machine with Python 3.11+ and make: `make run` and `make test`.
# Everything else here is what they are made of; CI and pre-commit call these targets and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CONFIG ?=
ARGS   ?=
JOBS   ?= auto   # processes that share the tests, by file; 0: this one runs them all

# PyPI's torch for Linux carries CUDA (gigabytes); the CPU build comes from where pip is configured to look,
# else from PyTorch's own index, else (macOS, where the plain build is CPU already) from PyPI.
TORCH     := torch==2.13.0
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

export PYTHONSAFEPATH = 1
export TOKENIZERS_PARALLELISM ?= false
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: screenshots dashboard-bench chaos ope forecast online help install run test lint types check imports format migrate e2e bench request-path real demo-traffic evaluate judges conformal ablation onboarding starter-prior coldstart preference-conditioned clean ledger-plans lifecycle

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make the virtual environment and install everything, pinned

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (first time: about 2.5 GB and a few minutes)"
	@$(BIN)/python -c 'import torch' 2>/dev/null \
	  || $(BIN)/pip install -q --disable-pip-version-check '$(TORCH)+cpu' 2>/dev/null \
	  || $(BIN)/pip install -q --disable-pip-version-check --index-url $(TORCH_CPU) '$(TORCH)+cpu' 2>/dev/null \
	  || $(BIN)/pip install -q --disable-pip-version-check '$(TORCH)'
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(VENV)/.installed ## Start the gateway and its dashboard: gateway.yaml if there is one, else the demo (CONFIG=file to choose)
	@exec $(BIN)/router-gateway serve --dashboard $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

# At the lowest priority: the dashboard and what it has computed give way to a gateway that serves, and between
# processes of many tests they would hardly come at all; so that here nobody goes first.
test: $(VENV)/.installed ## Run all tests (PostgreSQL tests skip, and say so, where there is no server)
	@nice -n 19 $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed ## ruff and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(VENV)/.installed ## Rewrite the code as ruff wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(VENV)/.installed ## mypy --strict
	@$(BIN)/mypy

check: lint types test ## Everything that must be green before a commit

migrate: $(VENV)/.installed ## Bring the ledger's database to the newest schema
	@$(BIN)/router-gateway migrate $(if $(CONFIG),--config $(CONFIG))

e2e: $(VENV)/.installed ## Drive a real gateway process with the real encoder through the real SDKs
	@$(BIN)/pytest tests/e2e $(ARGS)

demo-traffic: $(VENV)/.installed ## Send held-out prompts through the running demo and compare with the baselines
	@$(BIN)/python -P benchmarks/demo_traffic.py $(ARGS)

real: $(VENV)/.installed ## The same on recorded answers of nine real models (needs the shared outcome tables)
	@$(BIN)/python -P benchmarks/real.py $(ARGS)

# Real outcomes: the shared tables where they are, else those that come with the package paretobandit.
OUTCOMES := $(wildcard ../shared/data/cascades.parquet ../shared/data/fourtier.parquet \
  ../shared/data/mmlu_pro.parquet ../shared/data/seven_by_7b.parquet)

# Every policy that learns, with its defaults; and those of the field that are one of them in another setting:
# CARROT (costs predicted for each query), UniRoute's learned map, CSCR.
comma := ,
space := $(subst ,, )
POLICIES := best_on_average knn knn@learned linear lexical clusters clusters:learned=true factors contrastive \
  contrastive:loss=cost_bands profile lookahead preference composed bandit routes forest stack

# The documentation holds the figures of a whole run only: all four tables, everything else as it is by default.
WHOLE := $(if $(SOURCES)$(ARGS),,$(filter 4,$(words $(OUTCOMES))))

ONLINE_PEERS := paretobandit==0.1.1 mabwiser==2.7.4

evaluate: $(VENV)/.installed ## Judge the policies on recorded outcomes (SOURCES='FILE ...' to choose)
	@$(BIN)/router-gateway evaluate $(or $(SOURCES),$(OUTCOMES),paretobandit) --out .router-gateway/evaluation \
	  $(if $(WHOLE),--policies $(subst $(space),$(comma),$(strip $(POLICIES))) --pictures docs/images --tables docs/benchmarks.md) $(ARGS)
	$(if $(WHOLE),@cp .router-gateway/evaluation/evaluation.json docs/results/evaluation.json && $(BIN)/python -P benchmarks/seed_systems.py)

judges: $(VENV)/.installed ## Count how often estimates from labels and judges hold the truth, with judges of known faults
	@$(BIN)/python -P benchmarks/judges.py $(ARGS)

conformal: $(VENV)/.installed ## Count how often a tuned dial keeps its quality floor, over 200 random splits
	@$(BIN)/python -P benchmarks/conformal.py $(ARGS)

ablation: $(VENV)/.installed ## Leave out or exchange one part of routing at a time (needs the shared outcome tables)
	@$(BIN)/python -P benchmarks/ablation.py $(if $(ARGS),,--page docs/ablation.md) $(ARGS)

onboarding: $(VENV)/.installed ## Count the labelled prompts that a new endpoint needs (needs the shared outcome tables)
	@$(BIN)/python -P benchmarks/onboarding.py $(ARGS)

starter-prior: $(VENV)/.installed ## Make the prior of a new installation anew (needs the shared outcome tables)
	@$(BIN)/python -P benchmarks/starter_prior.py $(ARGS)

coldstart: $(VENV)/.installed ## Judge a new installation that knows its endpoints' abilities only (needs the shared outcome tables)
	@OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/coldstart.py $(ARGS)

preference-conditioned: $(VENV)/.installed ## Compare a router trained for all prices with quality minus price
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/preference_conditioned.py $(ARGS)

request-path: $(VENV)/.installed ## Where a request's processor time goes, stage by stage
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/request_path.py $(ARGS)

bench: $(VENV)/.installed ## Measure speed beside other proxies, about eight minutes (installs them, pinned, into the cache)
	@PYTHONPATH=benchmarks $(BIN)/python -P -m performance \
	  $(if $(ARGS),,--to docs/results/performance.json --page docs/performance.md) $(ARGS)

online: $(VENV)/.installed ## Learn under a budget on one stream with the field's bandits (installs them beside the product)
	@$(BIN)/python -c 'import mabwiser, pareto_bandit' 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt $(ONLINE_PEERS)
	@OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/online.py $(ARGS)

ope: $(VENV)/.installed ## Check that off-policy estimates tell the truth, on logs drawn from recorded outcomes
	@OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/ope.py $(ARGS)

forecast: $(VENV)/.installed ## Count how often the band of a forecast holds what came, on simulated traffic
	@OMP_NUM_THREADS=1 $(BIN)/python -P benchmarks/forecast.py $(ARGS)

ledger-plans: $(VENV)/.installed ## Plans and times of the ledger's questions (ARGS='--requests 10000000 --vector-bytes 64 --postgres URL')
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/ledger_plans.py --out docs/results/ledger_plans.json $(ARGS)

lifecycle: $(VENV)/.installed ## Plant good, bad and equal candidates and see what becomes of them (up to four minutes of one core)
	@OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/lifecycle.py $(ARGS)

chaos: $(VENV)/.installed ## Stop the database, kill the gateway, fill its disk, under load; then count (needs PostgreSQL's initdb)
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/chaos.py $(if $(ARGS),,--out docs/results/chaos.json) $(ARGS)

screenshots: $(VENV)/.installed ## Take pictures of every page of the dashboard for docs/ (needs Chromium)
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/dashboard_screenshots.py $(ARGS)

dashboard-bench: $(VENV)/.installed ## Measure what an open dashboard costs the gateway, and its first paint (needs Chromium)
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/dashboard.py $(ARGS)

clean: ## Remove the virtual environment and the demo's state
	@rm -rf $(VENV) .router-gateway
