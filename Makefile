# Two commands do everything on a fresh Debian machine: `make up` and `make test`. Each installs what it needs, says so,
# and can be run twice. `make help` lists the rest.

.PHONY: help up down test lint unit real bench crds tools clean

CARGO ?= cargo
LAB := target/debug/lab

help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: tools-build tools-packages tools-control-plane ## Tallyman on this machine, with a page to look at; KUBECONFIG=file uses that cluster instead
	$(CARGO) build -p tallyman-lab -p tallyman-operator -p tallyman-agent
	$(LAB) quickstart $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig "$(KUBECONFIG)")

down: ## Take away all that `make up` made
	@if [ -x $(LAB) ]; then $(LAB) quickstart-down; else echo "nothing was built here, so nothing is up"; fi

test: tools lint unit real ## Every test: lint, unit, property, simulation, schema, engines, end to end

lint: ## Formatting, warnings, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

unit: ## What needs neither Docker nor an API server
	$(CARGO) test --workspace

# One set of features for all of these, so that nothing is built twice.
REAL := $(CARGO) test --workspace --all-features

real: tools ## What needs root, the control plane and both engines
	$(CARGO) build --workspace --all-features
	$(LAB) with --control-plane -- $(REAL) --test apiserver
	$(LAB) with --engines -- $(REAL) --test conformance --test pulls
	$(REAL) --test real
	$(REAL) --test chart --test gitops
	$(REAL) --test node -- --nocapture
	$(REAL) --test e2e

bench: tools ## Measure against the raw engine; writes docs/benchmarks.md
	$(CARGO) build --release -p tallyman-operator -p tallyman-agent -p tallyman-bench
	target/release/tallyman-bench
	target/release/tallyman-bench placement

crds: tools-control-plane tools-node ## Write crds/generated from the types, and what charts and plain manifests take from it
	$(CARGO) run -q -p tallyman-crds --bin crdgen
	$(CARGO) build -q -p tallyman-operator
	TALLYMAN_WRITE=1 $(CARGO) test -q -p tallyman-node --features real --test chart

tools: tools-build tools-packages tools-control-plane tools-engines tools-node

tools-%:
	@dev/tools.sh $*

clean: down ## Remove builds and tools
	rm -rf target .tools .lab .up
