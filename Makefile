# make run, make test: each in a virtual environment of its own (.venv).
.PHONY: run test check bench
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.venv/installed: requirements.txt requirements-dev.txt
	python3 -m venv .venv
	$(BIN)/pip install -r requirements-dev.txt
	touch $@

run: .venv/installed
	$(BIN)/streamlit run app.py

test: .venv/installed
	$(BIN)/pytest

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks
