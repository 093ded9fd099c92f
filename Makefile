# `make` alone says what there is.
.DEFAULT_GOAL := help
CARGO ?= cargo
# Shown by sharelink_build_info.
export SHARELINK_REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

.PHONY: help demo test tools lint unit doc rabbitmq4-short rabbitmq4 cluster fuzz soak bench throttle dashboards pictures build clean

# The tests that have a RabbitMQ in them, but for the soak.
BROKER_TESTS := broker crash dead nested_headers relay reliability unreadable worker

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The main job with nothing to install: a thousand requests, a table at the end
	$(CARGO) run --release --locked -- demo

test: tools lint unit rabbitmq4-short doc ## Install what the tests need, then run every check
	@echo "every check passed"

tools: ## Install what the tests need (RabbitMQ, Prometheus, pika; Chromium and VictoriaMetrics if possible)
	@.ci/tools

lint: ## Formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

unit: ## Unit, property, integration and doc tests; RabbitMQ nodes are started as needed
	$(CARGO) test --locked

doc: ## The API documentation, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked --quiet

# Nothing where such a RabbitMQ cannot be had; .ci/rabbitmq4 has said why.
with_rabbitmq4 = @server=$$(.ci/rabbitmq4) && { [ -z "$$server" ] || { export SHARELINK_RABBITMQ_SERVER=$$server; $(1); }; }

rabbitmq4-short: tools ## A minute of the broker's tests against a RabbitMQ of the 4.x line, where one can be installed
	$(call with_rabbitmq4,$(CARGO) test --locked --test broker --test unreadable && $(CARGO) test --locked --test reliability nothing_is_lost)

rabbitmq4: tools ## All of the broker's tests against a RabbitMQ of the 4.x line
	$(call with_rabbitmq4,$(CARGO) test --locked --no-fail-fast $(BROKER_TESTS:%=--test %))

cluster: tools ## Three RabbitMQ nodes and 5,000 requests, the leader of the queues killed in mid-run; a shorter run is in the tests
	SHARELINK_TEST_CLUSTER_REQUESTS=5000 $(CARGO) test --locked --test cluster -- --nocapture

fuzz: ## Coverage-guided fuzzing, FUZZ_SECONDS (600) each target; a short run without it is in the tests
	@fuzz/run

soak: tools ## Half an hour with 200 forced reconnects; SHARELINK_SOAK_MINUTES and SHARELINK_SOAK_RECONNECTS change it
	$(CARGO) test --locked --test reliability -- --ignored --nocapture

bench: ## The whole worker beside others (Go, Node, Python), CPU, rate, memory; BENCH_FULL=1 with 200,000 requests too
	$(CARGO) bench --locked --bench whole -- run

throttle: ## Play the throttle against simulated providers: the table of PERFORMANCE.md and its picture
	$(CARGO) bench --locked --bench throttle -- --write

dashboards: ## Write dashboards/*.json anew from tests/dashboards
	SHARELINK_WRITE_DASHBOARDS=1 $(CARGO) test --locked --test dashboards the_dashboards_are

pictures: tools ## The pictures in dashboards/images, taken with Chromium of a real worker; a quarter of an hour
	$(CARGO) test --locked --test page -- --ignored --nocapture pictures
	$(CARGO) test --locked --test dashboards pictures -- --ignored --nocapture

build: ## The release binary
	$(CARGO) build --release --locked

clean: ## Everything that was built
	$(CARGO) clean
