# What can be done here. `make` lists it. All of it works from a clean clone on a fresh Debian machine.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help check fmt clippy deny crds-check shellcheck crds test unit world e2e image demo demo-down bench world-down

WORLD := tests/world/world
CACHE ?= $(or $(WORLD_CACHE),$(HOME)/.cache/localcluster-operator)
IMAGE ?= localcluster-operator:dev
# The cargo profile of the image. `dist` is for the inner loop and CI, and there without link-time
# optimization, which takes minutes and gains nothing in size.
PROFILE ?= dist
# While dependencies change: make LOCKED= …
LOCKED ?= --locked
# Static, so that the image needs no base.
HOST_TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STATIC := --target $(HOST_TRIPLE) --config 'target.$(HOST_TRIPLE).rustflags=["-Ctarget-feature=+crt-static"]'

# These need the test world (Docker, images, a management cluster); every other file in tests/ runs anywhere.
LIVE := %_live crds e2e
LIVE_TESTS := $(filter $(LIVE),$(basename $(notdir $(wildcard tests/*.rs))))
UNIT_TESTS := $(filter-out $(LIVE),$(basename $(notdir $(wildcard tests/*.rs))))

DENY_VERSION := 0.20.2
DENY := $(CACHE)/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

check: fmt clippy deny crds-check shellcheck ## formatting, lints, licenses, generated files

fmt:
	cargo fmt --check

clippy:
	cargo clippy $(LOCKED) --all-targets -- -D warnings

deny: $(DENY)
	$(DENY) --locked check --hide-inclusion-graph licenses bans sources
	@if timeout 60 $(DENY) --locked fetch db >/dev/null 2>&1; then \
		$(DENY) --locked check --disable-fetch advisories; \
	else echo "advisories: the database cannot be fetched here; not checked"; fi

$(DENY):
	cargo install cargo-deny --version $(DENY_VERSION) --locked --root $(CACHE)/tools/cargo-deny-$(DENY_VERSION)

crds-check:
	cargo run $(LOCKED) -q -- crds --check crds

shellcheck:
	@if command -v shellcheck >/dev/null; then \
		cd tests/world && shellcheck -x world demo bench lib/*.sh node-image/{build,build-images,check,rootfs.sh,runc-wrap} ../../.ci/run && \
		echo "shellcheck: ok"; \
	else echo "shellcheck: not installed; not checked"; fi

crds: ## write crds/ anew from the code
	cargo run $(LOCKED) -q -- crds --output crds

test: ## all tests, on Docker and real clusters
	$(MAKE) --no-print-directory world unit
	$(WORLD) check
	$(MAKE) --no-print-directory e2e

unit: ## the tests that need no Docker
	cargo test $(LOCKED) --lib --bins $(addprefix --test ,$(UNIT_TESTS))

e2e: world image ## the tests that need Docker and a management cluster
	$(WORLD) images --second
	$(WORLD) with bash -ec '$(WORLD) load $(IMAGE); $(if $(LIVE_TESTS),cargo test $(LOCKED) $(addprefix --test ,$(LIVE_TESTS)))'

world: ## Docker and the images; `tests/world/world` does the rest by hand
	$(WORLD) docker
	$(WORLD) images

world-down: ## remove the management cluster and all that is left over
	$(WORLD) down --docker

image: ## the operator's image, localcluster-operator:dev
	$(WORLD) docker
	cargo build $(LOCKED) --profile $(PROFILE) --bin localcluster-operator $(STATIC)
	rm -rf target/image && mkdir -p target/image
	cp Dockerfile target/$(HOST_TRIPLE)/$(PROFILE)/localcluster-operator target/image/
	docker build -q -t $(IMAGE) target/image
	@docker image inspect -f '$(IMAGE): {{.Size}} bytes' $(IMAGE)
	@[ $$(docker image inspect -f '{{.Size}}' $(IMAGE)) -lt 25000000 ] || { echo "the image must stay below 25 MB" >&2; exit 1; }

demo: world image ## a cluster and a registry by kubectl apply, and a Pod from an image pushed a moment before
	tests/world/demo up

demo-down: ## remove the demo; Docker then has what it had before
	tests/world/demo down

bench: world image ## from apply to Ready, against the bare `docker run` of the same image
	$(WORLD) with tests/world/bench
