# Everything runs in .venv at the root and is set up from nothing when it is needed.
#
#   make demo     the main job on the bundled model: scorecard, HTML report
#   make test     format, lint, types, tests
#
# Another interpreter: make PYTHON=/path/to/python3.12 test

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/demo
ARTIFACTS := src/safesight/fitting/artifacts
BUNDLED := probe sasa rai tool_vector shiftdc hidden_detect refusal_direction sft npo rmu vsfa
MIRAGE := --data mirage --data-option harm=both --data-option rho=0.95 --data-option general=1000 --share 0.1667 \
	--set learning_rate=1e-3 --set batch_size=16
FIT_rai := --set layer=auto --set ratio=auto --set gamma=auto
FIT_vsfa := --share 0.0917
FIT_sft := $(MIRAGE) --set mixture=mixed --set epochs=3
LATE := --set 'modules=["mlp.gate_proj","mlp.up_proj","mlp.down_proj"]' --set rank=64 \
	--set lora_alpha=128 --set epochs=3 --set retain_weight=3
FIT_npo := $(MIRAGE) $(LATE) --set layers=[5,6,7] --set reduction=sum
FIT_rmu := $(MIRAGE) $(LATE) --set layers=[4,5,6] --set layer=6 --set tokens=answer --set retain_alpha=4
CODE := src tests scripts examples benchmarks
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
PYTEST_ARGS ?=

# Two threads a process unless the caller says otherwise: the sizes here are small.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help install check test test-slow demo results docs testbed artifacts clean

help:  ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Set up .venv; instant when nothing changed.

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

check: $(STAMP)  ## Format, lint and types.
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

test: check  ## Everything that must pass before a change lands.
	$(BIN)/pytest $(PYTEST_ARGS)

test-slow: check  ## The same, with the slow tests.
	$(BIN)/pytest --runslow $(PYTEST_ARGS)

demo: $(STAMP)  ## Undefended against seventeen defenses on the bundled model.
	$(BIN)/safesight demo --output $(DEMO)

results: $(STAMP)  ## Measure anew what the documentation shows: the demo, then the tests.
	@mkdir -p docs/results
	rm -rf $(DEMO)
	COLUMNS=100 NO_COLOR=1 $(MAKE) -s demo > docs/results/demo.txt
	cp $(DEMO)/scorecard.json docs/results/demo.json
	cp $(DEMO)/one_word.json docs/results/one_word.json
	$(BIN)/python -m scripts.docs
	COLUMNS=100 $(BIN)/pytest -q --color=no $(PYTEST_ARGS) | tail -n 1 > docs/results/test.txt
	$(BIN)/python -m scripts.docs

docs: $(STAMP)  ## Regenerate what is generated: help pages, numbers, the figure.
	$(BIN)/python -m scripts.docs

testbed: $(STAMP)  ## Retrain the bundled model by its committed recipe (about an hour).
	$(BIN)/python -m safesight.testbed.train

artifacts: $(STAMP)  ## Fit anew what travels with the package, on the bundled model.
	$(foreach defense,$(BUNDLED),rm -rf $(ARTIFACTS)/$(defense) && \
		$(BIN)/safesight fit $(defense) $(FIT_$(defense)) -o $(ARTIFACTS)/$(defense) &&) \
		rm -rf $(ARTIFACTS)/*.run

clean:  ## Remove the environment and what runs left behind.
	rm -rf $(VENV) runs logs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
