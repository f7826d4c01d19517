# The only entry point. `make help` lists the targets.
#
# What is compiled is shared on purpose: clippy, docs and msrv use one set of check artefacts, the
# tests another (that is why `tidy` names the whole workspace), and `make ci` takes the programs for
# conformance and interop from the artefacts of the tests.

KAFKA_VERSION ?= 4.3.1
# Which Compose file `make up` and `make down` use: one-node or three-brokers.
CLUSTER ?= one-node
# More arguments for the conformance program, e.g. ARGS="--filter 'IDM-*'".
ARGS ?=
TARGETS ?= --target mock --target mock-tv1 --target docker --target docker-tv1 --target docker-3

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
REPORTS := $(TARGET_DIR)/conformance
CARGO_DENY_VERSION := 0.20.2
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
CONFORMANCE_BUILD ?= cargo build --locked --quiet -p kafka-conformance --bin conformance
INTEROP_BUILD ?= cargo build --locked --quiet -p kafka-mockbroker --bin mockbroker \
    -p kafka-producer --example transfer

CLIPPY := cargo clippy --locked --workspace --all-targets -- -D warnings

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

.PHONY: conformance
conformance: cargo ## Judge the mock and real Kafka by the same cases. TARGETS, ARGS, KAFKA_IMAGE.
	@compose/setup-debian.sh --if-possible engine-if-missing
	$(CONFORMANCE_BUILD)
	@mkdir -p $(REPORTS)
	KAFKA_VERSION=$(KAFKA_VERSION) $(TARGET_DIR)/debug/conformance run $(TARGETS) \
	    --json $(REPORTS)/report.jsonl --junit $(REPORTS)/junit.xml $(ARGS)
	@for mock in mock mock-tv1; do \
	    $(TARGET_DIR)/debug/conformance fidelity --target $$mock \
	        --json $(REPORTS)/fidelity-$$mock.jsonl > $(REPORTS)/fidelity-$$mock.txt \
	        || { cat $(REPORTS)/fidelity-$$mock.txt; exit 1; }; \
	    tail -n 4 $(REPORTS)/fidelity-$$mock.txt; \
	done

.PHONY: fidelity
fidelity: cargo ## Hold the mock against the recording of real Kafka, field by field. ARGS.
	$(CONFORMANCE_BUILD)
	@mkdir -p $(REPORTS)
	$(TARGET_DIR)/debug/conformance fidelity --json $(REPORTS)/fidelity.jsonl $(ARGS)

.PHONY: record
record: cargo ## Record what real Kafka answers anew. KAFKA_VERSION, KAFKA_IMAGE, ARGS.
	@compose/setup-debian.sh --if-possible engine-if-missing
	$(CONFORMANCE_BUILD)
	KAFKA_VERSION=$(KAFKA_VERSION) $(TARGET_DIR)/debug/conformance record --target docker \
	    --out conformance/goldens/kafka-$(KAFKA_VERSION).jsonl $(ARGS)
	KAFKA_VERSION=$(KAFKA_VERSION) $(TARGET_DIR)/debug/conformance record --target docker-tv1 \
	    --out conformance/goldens/kafka-$(KAFKA_VERSION)-tv1.jsonl $(ARGS)

.PHONY: interop
interop: cargo ## Third-party clients against the mock, or any broker. TARGET=HOST:PORT, CLIENTS.
	@compose/setup-debian.sh --if-possible interop-tools
	$(INTEROP_BUILD)
	@INTEROP_CACHE=$(TARGET_DIR)/interop tests/interop/run \
	    $(TARGET_DIR)/debug/examples/transfer $(TARGET_DIR)/debug/mockbroker

BENCHES := --bench cluster --bench record_path --bench end_to_end

.PHONY: bench
bench: cargo ## How fast mock and producer are, as a table. Takes minutes. ARGS for criterion.
	@mkdir -p $(TARGET_DIR)
	cargo bench --locked --workspace $(BENCHES) -- $(ARGS) >$(TARGET_DIR)/bench.txt \
	    || { cat $(TARGET_DIR)/bench.txt; exit 1; }
	@awk -v dir=$(TARGET_DIR)/criterion -f mockbroker/benches/table.awk $(TARGET_DIR)/bench.txt

.PHONY: bench-smoke
bench-smoke: cargo ## Each benchmark once, to see that it works; and allocations are counted.
	cargo test --locked --workspace $(BENCHES) --test allocations

.PHONY: test
test: cargo ## Unit tests, properties, simulation. Needs no Docker.
	cargo test --locked --workspace

SEEDS ?= 20000
SEED ?=
WORKLOAD ?=

.PHONY: sim
sim: cargo ## Simulation, longer than in `make test`. SEEDS=n; SEED=s shows one; WORKLOAD=name.
	SEEDS=$(SEEDS) $(if $(SEED),SEED=$(SEED)) WORKLOAD=$(WORKLOAD) RUST_BACKTRACE=0 \
	    cargo test --locked --release -p promises --test simulation every_seed -- --nocapture

