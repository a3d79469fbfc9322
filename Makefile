# Two commands do everything on a fresh Debian machine: `make up` and `make test`. Each installs what it needs, says so,
# and can be run twice. `make help` lists the rest.

.PHONY: help up down test lint unit real bench crds tools clean soak soak-properties

CARGO ?= cargo
LAB := target/debug/lab

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

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
	$(REAL) --test e2e

bench: tools ## Measure against the raw engine; writes docs/benchmarks.md
	$(CARGO) build --release -p tallyman-operator -p tallyman-agent -p tallyman-bench
	target/release/tallyman-bench
	target/release/tallyman-bench placement

soak: soak-properties

soak-properties: ## Properties of the scheduler: 100,000 states of up to 300 tasks, 2,000 histories; takes a while
	PROPTEST_CASES=100000 $(CARGO) test --profile soak -p tallyman-operator-core --test states --test choice -- --skip among_many_hosts
	PROPTEST_CASES=2000 $(CARGO) test --profile soak -p tallyman-operator-core --test fixpoint

crds: ## Write crds/generated from the types
	$(CARGO) run -q -p tallyman-crds --bin crdgen

tools: tools-build tools-packages tools-control-plane tools-engines

tools-%:
	@dev/tools.sh $*

clean: down ## Remove builds and tools
	rm -rf target .tools .lab .up
