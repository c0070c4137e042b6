# make demo     set up, then turn a small generator towards a character, offline; ends in a report
# make test     set up, then lint, type and run the tests
# make docs     set up, then build the site of the documentation, without network
# make wheel    build wheel and sdist, install the wheel in a fresh environment, and use it there
# make bench    the study behind the README's figure: three seeds, two families, three rewards
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := rlhf_dialog recipes tests benchmarks docs
LAUNCH := $(BIN)/accelerate launch --quiet --config_file accelerate_configs/single_process.yaml

.PHONY: setup demo demo-seq2seq test format lint type bench docs wheel clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25"
	@# torch first and pinned: a plain `torch` may bring several GB of CUDA packages
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt \
		--editable ".[test,chat,docs]"
	touch $(READY)

# Each run in a folder of its own; runs/demo leads to the newest.
demo: CONFIG := demo
demo-seq2seq: CONFIG := demo_seq2seq
demo demo-seq2seq: $(READY)
	run=$@-$$(date +%Y%m%d-%H%M%S); \
	$(LAUNCH) recipes/seqgan_ppo.py --config recipes/configs/$(CONFIG).yaml \
		--output_dir runs/$$run && { test -d runs/$@ -a ! -L runs/$@ || ln -sfn $$run runs/$@; }

test: lint type
	$(BIN)/python -m pytest

format: $(READY)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix --quiet $(SOURCES)

lint: $(READY)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)

type: $(READY)
	$(BIN)/mypy

# About 6 minutes a run on 2 cores, 18 runs; those that are finished are not run again.
bench: $(READY)
	set -e; for config in demo demo_seq2seq; do for seed in 0 1 2; do \
	for reward in logit constant shuffled; do \
		run=runs/effect/$$config-$$reward-$$seed; \
		test -f $$run/report.json || { rm -rf $$run; $(LAUNCH) recipes/seqgan_ppo.py \
			--config recipes/configs/$$config.yaml --seed $$seed --reward $$reward \
			--output_dir $$run; }; \
	done; done; done
	$(BIN)/python benchmarks/effect.py runs/effect/* --figure docs/figures/effect.svg

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(READY)
	rm -rf dist $(VENV)-wheel
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(VENV)-wheel/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	$(VENV)-wheel/bin/pip check
	cd / && $(CURDIR)/$(VENV)-wheel/bin/rlhf-dialog --help

clean:
	rm -rf $(VENV) $(VENV)-wheel build dist site *.egg-info
