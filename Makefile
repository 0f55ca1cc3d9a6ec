.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
MEMBERS := core crds kube operator node-agent simulator

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@echo "== Python environment in $(VENV)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$(python3 --version)" >&2; exit 1; }
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@

setup: $(VENV)/.ready ## Make the Python environment

lock: ## Refresh requirements.lock from the members' requirements
	@test -x $(VENV)/bin/uv || { python3 -m venv $(VENV) && $(PY) -m pip install --quiet uv; }
	$(VENV)/bin/uv lock --quiet
	$(VENV)/bin/uv export --quiet --all-groups --no-emit-workspace --no-header --no-annotate --format requirements-txt -o requirements.lock

.PHONY: help setup lock

crds: $(VENV)/.ready ## Write the CRDs' YAML from the models
	$(PY) -m vfio_ap_api.generate crds/yaml charts/vfio-ap-operator/files/crds

.PHONY: crds
