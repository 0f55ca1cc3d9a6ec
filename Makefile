.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
MEMBERS := core crds kube operator node-agent cli hook-sidecar simulator
CODE := $(MEMBERS) tests tools

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@tools/setup.sh $(VENV) $(MEMBERS)

setup: $(VENV)/.ready ## Make the Python environment

demo: $(VENV)/.ready ## Three simulated IBM Z nodes, two VMs and a drain, from nothing; KEEP=1 leaves it running
	@$(PY) -m vfio_ap_sim.demo $(if $(KEEP),--keep)

binaries: $(VENV)/.ready ## Get etcd, the servers of Kubernetes and KubeVirt, kubectl and helm into the cache
	@$(PY) -m vfio_ap_sim.controlplane binaries --all

test: $(VENV)/.ready binaries ## All tests that can run on this machine; the others are named with what they need
	@$(PY) -m pytest $(PYTEST)

test-kernel: $(VENV)/.ready ## Agent and model against a real s390x kernel (AP_REAL_KERNEL, or ../shared/real-kernel)
	@$(PY) -m pytest tests/kernel $(PYTEST)

test-long: $(VENV)/.ready ## 10,000 random histories of hosts, wishes and meddlers
	@PROPERTY_EXAMPLES=10000 $(PY) -m pytest tests/unit/agent/test_property.py $(PYTEST)

bench-model: $(VENV)/.ready ## What the kernel model costs: boot, reads, a thousand machines
	@$(PY) tools/bench_model.py

bench-operator: $(VENV)/.ready ## What the operator costs at 1,000 nodes and 5,000 matrices: memory, a pass, a change
	@$(PY) tools/bench_operator.py $(NODES) $(MATRICES)

bench-agent: $(VENV)/.ready ## What the agent costs: writes and time beside mdevctl, inventory and planning
	@$(PY) tools/bench_agent.py

bench-gate: $(VENV)/.ready ## What the gate costs a VM's boot, side by side in one run; ROUNDS=10
	@$(PY) tools/bench_gate.py $(if $(ROUNDS),--rounds $(ROUNDS))

test-unit: $(VENV)/.ready ## Unit and contract tests only
	@$(PY) -m pytest tests/unit tests/contract $(PYTEST)

lint: $(VENV)/.ready binaries ## Format, types, layers, generated files, s390x wheels, the chart
	@$(VENV)/bin/ruff format --check $(CODE)
	@$(VENV)/bin/ruff check $(CODE)
	@$(VENV)/bin/mypy $(MEMBERS)
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m vfio_ap_api.generate --check crds/yaml charts/vfio-ap-operator/files/crds
	@$(PY) tools/check_s390x.py
	@$(PY) tools/render_manifests.py --check
	@$(PY) -m vfio_ap_sim.controlplane run helm lint --quiet --strict charts/vfio-ap-operator

format: $(VENV)/.ready ## Format the code and mend what can be mended
	@$(VENV)/bin/ruff check --fix --quiet $(CODE); $(VENV)/bin/ruff format $(CODE)

manifests: $(VENV)/.ready binaries ## Render deploy/install.yaml, for kubectl apply, from the chart
	$(PY) tools/render_manifests.py

proto: $(VENV)/.ready ## Regenerate the kubelet's gRPC code
	$(PY) -m vfio_ap_kube.kubelet.generate

crds: $(VENV)/.ready ## Write the CRDs' YAML from the models
	$(PY) -m vfio_ap_api.generate crds/yaml charts/vfio-ap-operator/files/crds

lock: ## Refresh requirements.lock from the members' requirements
	@test -x $(VENV)/bin/uv || { python3 -m venv $(VENV) && $(PY) -m pip install --quiet uv; }
	$(VENV)/bin/uv lock --quiet --upgrade
	$(VENV)/bin/uv export --quiet --all-groups --no-emit-workspace --no-header --no-annotate --format requirements-txt -o requirements.lock

clean: ## Remove what was made here; the cache of binaries stays
	rm -rf $(VENV) $(VENV).lock .mypy_cache .ruff_cache .pytest_cache .hypothesis uv.lock

.PHONY: help setup demo binaries test test-unit test-kernel test-long bench-model bench-agent bench-operator bench-gate lint format manifests proto crds lock clean
