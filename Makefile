PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo app test test-slow lint format

demo: $(STAMP)
	$(RUN) run_models/run_depth_image.py --mode joint --output_dir outputs/demo --overwrite

app: $(STAMP)
	$(RUN) -m gradios

test: lint
	$(RUN) -m pytest --numprocesses auto --dist loadfile

test-slow: $(STAMP)
	$(RUN) -m pytest -m slow

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('Duet needs Python 3.11 or newer; pass PYTHON=python3.12, say' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -e ".[flow,demo,train,export,dev]" -c constraints.txt
	touch $(STAMP)
