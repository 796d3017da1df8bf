# `make run` and `make test` make the environment if there is none; neither makes again what is there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test lint bench evidence results drill clean

# Threads of NumPy's BLAS wait for each other where two processes have two cores: a small matrix then takes a hundred
# times as long.
test evidence: export OPENBLAS_NUM_THREADS = 1

run: $(STAMP)
	$(BIN)/galaxy run --survey embedded --profile laptop

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Types of the evidence as well: what runs for hours must not end at a misspelt name.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/evidence --exclude /test_
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(ONLY)

# Small by default; PART=few_labels measures one part, SIZE=middle what README
# shows, and FULL=1 the whole. What was measured is kept.
evidence: $(STAMP)
	$(BIN)/python -m tests.evidence $(PART) --size $(if $(FULL),full,$(or $(SIZE),small)) $(if $(KEEP),--keep)

# Twenty-five faults at random moments; `make test` has a short form of it.
drill: $(STAMP)
	$(BIN)/python -m tests.drill $(MOMENTS)

results: $(STAMP)
	$(BIN)/python -m tests.benchmarks.report

clean:
	rm -rf .venv galaxy-data

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
