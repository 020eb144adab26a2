# Everything runs in $(VENV), which is created on first use and reused. The file $(VENV)/.ready-<extra>-<hash> marks
# that the extra is installed for these requirements (a hash of setup.cfg and pyproject.toml). The package is installed
# in editable mode, so code changes do not require a reinstall.

VENV   := .venv
PYTHON ?= python3
HASH   := $(shell $(PYTHON) -c 'import hashlib; print(hashlib.sha256(b"".join(open(f, "rb").read() for f in ("setup.cfg", "pyproject.toml"))).hexdigest()[:16])')
DEMO   := $(VENV)/.ready-demo-$(HASH)
DEV    := $(VENV)/.ready-dev-$(HASH)

# Compile bytecode during installation even if the caller turned it off: otherwise, each run of the command spends
# seconds compiling torch and open_clip.
PIP    := env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet

CLASSIC := --metric "number of words" --metric BLEU-1 --metric BLEU-4 --metric ROUGE-L --metric METEOR --metric CIDEr --baseline CIDEr

.PHONY: demo test lint format docs docs-serve reports peers pictures wheel release-check clean

demo: $(DEMO)  ## score the captions in examples/ with the embedded model
	$(VENV)/bin/python examples/photographs.py
	$(VENV)/bin/i0tscore examples/captions.jsonl examples/images --model lite

test: lint  ## check format, lint, and types; run the tests in parallel with coverage
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --cov

lint: $(DEV)  ## check format, lint, and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(DEV)  ## format the code and apply automatic lint fixes
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(DEV)  ## build the documentation in build/site; a broken link or a missing docstring is an error
	$(VENV)/bin/ruff check --select D1 --ignore D105,D107 i0tscore
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

docs-serve: $(DEV)  ## show the documentation on http://127.0.0.1:8000, and update it on changes
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve

reports: $(DEV)  ## recompute the reports (over an hour); requires the data listed in docs/evidence/rating-sets.md
	$(VENV)/bin/python -m human_judgments.flickr8k_expert --model lite
	$(VENV)/bin/python -m human_judgments.blv_kreiss2022 --model lite
	$(VENV)/bin/python -m human_judgments.pascal50s $(CLASSIC)
	$(VENV)/bin/python -m human_judgments.thumb $(CLASSIC)
	$(VENV)/bin/python -m human_judgments.polaris_val --metric "number of words"
	$(VENV)/bin/python -m studies.standardizers --model lite
	$(VENV)/bin/python -m studies.gap --model lite
	$(VENV)/bin/python -m studies.gap_pairs --set clip-vitb16
	$(VENV)/bin/python -m studies.gap_pairs --set clip-vitb32
	$(VENV)/bin/python -m studies.explanations --model lite
	$(VENV)/bin/python -m studies.concepts --model lite
	$(VENV)/bin/python -m studies.filtering --model lite
	$(VENV)/bin/python -m studies.inversion --model lite --inverted build/inverted

peers: build/peers/.ready build/clipscore  ## compare the speed with torchmetrics and CLIPScore's script
	PYTHONPATH=build/peers $(VENV)/bin/python benchmarks/peers.py --clipscore build/clipscore

pictures: $(DEV)  ## draw docs/pictures (requires Chromium and part of the data of the reports)
	$(VENV)/bin/python -m studies.pictures

wheel: $(DEV)  ## build dist/*.whl
	$(VENV)/bin/python -m build --wheel

release-check:  ## build dist/, and use the wheel with the oldest and the newest Python and dependencies (10 GB on disk)
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip --disable-pip-version-check --quiet install --upgrade uv
	PATH="$(CURDIR)/build/uv/bin:$$PATH" .ci/release-check

clean:  ## remove build outputs and the environment
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage examples/images

# What the peers need in other versions than $(VENV) has: torchmetrics 1.9 requires transformers 4, and CLIP's package
# requires setuptools with pkg_resources.
build/peers/.ready: Makefile $(DEV)
	rm -rf build/peers
	$(PIP) install --no-deps --target build/peers torchmetrics==1.9.0 transformers==4.57.6 huggingface-hub==0.36.2 \
		tokenizers==0.22.2 clip-anytorch==2.6.0 "setuptools<70"
	@touch $@

build/clipscore:
	git clone --quiet https://github.com/jmhessel/clipscore $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO): | $(VENV)/bin/python
	@echo "Installing into $(VENV) (a few minutes and about 6 GB the first time)"
	$(PIP) install --compile -e ".[demo]"
	@touch $@

$(DEV): | $(VENV)/bin/python
	@echo "Installing into $(VENV) (a few minutes and about 6 GB the first time)"
	$(PIP) install --compile -e ".[dev]"
	@touch $(DEMO) $@
