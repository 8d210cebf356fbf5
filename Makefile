# Targets for development; `make` lists them. All work in a clean clone on a new Debian machine.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help check fmt clippy deny crds-check chart gitops monitoring shellcheck workflows crds test unit unit-build unit-short unit-long world e2e e2e-all e2e-build matrix newest hosts hosts-down image localcluster book release publish reproduce upgrade demo demo-down bench bench-ready bench-scale explore mutants simulate simulate-hosts campaign soak world-down

WORLD := tests/world/world
CACHE ?= $(or $(WORLD_CACHE),$(HOME)/.cache/localcluster-operator)
IMAGE ?= localcluster-operator:dev
# Cargo profile of the image, see release/compile.
export PROFILE ?= dist
# To change dependencies: make LOCKED= …
LOCKED ?= --locked
# Architecture of this machine in the words of images.
ARCH := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))

# Tests that need the test world (Docker, images, a management cluster). All other files of tests/ run anywhere.
LIVE := %_live crds e2e
TESTS := $(filter-out bench hosts scale soak,$(basename $(notdir $(wildcard tests/*.rs))))
LIVE_TESTS := $(filter $(LIVE),$(TESTS))
UNIT_TESTS := $(filter-out $(LIVE),$(TESTS))
LONG := exhaustive plan reconcile repair simulation storms

DENY_VERSION := 0.20.2
DENY := $(CACHE)/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
HELM_VERSION := 3.22.0
export HELM := $(CACHE)/tools/helm-$(HELM_VERSION)/helm
PROMTOOL_VERSION := 0.316.0
export PROMTOOL := $(CACHE)/tools/promtool-$(PROMTOOL_VERSION)/promtool
CRANE_VERSION := 0.22.1
export CRANE := $(CACHE)/tools/crane-$(CRANE_VERSION)/crane
CYCLONEDX_VERSION := 0.5.9
export CYCLONEDX := $(CACHE)/tools/cargo-cyclonedx-$(CYCLONEDX_VERSION)/bin/cargo-cyclonedx
MDBOOK_VERSION := 0.5.4
export MDBOOK := $(CACHE)/tools/mdbook-$(MDBOOK_VERSION)/bin/mdbook
ACTIONLINT_VERSION := 1.7.12
ACTIONLINT := $(CACHE)/tools/actionlint-$(ACTIONLINT_VERSION)/actionlint
MUTANTS_VERSION := 27.1.0
MUTANTS := $(CACHE)/tools/cargo-mutants-$(MUTANTS_VERSION)/bin/cargo-mutants

help: ## list targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

# Building promtool takes minutes, so the alerts are checked here only where it exists; `make monitoring` builds it.
check: fmt clippy deny crds-check chart gitops $(if $(wildcard $(PROMTOOL)),monitoring) shellcheck workflows ## formatting, lints, licenses, generated files, Helm chart, GitOps, shell scripts, workflows

fmt:
	cargo fmt --check
	cargo fmt --check --manifest-path tests/mutants/Cargo.toml

clippy:
	cargo clippy $(LOCKED) --all-targets -- -D warnings

deny: $(DENY)
	$(DENY) --locked check --hide-inclusion-graph licenses bans sources
	@if timeout 60 $(DENY) --locked fetch db >/dev/null 2>&1; then \
		$(DENY) --locked check --disable-fetch advisories; \
	elif [ "$(DENY_ADVISORIES)" = required ]; then \
		echo "advisories: the database cannot be fetched: check the network, or allow that without DENY_ADVISORIES=required" >&2; exit 1; \
	else echo "advisories: the database cannot be fetched here; not checked"; fi

# Unoptimized: it runs for a second, and an optimized build takes minutes.
$(DENY):
	cargo install cargo-deny --debug --version $(DENY_VERSION) --locked --root $(CACHE)/tools/cargo-deny-$(DENY_VERSION)

# The binary that the tests build. `cargo run` would compile most dependencies again, with other features.
CRDS := cargo test $(LOCKED) -q --no-run --test cli && target/debug/localcluster-operator crds

crds-check:
	$(CRDS) --check crds
	target/debug/localcluster-operator crds --format markdown --check docs/reference

shellcheck:
	@if command -v shellcheck >/dev/null; then \
		cd tests/world && shellcheck -x world demo e2e hosts matrix upgrade lib/*.sh engine/in-root node-image/{build,build-images,check,mirror.sh,rootfs.sh,runc-wrap} ../../deploy/samples/tenancy/demo.sh ../chart/check ../monitoring/check ../mutants/run ../../.ci/run ../../action/{cluster,report} ../../docs/build ../../release/{build,check,compile,publish,reproduce,version} ../../src/plan/registry/{cache,retention}.sh && \
		echo "shellcheck: ok"; \
	else echo "shellcheck: not installed; not checked"; fi

workflows: $(ACTIONLINT)
	$(ACTIONLINT)

$(ACTIONLINT):
	GOBIN=$(@D) CGO_ENABLED=0 go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)

chart: $(HELM) ## lint the Helm chart, and compare what it renders with tests/chart; UPDATE=1 writes that anew
	tests/chart/check

# Go modules are served where releases of helm are not.
$(HELM):
	@command -v go >/dev/null || { echo "helm is built from source: install Go 1.24 or later" >&2; exit 1; }
	GOBIN=$(@D) CGO_ENABLED=0 go install helm.sh/helm/v3/cmd/helm@v$(HELM_VERSION)

gitops: ## health of the objects in Argo CD and Flux, by the libraries that these use
	@command -v go >/dev/null || { echo "tests/gitops is a Go program: install Go 1.24 or later" >&2; exit 1; }
	cd tests/gitops && test -z "$$(gofmt -l .)" && go vet . && go run . ../..

monitoring: $(PROMTOOL) ## check and test the alerts of deploy/monitoring with promtool
	tests/monitoring/check

# Go modules are served where releases of Prometheus are not. It takes six minutes on two cores.
$(PROMTOOL):
	@command -v go >/dev/null || { echo "promtool is built from source: install Go 1.24 or later" >&2; exit 1; }
	GOBIN=$(@D) CGO_ENABLED=0 go install github.com/prometheus/prometheus/cmd/promtool@v$(PROMTOOL_VERSION)

crds: ## generate crds/ and docs/reference from the code
	$(CRDS) --output crds
	target/debug/localcluster-operator crds --format markdown --output docs/reference

# What needs minutes of CPU time runs beside the end-to-end tests, which mostly wait: the longest unit tests, and a release for
# this architecture only. It has idle priority, because the end-to-end tests measure durations.
test: ## all tests, on Docker and real clusters
	$(MAKE) --no-print-directory world
	@mkdir -p target
	@echo 'checking the node image in the background'
	@$(WORLD) check >target/node-check.log 2>&1 & check=$$!; \
	failed=; \
	nice $(MAKE) --no-print-directory unit-build && \
		nice $(MAKE) --no-print-directory -j2 -Otarget unit-short image || failed=1; \
	wait $$check || failed=1; \
	cat target/node-check.log; \
	[ -z "$$failed" ]
	@chrt --idle 0 $(MAKE) --no-print-directory unit-long release ARCHS=$(ARCH) >target/unit-long.log 2>&1 & long=$$!; \
	failed=; \
	$(MAKE) --no-print-directory e2e-build && \
		{ $(MAKE) --no-print-directory newest >target/newest.log 2>&1 & newest=$$!; }; \
	$(MAKE) --no-print-directory e2e || failed=1; \
	wait $$newest || failed=1; \
	cat target/newest.log; \
	wait $$long || failed=1; \
	cat target/unit-long.log; \
	[ -z "$$failed" ]

# The property tests use the same cases in every run, so a new failure is due to the change.
unit-short unit-long: export PROPTEST_RNG_SEED ?= 1

unit: unit-short unit-long ## tests that need no Docker

unit-build:
	cargo test $(LOCKED) --no-run --lib --bins $(addprefix --test ,$(UNIT_TESTS))

unit-short:
	cargo test $(LOCKED) --lib --bins $(addprefix --test ,$(filter-out $(LONG),$(UNIT_TESTS)))

unit-long:
	cargo test $(LOCKED) $(addprefix --test ,$(LONG))

# ENGINE=20|26|28|29, STORE=containerd and TOPOLOGY=host choose another Docker Engine; see `tests/world/world help`.
e2e: export ONLY ?= $(GROUPS)
e2e: world image e2e-build ## tests that need Docker and a management cluster: GROUPS="registry cluster::a_test others"
	tests/world/e2e $(IMAGE) $(LIVE_TESTS)

e2e-build: $(HELM)
	$(WORLD) images --second
	cargo test $(LOCKED) --no-run $(addprefix --test ,$(LIVE_TESTS))

e2e-all: export E2E_ALL ?= 1
e2e-all: e2e ## the same, with those that take minutes

world: ## Docker and images; for single steps see tests/world/world
	$(WORLD) docker
	$(WORLD) images

world-down: ## remove the management cluster and everything it created
	$(WORLD) down --docker

image: ## build the operator's image, localcluster-operator:dev
	$(WORLD) docker
	rm -rf target/image && mkdir -p target/image
	bin=$$(release/compile $(ARCH) localcluster-operator) && cp Dockerfile "$$bin/localcluster-operator" target/image/
	docker build -q -t $(IMAGE) target/image
	@docker image inspect -f '$(IMAGE): {{.Size}} bytes' $(IMAGE)
	@[ $$(docker image inspect -f '{{.Size}}' $(IMAGE)) -lt 25000000 ] || { echo "the image must stay below 25 MB" >&2; exit 1; }

localcluster: ## the command, target/bin/localcluster, and the image of the operator that it starts
	$(MAKE) --no-print-directory image "IMAGE=localcluster-operator:$$(release/version)"
	bin=$$(release/compile $(ARCH) localcluster) && mkdir -p target/bin && cp "$$bin/localcluster" target/bin/

export ARCHS ?= amd64 arm64
# The world copies it from the node image where there is none.
export KUBECTL ?= $(or $(shell command -v kubectl),$(CACHE)/bin/kubectl)
release: $(CRANE) $(HELM) $(CYCLONEDX) ## everything of a release in dist/, checked: REPOSITORY=registry.example.com/localcluster-operator RELEASE_URL=… ARCHS="amd64 arm64"
	release/build
	release/check

publish: $(CRANE) $(HELM) ## push the image and the chart of dist/: REPOSITORY=…
	release/publish

reproduce: $(CRANE) $(HELM) $(CYCLONEDX) ## builds dist/ of the last commit again in another directory, and compares
	release/reproduce

$(CRANE):
	@command -v go >/dev/null || { echo "crane is built from source: install Go 1.24 or later" >&2; exit 1; }
	GOBIN=$(@D) CGO_ENABLED=0 go install github.com/google/go-containerregistry/cmd/crane@v$(CRANE_VERSION)

$(CYCLONEDX):
	cargo install cargo-cyclonedx --debug --version $(CYCLONEDX_VERSION) --locked --root $(CACHE)/tools/cargo-cyclonedx-$(CYCLONEDX_VERSION)

book: $(MDBOOK) ## the documentation with search, in target/book
	docs/build target/book

$(MDBOOK):
	cargo install mdbook --debug --version $(MDBOOK_VERSION) --locked --root $(CACHE)/tools/mdbook-$(MDBOOK_VERSION)

matrix: world image e2e-build ## a short list of end-to-end tests on other Docker Engines: ROWS="28 28:containerd 28@host"
	tests/world/matrix $(IMAGE) $(ROWS)

# The newest engine that is packaged, with the topology that differs most, and registry and nginx in new versions.
newest:
	tests/world/matrix $(IMAGE) 28@host

hosts: image ## end-to-end tests with several Docker hosts in one management cluster: GROUPS="drain placement::a_test", HOSTS="28 28 28"
	cargo test $(LOCKED) --no-run --test hosts
	OPERATOR_IMAGE=$(IMAGE) tests/world/hosts with cargo test $(LOCKED) --test hosts -- $(GROUPS)

hosts-down: ## remove these hosts
	tests/world/hosts down

upgrade: world image ## upgrades the operator from another commit while clusters run: FROM=COMMIT
	tests/world/upgrade "$(FROM)" $(IMAGE)

demo: world image ## a cluster and a registry by kubectl apply, and a Pod from a pushed image
	tests/world/demo up

demo-down: ## remove the demo
	tests/world/demo down

bench: world image ## durations, next to K3s's own: BENCH="create life drift registries many paths calls pool ready images", KILLS=100, …
	$(WORLD) images --second
	cargo test $(LOCKED) --no-run --test bench
	$(WORLD) with cargo test $(LOCKED) --test bench -- $(BENCH)

bench-ready: ## from nothing to the first Pod, by phases, next to `docker run`, and to k3d and kind by path: K3D=…, KIND=…, ROUNDS=3
	$(MAKE) --no-print-directory bench BENCH=ready

bench-scale: export CLUSTERS ?= 500
bench-scale: export REGISTRIES ?= 100
bench-scale: export IDLE ?= 6
bench-scale: export OPERATOR ?= target/image/localcluster-operator
bench-scale: world image ## memory and requests of the operator with many objects on a fake of Docker: CLUSTERS=500 REGISTRIES=100 IDLE=6
	cargo test $(LOCKED) --no-run --test scale
	$(WORLD) with cargo test $(LOCKED) --test scale

explore: export PROPTEST_CASES ?= 1000
explore: export EXPLORE_ALL ?= 1
explore: export FAULTS ?= all
explore: ## small clusters in full, faults at every call, other cases of the properties: PROPTEST_CASES=1000
	cargo test $(LOCKED) --test exhaustive --test plan --test reconcile --test hostile --test registries_file --no-fail-fast

campaign: export SEED ?= 1
campaign: export EDITS ?= 500
campaign: export OBJECTS ?= 4
campaign: world image ## random edits of specs on real clusters, each compared with a new one: SEED=1 EDITS=500 OBJECTS=4
	$(WORLD) images --second
	cargo test $(LOCKED) --no-run --test campaign_live
	$(WORLD) with bash -c '$(WORLD) load $(IMAGE) && cargo test $(LOCKED) --test campaign_live'

# Its own package has its own tests, as nothing else builds it.
mutants: $(MUTANTS) ## changes of the pure core that no test notices: DIFF=main for a branch, ONLY=src/k3s, SHARD=0/40, LEFT=1
	cargo test --quiet $(LOCKED) --manifest-path tests/mutants/Cargo.toml --target-dir target/mutants/tool
	MUTANTS=$(MUTANTS) tests/mutants/run

$(MUTANTS):
	cargo install cargo-mutants --debug --version $(MUTANTS_VERSION) --locked --root $(CACHE)/tools/cargo-mutants-$(MUTANTS_VERSION)

# `simulate`: optimized, with the overflow checks of a debug build. What lives of a commit add up to is kept.
simulate: export MINUTES ?= $(if $(LIVES),,10)
simulate: export SEED ?= 1
simulate: export SUM ?= $(shell git diff --quiet HEAD && echo $(CURDIR)/target/lives/$$(git rev-parse --short=12 HEAD))
simulate: ## lives of many objects with faults of every kind, on all cores: MINUTES=10 or LIVES=1000000, SEED=1
	cargo test $(LOCKED) --profile simulate --test simulation -- --nocapture lives_go_well

simulate-hosts: export MINUTES ?= 10
simulate-hosts: export SEED ?= 1
simulate-hosts: export HOSTS ?= 10
simulate-hosts: export CLUSTERS ?= 100
simulate-hosts: ## lives of many clusters on many Docker hosts: MINUTES=10 SEED=1 HOSTS=10 CLUSTERS=100
	cargo test $(LOCKED) --profile simulate --test reconcile -- --nocapture lives_on_many_hosts_go_well

# Also restarts the Docker engine and all its containers.
soak: export DOCKER_RESTART ?= 1
soak: world image ## an hour of random disturbances: SEED=…, MINUTES=60, DOCKER_RESTART=0
	$(WORLD) images --second
	cargo test $(LOCKED) --no-run --test soak
	$(WORLD) with cargo test $(LOCKED) --test soak
