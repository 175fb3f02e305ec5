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

.PHONY: help setup demo test lint bench

help: ## this list
	@echo 'make setup    installs what is missing (apt-get, rustup): compiler, GStreamer, ffmpeg, test tools'
	@echo 'make demo     a synthetic broadcast through the whole system; SEED=7 or ARGS="--seed 7" for another one'
	@echo 'make test     every test, the end-to-end tests through the real program among them'
	@echo 'make lint     formatting and clippy'
	@echo 'make bench    the benchmarks'

setup: ## installs what is missing
	@scripts/setup.sh all

demo: ## the whole system on a synthetic broadcast
	@scripts/setup.sh run
	cargo build --profile demo --bin crest
	"$(CARGO_TARGET_DIR)/demo/crest" demo $(if $(SEED),--seed $(SEED)) $(ARGS)

test: ## every test
	@scripts/setup.sh all
	@scripts/verifiers.sh "$(VERIFY)"
	cargo test --workspace --locked

lint: ## formatting and clippy
	@scripts/setup.sh run
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: ## the benchmarks
	@if cargo metadata --no-deps --format-version 1 | grep -q '"kind":\["bench"\]'; then \
		cargo bench --workspace --benches; \
	else \
		echo 'There are no benchmarks yet: each comes with the first figure that is claimed for it.'; \
	fi
