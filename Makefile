# `make` alone says what there is.
.DEFAULT_GOAL := help
CARGO ?= cargo
# Shown by sharelink_build_info.
export SHARELINK_REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

.PHONY: help demo test tools lint unit doc cluster fuzz soak build clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The main job with nothing to install: a thousand requests, a table at the end
	$(CARGO) run --release --locked -- demo

test: tools lint unit doc ## Install what the tests need, then run every check
	@echo "every check passed"

tools: ## Install what the tests need (RabbitMQ, promtool, pika) from the system's packages
	@.ci/tools

lint: ## Formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

unit: ## Unit, property, integration and doc tests; RabbitMQ nodes are started as needed
	$(CARGO) test --locked

doc: ## The API documentation, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked --quiet

cluster: tools ## Three RabbitMQ nodes, the leader of the queues killed in mid-run
	$(CARGO) test --locked --test cluster -- --ignored --nocapture

fuzz: ## Coverage-guided fuzzing, FUZZ_SECONDS (600) each target; a short run without it is in the tests
	@fuzz/run

soak: tools ## Half an hour with 200 forced reconnects; SHARELINK_SOAK_MINUTES and SHARELINK_SOAK_RECONNECTS change it
	$(CARGO) test --locked --test reliability -- --ignored --nocapture

build: ## The release binary
	$(CARGO) build --release --locked

clean: ## Everything that was built
	$(CARGO) clean
