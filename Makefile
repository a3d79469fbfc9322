# Two commands do everything on a fresh Debian machine: `make up` and `make test`. Each installs what it needs, says so,
# and can be run twice. `make help` lists the rest.

.PHONY: help up down test lint unit soak soak-properties alike fuzz real chaos attack machine bench supply crds tools clean

CARGO ?= cargo
LAB := target/debug/lab

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: tools-build tools-packages tools-control-plane ## Tallyman on this machine, with a page to look at; KUBECONFIG=file uses that cluster instead
	$(CARGO) build -p tallyman-lab -p tallyman-operator -p tallyman-agent
	$(LAB) quickstart $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig "$(patsubst ~/%,$(HOME)/%,$(KUBECONFIG))")

down: ## Take away all that `make up` made
	@if [ -x $(LAB) ]; then $(LAB) quickstart-down; else echo "nothing was built here, so nothing is up"; fi

test: tools lint unit real ## Every test: lint, unit, property, simulation, schema, engines, end to end

# Tests of real parts. Their targets have `test = false`, so `cargo test` alone leaves them, and no feature makes a second build.
REAL_TESTS := apiserver alike conformance pulls cleanup real quickstart chart gitops monitoring node machine e2e

# What is behind a feature is tested, too: with it everywhere, nothing is built twice.
FEATURES := --features tallyman-operator/otlp

lint: ## Formatting, warnings, documentation, and that Cargo.lock is what is built
	$(CARGO) fmt --all --check
	$(CARGO) metadata --locked --format-version 1 >/dev/null
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace $(FEATURES) --bin tallyman-operator $(addprefix --test ,$(REAL_TESTS)) -- -D warnings

unit: ## What needs neither Docker nor an API server; tells every failure, not the first alone
	$(CARGO) test --workspace $(FEATURES) --no-fail-fast

SOAK_SEEDS ?= 10
SOAK_HISTORIES ?= 1000000

soak: soak-properties ## For hours: those, every planned perturbation with SOAK_SEEDS seeds, SOAK_HISTORIES random histories
	TALLYMAN_SIM_SHARE=1 TALLYMAN_SIM_SEEDS=$(SOAK_SEEDS) TALLYMAN_SIM_HISTORIES=$(SOAK_HISTORIES) \
	  $(CARGO) test -p tallyman-sim --release --test it -- --nocapture perturbations:: histories:: restores::

soak-properties: ## Properties of the scheduler: 100,000 states of up to 300 tasks, 2,000 histories; takes a while
	PROPTEST_CASES=100000 $(CARGO) test --profile soak -p tallyman-operator-core --test it -- states:: choice:: --skip among_many_hosts
	PROPTEST_CASES=2000 $(CARGO) test --profile soak -p tallyman-operator-core --test it -- fixpoint::

ALIKE_SEQUENCES ?= 1000

alike: tools ## The simulator's API server beside the real one, ALIKE_SEQUENCES times; `make real` has a few
	$(CARGO) build -p tallyman-lab
	$(LAB) with --control-plane -- env TALLYMAN_CONFORMANCE_SEQUENCES=$(ALIKE_SEQUENCES) $(CARGO) test --workspace $(FEATURES) --test alike -- --nocapture

FUZZ_SECONDS ?= 60
FUZZ_TARGETS = $(shell sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2)

fuzz: ## Every fuzz target for FUZZ_SECONDS with libFuzzer; needs a nightly compiler and cargo-fuzz. `make unit` has a smoke run without
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 1; }
	@for target in $(FUZZ_TARGETS); do echo "== $$target"; mkdir -p fuzz/corpus/$$target; \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -rss_limit_mb=4096 || exit 1; done

# With `--tests`, so that the programs are built of what `cargo test` built already.
real: tools ## What needs root, the control plane and both engines
	$(CARGO) build --workspace $(FEATURES) --bins --tests
	$(LAB) with --control-plane -- $(CARGO) test --workspace --test apiserver --test alike
	$(LAB) with --engines -- $(CARGO) test --workspace --test conformance --test pulls --test cleanup
	$(CARGO) test --workspace --test real --test quickstart
	$(CARGO) test --workspace --test chart --test gitops --test monitoring
	$(CARGO) test --workspace --test node -- --nocapture
	$(CARGO) test --workspace --test e2e

CHAOS_ROWS ?=

chaos: tools ## Break one thing after the other on four hosts; writes docs/reliability.md, which tells CHAOS_ROWS and the counts
	$(CARGO) build --workspace
	target/debug/tallyman-chaos $(CHAOS_ROWS)

ATTACK_ROWS ?=

attack: tools ## Try to break in from a container, from another host and with a stolen host token; writes docs/security.md, fails if anything is got
	$(CARGO) build --workspace --bins
	target/debug/tallyman-attack $(ATTACK_ROWS)

# One after the other: each has two processors to itself.
machine: tools tools-machine ## A whole Debian machine as a host, in QEMU: NFS, ipvlan, journald, cgroup v2, systemd, a reboot
	$(CARGO) build --workspace $(FEATURES) --bins --tests
	$(CARGO) test --workspace --test machine -- --nocapture --test-threads=1

bench: tools ## Measure against the raw engine; writes docs/benchmarks.md
	$(CARGO) build --release -p tallyman-operator -p tallyman-agent -p tallyman-bench
	target/release/tallyman-bench
	target/release/tallyman-bench rest
	target/release/tallyman-bench placement

SBOM := target/sbom
# Where cargo looks for commands of its own.
supply: export PATH := $(CURDIR)/.tools/bin:$(PATH)

supply: tools-supply ## Licences, sources and known vulnerabilities of what Tallyman is made of, and its bill of materials in target/sbom
	$(CARGO) deny --locked check
	find . -name '*.cdx.json' -not -path './.tools/*' -delete
	$(CARGO) cyclonedx --format json --describe binaries --target all
	mkdir -p $(SBOM)
	find . -name '*.cdx.json' -not -path './target/*' -not -path './.tools/*' -exec mv -t $(SBOM) {} +

crds: tools-control-plane tools-node ## Write crds/generated from the types, and what charts and plain manifests take from it
	$(CARGO) run -q -p tallyman-crds --bin crdgen
	$(CARGO) build -q -p tallyman-operator
	TALLYMAN_WRITE=1 $(CARGO) test -q -p tallyman-node --test chart
	TALLYMAN_WRITE=1 $(CARGO) test -q -p tallyman-node --test gitops the_config_map

tools: tools-build tools-packages tools-shells tools-control-plane tools-engines tools-node

tools-%:
	@dev/tools.sh $*

clean: down ## Remove builds and tools
	rm -rf target .tools .lab .up
