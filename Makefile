# What is done with this repository; 'make' alone lists it.

PROGRAMS := penstock penstock-agent penstock-llama
# Debian's Python is the one whose PyTorch hack/setup/deps.sh installs.
PYTHON := /usr/bin/python3
# Packages in which goroutines share state: they are tested with the race detector, too.
RACE := ./internal/agent/... ./internal/feed ./internal/httpapi \
	./internal/run/local ./internal/serve/... ./internal/store/sqlite ./cmd/penstock-llama
# As above, but what they wait for makes it minutes: 'make soak'.
RACE_LONG := ./internal/blob/s3 ./internal/store/postgres ./internal/run/slurm

# Packages whose tests want a whole Kubernetes (hack/cluster).
CLUSTER := ./internal/run/kubernetes ./examples/fleet ./deploy/...

# Everything here wants the whole machine, and the demo builds after it installs.
.NOTPARALLEL:
.PHONY: help deps deps-test build demo test check race python tour image image-test bench cluster kubernetes soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what the demo needs: PyTorch (apt), llama.cpp and the page's scripts (npm)
	hack/setup/deps.sh torch
	hack/llama/install.sh
	hack/web/install.sh

deps-test: ## install what the tests need, too: a browser, a C compiler, Slurm, an S3 server, Kubernetes
	hack/setup/deps.sh all
	hack/llama/install.sh
	hack/web/install.sh
	hack/openai/install.sh
	hack/versitygw/install.sh
	hack/kubernetes/install.sh

build: ## build the programs, static, into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ $(PROGRAMS:%=./cmd/%)

demo: deps build ## take a model all the way (DEMO_FAST=1 trains less, DEMO_KEEP=1 leaves the server up)
	go run ./examples/tour

test: export PENSTOCK_CI = 1
test: deps-test check kubernetes race python image-test tour ## install what the tests need, then run all of them

check: ## what must be green before each commit: form, vet, all tests but the tour and those of a cluster
	@unformed=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformed" ]; then echo "gofmt would change: $$unformed" >&2; exit 1; fi
	go vet ./...
	go test -timeout 20m $$(go list ./... | grep -vxF "$$(go list $(CLUSTER) ./examples/tour)")

# A cluster of its own, with few fake nodes: tests make those that they want. Its
# one real node has two cores, so packages go one after the other.
kubernetes: export PENSTOCK_CLUSTER_STATE = $(CURDIR)/.build/cluster/test
kubernetes: ## run the tests on a real Kubernetes, and start it for them
	hack/cluster up --nodes 10
	go test -count=1 -p 1 -timeout 30m $(CLUSTER); status=$$?; hack/cluster down; exit $$status

soak: ## run what takes long: 200 rounds of three servers on a database that fails; real engines under the race detector
	PENSTOCK_CHAOS_ROUNDS=200 go test -count=1 -v -timeout 60m ./internal/sim/replica
	CGO_ENABLED=1 go test -race -count=1 -p 1 -timeout 60m $(RACE_LONG)

race: ## run the tests of concurrent packages under the race detector
	CGO_ENABLED=1 go test -race -short $(RACE)
	# In the loops' tests the detector slows the database tenfold: two go through every stage.
	CGO_ENABLED=1 go test -race -run 'WholeWorkflow|ReportsAreTaken' ./internal/control

python: ## test the tour's training code
	$(PYTHON) -B -m unittest discover -s examples/tour/test

tour: build ## run the tour as a test, fast
	go test -count=1 -timeout 15m -v ./examples/tour

image: ## make the OCI images, for amd64 and arm64, into .build/image; pushes nothing
	hack/web/install.sh
	go -C hack/image run . build

image-test: ## test the images; they have a Go module of their own
	cd hack/image && go vet . && go test -count=1 .

bench: ## measure what docs/benchmarks.md tells of
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v /examples)

cluster: ## start a real Kubernetes on this machine, with 500 fake GPU nodes (hack/cluster)
	hack/cluster up

clean: ## remove what was built; what npm and apt installed stays
	rm -rf bin .build/demo .build/image
