# Go is all that most of this needs. `make deploy` and `make destroy` also need
# the SAM CLI and AWS credentials. Variables are given as in `make run PORT=9000`.

SHELL       := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

FUNCTIONS := $(notdir $(patsubst %/main.go,%,$(wildcard functions/*/main.go)))
DATA_DIR  ?= .data
export DATA_DIR

# What is deployed: static, small, and the same bytes from every machine. Nothing
# of the checkout is stamped in; what went in stands in .build/sbom.json.
GOARCH  ?= arm64
RELEASE := CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -trimpath -buildvcs=false -ldflags='-s -w -buildid='

# Builds a program for this machine and becomes it, so that a signal meant for it
# reaches it, which `go run` in between would not do. The program's name is the
# last part of its path.
start = GOOS= GOARCH= go build -o .build/local/$(notdir $(1)) $(1) && exec .build/local/$(notdir $(1))

##@ The system on this machine

.PHONY: run
run: ## The whole system on this machine. PORT, AWS_PORT, WHATSAPP_PORT, DATA_DIR, BIND, WHATSAPP=live
	@$(call start,./cmd/whatisup) run

.PHONY: host
host: ## One more session host, a process of its own, on a running `make run`
	@$(call start,./cmd/whatisup) host

.PHONY: aws
aws: ## The embedded DynamoDB, SQS, KMS and S3 alone. AWS_PORT
	@$(call start,./local/aws/cmd/aws)

.PHONY: simulator
simulator: ## The simulated WhatsApp alone. WHATSAPP_PORT
	@$(call start,./local/whatsapp/cmd/simulator)

.PHONY: customer
customer: ## Makes a customer and prints its id and keys: NAME=acme. STACK=whatisup for a deployed stack
	@$(call start,./cmd/whatisup) customer '$(NAME)'

.PHONY: operator
operator: ## Lists, suspends, limits customers; makes, rotates, revokes keys: ARGS='list'. STACK=whatisup
	@$(call start,./cmd/whatisup) operator $(ARGS)

.PHONY: qr
qr: ## Draws an instance's code in the terminal: ID=…. API=https://… KEY=… for a deployed stack
	@$(call start,./cmd/whatisup) qr '$(ID)'

.PHONY: invoke
invoke: ## Runs a Lambda's real binary on a sample event, against the running stack: EVENT=qr. Lists them without
	@$(call start,./local/gateway/cmd/invoke) -event '$(EVENT)' $(if $(ID),-id '$(ID)')

.PHONY: events
events: ## Writes events/ filled for the running stack, and an env.json, to DATA_DIR/events for `sam local invoke`
	@$(call start,./local/gateway/cmd/invoke) -fill "$$DATA_DIR/events" $(if $(ID),-id '$(ID)')

##@ Checks

.PHONY: test
test: ## All tests. Fetches the modules, axe-core and Baileys, if they are not there yet
	$(baileys)
	$(axe) go test ./...
	$(interfaces)
	$(cfn-lint)
	$(browser)

# axe-core looks at every state of the dashboard that the browser tests visit. What is
# fetched stays in .build. Another version may find more, so it is a fixed one.
AXE_VERSION := 4.14.1
axe = if command -v npm >/dev/null && npm install --prefix .build/axe --prefer-offline --no-audit --no-fund --ignore-scripts axe-core@$(AXE_VERSION) >/dev/null 2>&1; \
	then export AXE="$$PWD/.build/axe/node_modules/axe-core/axe.min.js"; else echo 'npm is not installed, or reaches no registry: axe did not look at the dashboard'; fi;

# Baileys judges the simulator. Its version stands beside the judge.
baileys = @if command -v npm >/dev/null && npm install --prefix local/whatsapp/testdata/baileys --prefer-offline --no-audit --no-fund --no-package-lock --ignore-scripts >/dev/null 2>&1; \
	then :; else echo 'npm is not installed, or reaches no registry: Baileys did not judge the simulator'; fi

# With -v, so that what was skipped is seen.
interfaces = INTERFACES=1 go test -v ./local/interfacetest

.PHONY: interfaces
interfaces: ## The OpenAPI document in other people's tools, and Baileys at the other end of all messages. Needs npm
	$(interfaces)

.PHONY: race
race: ## All tests under the race detector
	go test -race ./...

# What is not installed, or not reachable, is said and not passed over.
cfn-lint = @if command -v cfn-lint >/dev/null; then echo cfn-lint template.yaml; cfn-lint template.yaml; \
	else echo 'cfn-lint is not installed: template.yaml was not linted'; fi

browser = @command -v chromium >/dev/null || echo 'chromium is not installed: the dashboard was not tried in a browser'

.PHONY: lint
lint: ## Format, vet, staticcheck, deadcode, module sums, licences, reproducible builds, cfn-lint and known vulnerabilities, where reachable
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	@echo deadcode -test ./...; dead=$$(go run golang.org/x/tools/cmd/deadcode@v0.52.0 -test ./...) || exit 1; \
	if [ -n "$$dead" ]; then echo "$$dead"; exit 1; fi
	go mod verify
	DEPLOY_LONG=1 go test -count=1 -run 'TestLicences|TestReproducible' ./local/deploy/deploytest
	$(cfn-lint)
	@echo govulncheck ./...; said=$$(go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... 2>&1) && echo "$$said" || \
	case "$$said" in *vuln.go.dev*) echo 'the vulnerability database is not reachable: nothing was looked up';; *) echo "$$said"; exit 1;; esac

.PHONY: fuzz
fuzz: ## Every fuzz target, FUZZTIME (20s) each
	@go list ./... | while read -r p; do \
	  for f in $$(go test -list '^Fuzz' "$$p" | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-20s} "$$p"; \
	  done; done

.PHONY: conformance
conformance: ## The stand-ins and stores against their oracles, at length. CONFORMANCE_TIME (10m)
	CONFORMANCE=long CRASH_ROUNDS=100 go test -count=1 -timeout 2h ./local/aws/...
	DEVICESTORE_STEPS=10000 DEVICESTORE_MESSAGES=2000 go test -count=1 -timeout 2h ./sessionhost/devicestore/...
	DEVICESTORE_FORMAT=rows DEVICESTORE_STEPS=10000 DEVICESTORE_MESSAGES=2000 go test -count=1 -timeout 2h ./sessionhost/devicestore/...

.PHONY: soak
soak: ## A host's death at every write, 1,000 sessions in storms and takeovers, long conversations; over an hour. SOAK_DEATHS (1000)
	SOAK=1 DEVICESTORE_MESSAGES=10000 go test -count=1 -timeout 6h ./sessionhost/...
	WEBHOOK_KILLS=1000 go test -count=1 -timeout 1h -run TestDeathAtEachStep ./shared/webhook

.PHONY: next-client
next-client: ## Builds and tests with the newest WhatsApp library, and changes nothing; for a weekly job
	@mkdir -p .build && cp go.mod .build/next.mod && cp go.sum .build/next.sum
	go get -modfile=.build/next.mod go.mau.fi/whatsmeow@latest
	go build -modfile=.build/next.mod ./...
	go test -modfile=.build/next.mod ./sessionhost/... ./local/whatsapp

.PHONY: bench
bench: ## Measures the whole system, prints a table, writes bench.json
	@$(call start,./local/bench)

##@ One server

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: release
release: ## Archives, Debian packages and images of whatisup for Linux on amd64 and arm64, in dist/. VERSION
	@mkdir -p .build/image/data
	@GOOS= GOARCH= go build -o .build/local/release ./local/release/cmd/release
	@GOOS= GOARCH= go build -o .build/local/image ./local/deploy/image/cmd/image
	@for arch in amd64 arm64; do \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags='-s -w -buildid= -X main.version=$(VERSION)' -o .build/release/$$arch/whatisup ./cmd/whatisup; \
	  .build/local/release -version '$(VERSION)' -arch $$arch .build/release/$$arch/whatisup LICENSE; \
	  .build/local/image -arch $$arch -o dist/whatisup-image_$(VERSION)_linux_$$arch.tar .build/release/$$arch/whatisup; \
	done

##@ Deployment

.PHONY: build
build: $(FUNCTIONS:%=.build/%/bootstrap) ## The Lambda binaries, in .build/<function>/bootstrap, and .build/sbom.json. GOARCH (arm64)
	@GOOS= GOARCH= go build -o .build/local/sbom ./local/deploy/image/cmd/sbom
	@.build/local/sbom $^ > .build/sbom.json

.PHONY: FORCE
.build/%/bootstrap: FORCE
	$(RELEASE) -tags lambda.norpc -o $@ ./functions/$*

.PHONY: image
image: ## The session host's image, as an OCI archive that needs no Docker. PUSH=repository:tag sends it there
	$(RELEASE) -o .build/image/sessionhost ./sessionhost
	$(RELEASE) -o .build/image/simulator ./local/whatsapp/cmd/simulator
	$(RELEASE) -o .build/image/withroot ./local/deploy/image/cmd/withroot
	@mkdir -p .build/image/data
	@GOOS= GOARCH= go build -o .build/local/image ./local/deploy/image/cmd/image
	@.build/local/image -arch $(GOARCH) -o .build/sessionhost.tar $(if $(PUSH),-push '$(PUSH)') .build/image/sessionhost .build/image/simulator .build/image/withroot
	@GOOS= GOARCH= go build -o .build/local/sbom ./local/deploy/image/cmd/sbom
	@.build/local/sbom .build/image/sessionhost .build/image/simulator .build/image/withroot > .build/sbom-image.json

# What works on a stack over AWS's own API; $(1) is the command.
stack = GOOS= GOARCH= go build -o .build/local/stack ./local/deploy/stack/cmd/stack && \
	.build/local/stack $(1) -stack '$(or $(STACK),whatisup)'

.PHONY: preflight
preflight: build ## Looks at what AWS would refuse half-way, and changes nothing. HOST_IMAGE, SET, STACK as for deploy
	@$(call stack,preflight) -image '$(HOST_IMAGE)' $(SET)

.PHONY: deploy
deploy: preflight ## Deploys template.yaml. HOST_IMAGE=… starts the session hosts; SET='Sandbox=true …' sets parameters. YES=1 asks nothing, ROLE=… is CloudFormation's. STACK=whatisup
	sam deploy --template-file template.yaml --stack-name '$(or $(STACK),whatisup)' \
	  $(if $(HOST_IMAGE)$(SET),--parameter-overrides $(if $(HOST_IMAGE),'HostImageUri=$(HOST_IMAGE)') $(SET)) \
	  $(if $(YES),--no-confirm-changeset) $(if $(ROLE),--role-arn '$(ROLE)') $(ARGS)
	@$(call stack,protect)

.PHONY: upgrade-hosts
upgrade-hosts: ## Changes the session hosts' image and nothing else, without a question: HOST_IMAGE=…. STACK=whatisup
	@$(call stack,upgrade-hosts) -image '$(HOST_IMAGE)'

.PHONY: destroy
destroy: ## Removes the stack, after a question. Refuses while instances are linked, unless FORCE=1. STACK=whatisup
	@$(call stack,destroy) $(if $(FORCE),-force)

##@ Help

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
