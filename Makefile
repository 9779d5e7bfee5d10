# Two commands on a fresh machine: `make book` and `make test`. Both need only Python 3.11+, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

export PYTHONDONTWRITEBYTECODE := 1
export OMP_NUM_THREADS ?= 1

.PHONY: help book test check rerun bench serve clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^## //p' Makefile

## make book    environment, executed chapters, rendered site in _build/html
book: $(READY)
	@$(BIN)/repgeom book

## make test    environment, style, unit tests, every notebook under nbval, site checks
test: $(READY) check
	$(BIN)/repgeom book --no-run --quiet
	$(BIN)/python -m pytest -c tests/pytest.ini --rootdir . -n 2 --dist loadfile book tests

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/repgeom sync --check

## make rerun   papermill re-run of all chapters at CI scale against the committed records
rerun: $(READY)
	$(BIN)/repgeom rerun --scale ci --seeds 0 --out _build/rerun

## make bench   speed against peers and against the physical limit, as ratios from one run
bench: $(READY)
	$(BIN)/repgeom bench

## make serve   the site on localhost
serve: book
	@echo "http://localhost:8000"; $(BIN)/python -m http.server 8000 --directory _build/html --bind 127.0.0.1

## make clean   removes the site and every cache inside the folder, keeps the environment
clean:
	rm -rf _build

# The stamp is older than a changed list of packages: then, and only then, pip runs again.
$(READY): pyproject.toml constraints.txt
	@start=$$(date +%s); \
	test -x $(BIN)/python || $(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed: make PYTHON=/path/to/python3"' && \
	$(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]' && \
	touch $(READY) && echo "environment: $$(( $$(date +%s) - start )) s"
