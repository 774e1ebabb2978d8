# `make help` lists the targets. PYTHON names another interpreter (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
OURS := -e ./proto -e . -e ./clients/python
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate \
	--no-emit-package trunkline-proto --no-emit-package trunkline-client
SERVICE := --extra tools --extra tracing --group build
REAL ?=
# The image's name and tag.
TAG ?=
# Of what `make test` runs, only these files and folders; nothing = everything. No variable of the environment's is taken.
TESTS =
# protoc finds its plugins on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# With it, every process of the tests would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test mutants bench chaos image chart rollout check check-format dev proto check-proto architecture heavy lock format clean docs
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | \
		while IFS='|' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

demo: .venv/runtime.stamp ## make calls over warm and cold lines; results in output/ (REAL=1: the real API)
	@$(BIN)/trunkline demo $(if $(REAL),--real)

test: .venv/dev.stamp ## run the tests
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal -m "not heavy and not deploy" $(or $(TESTS),--ignore tests/deploy)

# Of the tests that take their time, those that only compute: two at once do not disturb each other.
COMPUTING := tests/e2e/test_leaks.py tests/contract/test_store_claim_model.py tests/unit tests/property tests/bench/test_pool_simulation.py \
	tests/test_architecture.py tests/test_docs_site.py tests/test_docs_words.py

# And those that mostly wait, and hold no delay to a bound of milliseconds: a neighbour of the same kind changes nothing.
WAITING := tests/e2e/test_churn.py tests/e2e/test_transport.py $(wildcard tests/e2e/test_reload_*.py) tests/integration \
	tests/e2e/test_processes.py tests/e2e/test_refusals.py tests/e2e/test_canary.py tests/e2e/test_cli_top.py \
	tests/e2e/test_reservations.py tests/e2e/test_stop_under_opens.py tests/e2e/test_store_topologies.py \
	tests/test_docs_commands.py tests/chaos/test_provider_faults.py

# Each of the others has the machine to itself.
heavy: .venv/dev.stamp ## run the tests that take their time
	@$(BIN)/python -m pytest -q -m heavy --timeout 300 -n 2 --dist worksteal $(COMPUTING)
	@$(BIN)/python -m pytest -q -m heavy --timeout 300 -n 3 --dist worksteal --durations 10 $(WAITING)
	@$(BIN)/python -m pytest -q -m heavy --timeout 300 --durations 25 $(patsubst %,--ignore %,$(COMPUTING) $(WAITING))

mutants: .venv/dev.stamp ## break the core in many ways and show which test notices
	@$(BIN)/python tests/mutants/run.py

chaos: .venv/dev.stamp ## kill, freeze and cut everything under talking callers; output/chaos.json (QUICK=1: a few minutes)
	@GRPC_VERBOSITY=ERROR $(BIN)/python -m tests.chaos $(if $(QUICK),--quick)

bench: .venv/dev.stamp ## simulate the pool in virtual time; table and plots in output/pool
	@$(BIN)/python -m tests.bench.simulate_pool

image: ## build the image with docker, podman or buildah (TAG=… names it)
	@$(PYTHON) deploy/docker/build.py $(TAG)

# Of what is delivered: what needs no process of ours, and what does.
STANDING := tests/deploy/chart tests/deploy/monitoring/test_rules.py tests/deploy/monitoring/test_promtool.py

chart: .venv/deploy.stamp .venv-checkov/stamp ## lint and render the chart; test it, the rules and the dashboard
	@$(BIN)/mypy deploy/grafana deploy/prometheus tests/deploy
	@for script in build rootfs sbom; do $(BIN)/mypy deploy/docker/$$script.py || exit 1; done
	@$(BIN)/python -m pytest -q -m deploy -n 2 --dist worksteal --timeout 300 --durations 10 $(STANDING)

rollout: .venv/deploy.stamp ## run what is delivered: image, pods, a roll-out, alerts on live gateways, spans
	@$(BIN)/python -m pytest -q -m deploy --timeout 600 --durations 15 tests/deploy $(patsubst %,--ignore %,$(STANDING))

check: check-format check-proto architecture ## lint, types, architecture, proto

check-format: .venv/dev.stamp
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy gateway clients/python/trunkline_client tests
	@$(BIN)/mypy clients/python/tests clients/python/examples
	@$(BIN)/shellcheck .ci/run

architecture: .venv/dev.stamp
	@$(BIN)/lint-imports

check-proto: .venv/dev.stamp
	@cd proto && buf lint && buf format --diff --exit-code && buf breaking --against released.binpb
	@$(BIN)/python tests/support/fresh_proto.py

dev: .venv/runtime.stamp ## run a simulator and a gateway on it; Ctrl-C stops both
	@$(BIN)/trunkline dev

proto: .venv/dev.stamp ## generate the Python copy of the contract again
	@cd proto && buf format -w && $(CURDIR)/$(BIN)/python ../tests/support/fresh_proto.py --write

docs: .venv/dev.stamp ## generate the references again and build the documentation; in output/site
	@$(BIN)/python -m tests.support.reference --write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir output/site

format: .venv/dev.stamp ## format the code
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format --quiet

lock: .venv/bootstrap.stamp ## resolve the dependencies again
	@$(COMPILE) pyproject.toml $(SERVICE) --upgrade -o requirements.txt
	@$(COMPILE) pyproject.toml $(SERVICE) --group dev -c requirements.txt -o requirements-dev.txt
	@$(COMPILE) pyproject.toml $(SERVICE) --group dev --group deploy -c requirements-dev.txt -o requirements-deploy.txt
	@$(COMPILE) --group checkov -o requirements-checkov.txt
	@$(COMPILE) pyproject.toml --extra tracing -c requirements.txt -o deploy/docker/requirements.txt
	@$(COMPILE) --group image -c requirements-deploy.txt -o deploy/docker/requirements-build.txt

clean: ## remove what the targets made
	@rm -rf .venv .venv-checkov output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environment. Hashes and editables cannot stand in one call, so ours come last.

.venv/bootstrap.stamp: requirements-bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "python3 cannot make an environment here; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/runtime.stamp: .venv/bootstrap.stamp requirements.txt pyproject.toml proto/pyproject.toml clients/python/pyproject.toml
	@echo "installing into .venv …"
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation $(OURS)
	@touch $@

.venv/dev.stamp: .venv/bootstrap.stamp requirements-dev.txt pyproject.toml proto/pyproject.toml clients/python/pyproject.toml
	@echo "installing into .venv …"
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@$(INSTALL) --no-deps --no-build-isolation $(OURS)
	@touch $@ .venv/runtime.stamp

.venv/deploy.stamp: .venv/dev.stamp requirements-deploy.txt
	@echo "installing into .venv …"
	@$(INSTALL) --require-hashes -r requirements-deploy.txt
	@$(INSTALL) --no-deps --no-build-isolation $(OURS)
	@touch $@

.venv-checkov/stamp: .venv/bootstrap.stamp requirements-checkov.txt
	@echo "installing into .venv-checkov …"
	@$(PYTHON) -m venv .venv-checkov
	@$(BIN)/uv pip install --quiet --python .venv-checkov/bin/python --require-hashes -r requirements-checkov.txt
	@touch $@
