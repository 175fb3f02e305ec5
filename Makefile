# crest: what there is to do. `make` alone says so.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The build folder lies outside the checkout: `git clean` and a second checkout do not cost a rebuild.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/crest/target
# Where rustup puts cargo; a shell that was open before `make setup` does not know it yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
# Where `make test` puts the webhook verifiers of PyPI and npm.
VERIFY := $(HOME)/.cache/crest/verify
export CREST_VERIFY_PYTHON ?= $(VERIFY)/venv/bin/python
export CREST_VERIFY_NODE_MODULES ?= $(VERIFY)/node_modules

SEED ?=
ARGS ?=

.PHONY: help setup demo test lint bench fuzz services services-stop

help: ## this list
	@echo 'make setup    installs what is missing: compiler, GStreamer, ffmpeg, test tools, Kafka, PostgreSQL, S3'
	@echo 'make demo     a synthetic broadcast through the whole system; SEED=7 for another one, ARGS="--bus kafka"'
	@echo '              for five processes on Kafka, PostgreSQL and S3, which make setup installs'
	@echo 'make test     every test, the end-to-end tests through the real program among them'
	@echo 'make services starts Kafka, PostgreSQL and S3 for tests that are run by hand; make services-stop'
	@echo 'make lint     formatting and clippy'
	@echo 'make bench    the benchmarks in their short form; benches/README.md tells of the long one'
	@echo 'make fuzz     the parsers of outside bytes, a minute each; TARGET=name SECONDS=3600 for one of them'

setup: ## installs what is missing
	@scripts/setup.sh all

demo: ## the whole system on a synthetic broadcast
	@scripts/setup.sh run
	cargo build --profile demo --bin crest
	"$(CARGO_TARGET_DIR)/demo/crest" demo $(if $(SEED),--seed $(SEED)) $(ARGS)

test: ## every test
	@scripts/setup.sh all
	@scripts/verifiers.sh "$(VERIFY)"
	@scripts/services.sh with cargo test --workspace --locked --no-fail-fast

lint: ## formatting and clippy
	@scripts/setup.sh run
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: ## the benchmarks, in their short form; ARGS are those of the first
	@scripts/setup.sh all
	cargo bench --profile demo --bench soak $(if $(ARGS),-- $(ARGS))
	cargo bench --bench density
	cargo bench --bench bus -- --records 100000 --rounds 1 --backlog 50000 --seconds 30
	cargo bench --workspace --bench signals

fuzz: ## the parsers of outside bytes; TARGET=name for one of them, SECONDS=60 for each
	@scripts/fuzz.sh build
	@scripts/fuzz.sh run $(or $(TARGET),all) $(or $(SECONDS),60)

services: ## Kafka, PostgreSQL and S3 for tests that are run by hand: eval "$(make -s services)"
	@scripts/services.sh start "$(CARGO_TARGET_DIR)/services"

services-stop: ## stops them
	@scripts/services.sh stop "$(CARGO_TARGET_DIR)/services"
