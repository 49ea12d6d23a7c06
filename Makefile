# From a bare clone with Python 3.10 or newer, each target first sets up .venv by itself.
.PHONY: help figures test bench breaks docs export readme run clean
.DEFAULT_GOAL := help

# Nets this small train several times faster on one thread than on many.
export OMP_NUM_THREADS := 1

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

figures: .venv/stamp ## train the models of Figures 4, 5 and 6 and draw them in figures/
	.venv/bin/mae_figures --out figures

test: .venv/stamp ## run every check: notebooks, library, wheel, docs
	.venv/bin/python tools/check.py

bench: .venv-bench/stamp ## compare training speed with pythae and JAX, runs with and without checkpoints, steps with and without the constraint, with it and by hand, and two processes with one, in an environment of its own: make bench [TURNS=5]
	env -u OMP_NUM_THREADS .venv-bench/bin/python bench/run.py --turns $(or $(TURNS),5) --out bench/results.txt
	.venv-bench/bin/python bench/checkpoint.py | tee bench/checkpoint.txt
	.venv-bench/bin/python bench/step.py | tee bench/step.txt
	.venv-bench/bin/python bench/hold.py | tee bench/hold.txt

breaks: .venv/stamp ## try one-line breaks of formulas, and tell which chapter notices; about an hour
	.venv/bin/python tools/breaks.py

docs: .venv/stamp ## render the notebooks in _docs/ (no Quarto needed)
	.venv/bin/python tools/docs.py

export: .venv/stamp ## write mae_nb/ and README.md from the notebooks, and clean them
	.venv/bin/python tools/export.py

readme: .venv/stamp ## write README.md from nbs/index.ipynb
	.venv/bin/python tools/readme.py

run: .venv/stamp ## run notebooks in place and store their outputs: make run NB=nbs/theory/01_elbo.ipynb [SLOW=1]
	.venv/bin/python tools/run_nbs.py $(if $(SLOW),--slow) $(or $(NB),$(shell find nbs -name '[^.]*.ipynb' -not -path '*/.*' | sort))

clean: ## remove what the other targets made
	rm -rf .venv .venv-bench figures _docs _proc build dist *.egg-info

# The first Python that is new enough; `make PYTHON=/path/to/python` overrules.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)

.venv-bench/stamp: settings.ini setup.py constraints.txt bench/requirements.txt
	@test -n "$(PYTHON)" || { echo "mae_nb needs Python 3.10 or newer, and there is none on the PATH." >&2; exit 1; }
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q -c constraints.txt -r bench/requirements.txt -e '.[save]'
	@touch $@

# The stamp comes last, so an installation cut short is taken up again by the next call.
.venv/stamp: settings.ini setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "mae_nb needs Python 3.10 or newer, and there is none on the PATH." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
