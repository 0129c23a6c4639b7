# pg_webhook. `make` lists the targets. PG_CONFIG names the Postgres to build for (default: the newest in /usr/lib/postgresql);
# PG=17 or PG=18 takes that major version, from Debian if the system has none (scripts/postgres.sh).
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.tools/bin:$(PATH)
export PG
PG_CONFIG ?= $(shell if [ -n "$(PG)" ]; then scripts/postgres.sh $(PG); else ls -v /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | tail -n 1; fi)
PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')

.PHONY: help demo test check-versions chaos torture bench build install setup lint clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/' | expand -t 23

demo: setup ## pgbench traffic on a throw-away cluster, and its webhooks arriving
	@scripts/demo.sh

test: ## every test: units, SQL surface, end to end, verifiers of other languages (PG=17, PG=18: on that Postgres)
	@scripts/setup.sh test
	@scripts/test.sh

check-versions: ## type-check the extension for Postgres 14 to 18, without any of them
	@scripts/check_versions.sh

chaos: setup ## FAULTS=100 random faults by SEED=… under random traffic, SECONDS=300 at most: does every promise hold?
	@scripts/chaos.sh $(or $(FAULTS),100) $(or $(SECONDS),300) $(SEED)

torture: ## random changes against an audit, sqlsmith, Postgres' own suites with every table watched (WHAT=, SECONDS=600, SEED=)
	@scripts/setup.sh torture
	@SECONDS_MAX="$(SECONDS)" SEED="$(SEED)" OPTIONS="$(OPTIONS)" OUT="$(OUT)" scripts/torture.sh $(WHAT)

bench: setup ## the figures of docs/BENCHMARKS.md, as a table and as JSON (AGAINST=REVISION: as ratios to that revision)
	@$(if $(AGAINST),scripts/bench_against.sh $(AGAINST),scripts/bench.sh)

build: setup ## release build: the extension, and target/release/webhookd
	PGRX_PG_CONFIG_PATH=$(PG_CONFIG) cargo pgrx package --package pg_webhook --manifest-path extension/Cargo.toml \
	    --pg-config $(PG_CONFIG) --no-default-features --features pg$(PG_MAJOR) --profile release
	scripts/compose_update.sh target/release/pg_webhook-pg$(PG_MAJOR)$$($(PG_CONFIG) --sharedir)/extension
	cargo build --release --package webhookd

install: SUDO = $(shell [ -n "$(DESTDIR)" ] || [ -w "$$($(PG_CONFIG) --pkglibdir)" ] || echo sudo)
install: build ## put the extension into the Postgres of PG_CONFIG (asks sudo when it may not write there)
	cd target/release/pg_webhook-pg$(PG_MAJOR) && find . -type f -printf '%P\n' | while read -r file; do \
	    $(SUDO) install -D -m 644 "$$file" "$(DESTDIR)/$$file" && echo "installed $(DESTDIR)/$$file"; done

setup: ## install what building needs and what is missing (packages through apt, cargo-pgrx)
	@scripts/setup.sh build

lint: ## formatting and lints, as CI runs them
	cargo fmt --all --check
	cargo clippy --profile quick --workspace --exclude pg_webhook --all-targets -- -D warnings
	cargo check --profile quick --package webhookd --quiet # alone: it names every feature that it needs
	scripts/deny.sh
	scripts/check_layers.py >/dev/null || scripts/check_layers.py
	scripts/check_prose.py dispatcher/src extension/src extension/tests extension/update crates sql scripts tests fuzz deny.toml docs README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md
	PGRX_PG_CONFIG_PATH=$(PG_CONFIG) cargo clippy --profile quick --package pg_webhook --no-default-features --features pg$(PG_MAJOR) -- -D warnings

clean: ## remove what was built
	cargo clean
	rm -rf bench-out .tools $${TMPDIR:-/tmp}/pg_webhook-$$(id -un)
