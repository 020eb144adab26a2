# Everything runs in $(VENV). It is made on first use and kept: $(VENV)/.ready-<extra>-<hash> says that the
# extra of exactly these requirements (setup.cfg and pyproject.toml, hashed) is installed, and while that
# file is there nothing is installed again. The package itself is installed editable, so code needs no rerun.

VENV   := .venv
PYTHON ?= python3
HASH   := $(shell $(PYTHON) -c 'import hashlib; print(hashlib.sha256(b"".join(open(f, "rb").read() for f in ("setup.cfg", "pyproject.toml"))).hexdigest()[:16])')
DEMO   := $(VENV)/.ready-demo-$(HASH)
DEV    := $(VENV)/.ready-dev-$(HASH)

# Byte code is compiled while installing, whatever the caller's settings: without it every start of the
# command spends seconds compiling torch and open_clip.
PIP    := env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet

.PHONY: demo test lint format reports wheel clean

demo: $(DEMO)  ## score the captions in examples/ with the embedded model
	$(VENV)/bin/python examples/photographs.py
	$(VENV)/bin/i0tscore examples/captions.jsonl examples/images --model lite

test: lint  ## format, lint, types, tests with coverage, one file of tests after another on each processor
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --cov

lint: $(DEV)  ## format, lint, types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(DEV)  ## put the code in the project's format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

reports: $(DEV)  ## measure agreement with people, the gap and inversion (an hour) anew; needs the data that docs/human-judgments.md names
	$(VENV)/bin/python -m human_judgments.flickr8k_expert --model lite
	$(VENV)/bin/python -m human_judgments.blv_kreiss2022 --model lite
	$(VENV)/bin/python -m studies.standardizers --model lite
	$(VENV)/bin/python -m studies.gap --model lite
	$(VENV)/bin/python -m studies.gap_pairs
	$(VENV)/bin/python -m studies.inversion --model lite --inverted build/inverted

wheel: $(DEV)  ## build dist/*.whl
	$(VENV)/bin/python -m build --wheel

clean:  ## remove what was built, the environment with it
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage examples/images

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO): | $(VENV)/bin/python
	@echo "installing into $(VENV) (a few minutes and about 6 GB the first time)"
	$(PIP) install --compile -e ".[demo]"
	@touch $@

$(DEV): | $(VENV)/bin/python
	@echo "installing into $(VENV) (a few minutes and about 6 GB the first time)"
	$(PIP) install --compile -e ".[dev]"
	@touch $(DEMO) $@