FUZZ_SECONDS ?= 120
FUZZ_SEED ?= $(shell date +%s)

.PHONY: fuzz
fuzz: cargo ## Hostile bytes for the mock, longer than in `make test`. FUZZ_SECONDS, FUZZ_SEED.
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) \
	    cargo test --locked -p kafka-mockbroker --test fuzz -- --nocapture

.PHONY: check
check: fmt clippy features docs msrv deny tidy ## Everything that reads the code: the seven targets below.

.PHONY: fmt
fmt: cargo ## Formatting, as rustfmt.toml says.
	cargo fmt --all --check

.PHONY: clippy
clippy: cargo ## Lints, on every target; a warning fails.
	$(CLIPPY)

# With nothing, and with each feature alone: what is used only with another one shows.
PRODUCER_FEATURES := $(shell sed -n '/^\[features\]/,/^$$/s/^\([a-z0-9-]*\) = .*/\1/p' \
    producer/Cargo.toml | grep -v '^default$$')

.PHONY: features
features: cargo ## The producer with no feature, and with each alone; a warning fails.
	@set -e; for features in '' $(PRODUCER_FEATURES); do \
	    echo "features: kafka-producer with $${features:-none}"; \
	    cargo clippy --quiet --locked -p kafka-producer --lib --no-default-features \
	        --features "$$features" -- -D warnings; \
	done

.PHONY: docs
docs: cargo ## The documentation, of private items too; a warning fails.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
	    cargo doc --locked --workspace --no-deps --document-private-items

.PHONY: msrv
msrv: cargo ## The workspace compiles with the Rust version that Cargo.toml promises.
	@case "$$(rustc --version)" in \
	"rustc $(MSRV)."*) echo "msrv: $$(rustc --version) is what Cargo.toml promises"; \
	    $(CLIPPY) ;; \
	*) toolchain=$$(rustup toolchain list 2>/dev/null \
	        | sed -n 's/^\($(MSRV)[.-][^ ]*\).*/\1/p' | head -n 1); \
	    [ -n "$$toolchain" ] || { \
	        echo "msrv: Rust $(MSRV) is not installed; run: rustup toolchain install $(MSRV)" >&2; \
	        exit 1; }; \
	    echo "msrv: cargo +$$toolchain check"; \
	    cargo "+$$toolchain" check --locked --workspace --all-targets \
	        --target-dir $(TARGET_DIR)/msrv ;; \
	esac

.PHONY: deny
deny: cargo-deny ## Licences, sources and banned crates, as deny.toml says.
	cargo deny --locked --log-level error check bans licenses sources

.PHONY: tidy
tidy: cargo ## The rules of the tree, executed.
	cargo test --locked --workspace --test tidy

.PHONY: advisories
advisories: cargo-deny ## Known vulnerabilities of the dependencies. Needs the network.
	cargo deny --locked check advisories

.PHONY: kafka-image
kafka-image: ## Build the image of Apache Kafka without an image registry. KAFKA_VERSION, IMAGE.
	KAFKA_VERSION=$(KAFKA_VERSION) compose/image/build.sh

.PHONY: mock-image
mock-image: cargo ## Build the image of the mock broker without a registry. IMAGE, PROFILE.
	compose/mock/build.sh

.PHONY: up
up: ## Start real Kafka with Compose and wait until it answers. CLUSTER=one-node|three-brokers.
	KAFKA_VERSION=$(KAFKA_VERSION) compose/cluster.sh up $(CLUSTER)

.PHONY: down
down: ## Stop what `make up` started and remove its data. CLUSTER as there.
	KAFKA_VERSION=$(KAFKA_VERSION) compose/cluster.sh down $(CLUSTER)

.PHONY: engine
engine: ## Start a Docker engine, and install it first where it is missing (Debian, root).
	compose/setup-debian.sh engine

.PHONY: ci
ci: ## What the integration runs: check, test, conformance, bench-smoke, interop.
	@.ci/step check $(MAKE) check
	@.ci/step test $(MAKE) test
	@.ci/step conformance $(MAKE) conformance \
	    CONFORMANCE_BUILD="cargo build --locked --quiet --workspace --all-targets"
	@.ci/step bench-smoke $(MAKE) bench-smoke
	@.ci/step interop $(MAKE) interop \
	    INTEROP_BUILD="cargo build --locked --quiet --workspace --all-targets"

# What the targets above need on the machine.

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { \
	    echo "Rust $(MSRV) or later is needed: https://rustup.rs" >&2; exit 1; }

.PHONY: cargo-deny
cargo-deny: cargo
	@cargo deny --version >/dev/null 2>&1 \
	    || cargo install --locked --debug cargo-deny@$(CARGO_DENY_VERSION)
