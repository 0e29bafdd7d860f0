# A fresh clone needs Python 3.11 or newer and make. `make serve` starts a server, `make test` runs the tests.

VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
AUDIT := .venv-audit
CLIENTS_PYTHON ?=
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate
CORPUS ?=
BASE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install serve test test-long test-clients check bench bench-gate fmt docs site lock audit sbom clean

help:
	@echo "make install    create $(VENV) with tympan and what it needs"
	@echo "make serve      install, fetch the default model, serve on http://127.0.0.1:8000"
	@echo "make test       install what the tests need and run them"
	@echo "make test-long  the tests that take minutes, and the drawn ones with new examples"
	@echo "make test-clients  programs of others against a real server; needs a Python 3.12 or newer, CLIENTS_PYTHON=<path> names it"
	@echo "make check      formatting, lint, types, architecture, docs, tests"
	@echo "make fmt        format the code and mend what can be mended"
	@echo "make bench      measure; CORPUS=<folder> names the recordings, ARGS=... goes through"
	@echo "make bench-gate  fail if this tree is slower than BASE=<commit>, or makes more errors; under 4 minutes"
	@echo "make docs       write the generated parts of the documentation"
	@echo "make site       build the documentation as a site in build/site"
	@echo "make lock       write requirements/*.txt anew from pyproject.toml and requirements/*.in"
	@echo "make audit      look the locked packages up among known vulnerabilities; needs the network"
	@echo "make sbom       write build/sbom.json: what is installed, with hashes, as CycloneDX"

# Stamps make a second call quick: nothing is installed again until a lock or the project file changes.
$(VENV)/.installed: scripts/install.sh requirements/runtime.txt pyproject.toml
	@sh scripts/install.sh $(VENV) runtime

$(VENV)/.installed-dev: scripts/install.sh requirements/dev.txt requirements/samples.txt $(VENV)/.installed
	@sh scripts/install.sh $(VENV) dev

$(VENV)/.servers: tests/servers/provision.py $(VENV)/.installed-dev
	@$(BIN)/python -m tests.servers.provision && touch $@

install: $(VENV)/.installed
	@echo "tympan: installed; run $(BIN)/tympan --help"

serve: $(VENV)/.installed
	@echo "tympan: starting the server; the first start fetches the model"
	@exec $(BIN)/tympan serve $(ARGS)

test: $(VENV)/.installed-dev $(VENV)/.servers
	@sh scripts/test.sh $(BIN)/python $(ARGS)

test-long: $(VENV)/.installed-dev $(VENV)/.servers
	@echo "tympan: running the long tests"
	@$(BIN)/python -m pytest -m long $(ARGS)
	@echo "tympan: the drawn tests, with new examples"
	@DRAWN_TESTS=search $(BIN)/python -m pytest -m "hypothesis and not long"

$(CLIENTS)/.installed: requirements/clients.txt scripts/find_python.sh $(VENV)/.installed-dev
	@echo "tympan: installing the clients of others"
	@python=$$(sh scripts/find_python.sh 3.12 $(CLIENTS_PYTHON)) && $(BIN)/uv venv --quiet --clear --python "$$python" $(CLIENTS)
	@$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --require-hashes -r requirements/clients.txt && touch $@

test-clients: $(CLIENTS)/.installed
	@$(BIN)/python -m pytest -m long tests/clients $(ARGS)

check: $(VENV)/.installed-dev $(VENV)/.servers
	@echo "tympan: format";       $(BIN)/ruff format --check .
	@echo "tympan: lint";         $(BIN)/ruff check .
	@echo "tympan: types";        $(BIN)/mypy
	@echo "tympan: architecture"; $(BIN)/lint-imports
	@echo "tympan: tests, with architecture and docs in step"
	@sh scripts/test.sh $(BIN)/python $(ARGS)

fmt: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	@test -n "$(CORPUS)" || { echo "tympan: name the recordings: make bench CORPUS=<folder>" >&2; exit 2; }
	@$(BIN)/python -m benchmarks "$(CORPUS)" $(ARGS)

bench-gate: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks.gate $(if $(BASE),--base "$(BASE)") $(ARGS)

docs: $(VENV)/.installed-dev
	@$(BIN)/python scripts/gen_docs.py
	@$(BIN)/python scripts/gen_cli_docs.py
	@$(BIN)/python scripts/gen_api_docs.py
	@$(BIN)/python scripts/gen_site.py

site: docs
	@$(BIN)/zensical build --strict
	@echo "tympan: built; see it with $(BIN)/python -m http.server --directory build/site 8080"

lock: $(VENV)/.installed-dev
	@echo "tympan: writing requirements/*.txt"
	@$(LOCK) pyproject.toml requirements/build.in -o requirements/runtime.txt
	@$(LOCK) pyproject.toml --extra cluster --extra onnx-asr --extra otel --extra whispercpp requirements/build.in requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt
	@$(LOCK) --no-deps requirements/samples.in -o requirements/samples.txt
	@$(LOCK) requirements/audit.in -o requirements/audit.txt
	@$(subst 3.11,3.12,$(LOCK)) requirements/clients.in -o requirements/clients.txt
	@for extra in cuda whispercpp onnx-asr cluster otel; do \
		$(LOCK) pyproject.toml --extra $$extra -c requirements/runtime.txt -o requirements/$$extra.txt || exit 1; \
	done

$(AUDIT)/.installed: requirements/audit.txt $(VENV)/.installed-dev
	@echo "tympan: installing the auditor"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(AUDIT)
	@$(BIN)/uv pip install --quiet --python $(AUDIT)/bin/python --require-hashes -r requirements/audit.txt && touch $@

audit: $(AUDIT)/.installed
	@$(AUDIT)/bin/python scripts/audit.py runtime cluster onnx-asr whispercpp

sbom: $(VENV)/.installed
	@$(BIN)/python scripts/sbom.py $(ARGS)

clean:
	@rm -rf $(VENV) $(CLIENTS) $(AUDIT) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@echo "tympan: removed $(VENV), the environments beside it and caches; models and results are kept"
