# make demo   a pool under load through several token rotations and an outage of Entra, on a local PostgreSQL
# make try    the aadpool command without Azure: aadpool check against the stand-ins, and a shell; FAULT=role-missing for a fault
# make test   the tests of every package, with the race detector, on a real PostgreSQL
# make test-all  the same, and what takes long by its nature: soaks, examples through rotations, demos, a failover
# make test-times  the 30 slowest tests, and how much of that each waits and computes (a quarter of an hour)
# make soak   a pool, and then aadpool proxy, under load and faults at random, for SOAK each (10m by default); SEED repeats an
#             earlier run's faults
# make fuzz   what a server says to the package, and a client to aadpool proxy, during start-up; any DSN, with a server that
#             listens for the token, and beside pgx; for FUZZ each (10m by default)
# make clients  Django with its own tests, node-postgres and PostgreSQL's regression tests, through aadpool proxy; for Debian
# make recipes  the programs of docs/recipes, each by its recipe, against the stand-ins; for Debian (a quarter of an hour at first)
# make bench  the benchmarks, and the comparison with peers, which writes bench/RESULTS.md and MEASUREMENTS.md (45 minutes);
#             make bench-NAME for one measurement
# make lint   gofmt, go vet (for Windows and macOS too), staticcheck, go mod tidy, actionlint, the list of exported names
# make api    adds new exported names to api/*.txt
# make cover  how much of the package, internal/ and aadpooltest the tests run
# make build  go build and go vet, on Windows too
# make vuln   known vulnerabilities of what the modules depend on
# make matrix the tests on the versions of PostgreSQL and PgBouncer that users have, and through a failover, which writes
#             docs/compatibility.md (half an hour); make matrix-NAME for one part: postgres, pgbouncer, failover, oauthbearer, clients,
#             prometheus
# make release-dry-run  all that a release has, in dist/, checked and not pushed: of the commit at hand as VERSION (v0.1.0-rc.1), or
#             of VERSION's tag if that is there (a quarter of an hour; FLAGS=-rebuild=false leaves out the second build)
# make azure  what the README promises, on a server in the subscription of az, which it makes and deletes: for NIGHT (0), in LOCATION
#             (westeurope), with a GUEST who has logged in with that AZURE_CONFIG_DIR, with the client id of an IDENTITY that this
#             machine of Azure has; it says what it costs, and asks. make azure-standins runs the same on the stand-ins alone
# make mutants  which changes of the code no test notices, in the package and internal/ (an hour or two; EVERY=5 makes a fifth of the
#             changes)

# Their versions are in tools/go.mod. Go builds each once and caches it.
TOOL = go tool -modfile=$(CURDIR)/tools/go.mod

# What make lint has for each module, in it; compiled as the tests are, so that they find it in the cache.
LINT = GOFLAGS=-race "$$(GOFLAGS= go tool -C $(CURDIR)/tools -n lint)" ./... && go mod tidy -diff

# The modules of their own, which keep what they depend on out of the package's.
MODULES = $(filter-out tools,$(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod)))

# What programs import: api/*.txt lists its names, and its functions are short.
LIBRARY = . $(wildcard aadpoolsql) otelaadpool
PUBLIC = $(LIBRARY) aadpooltest

# $(call in,modules,command) runs a command in each of the modules.
in = for module in $(1); do (set -x; cd $$module && $(2)) || exit 1; done

# $(call each,command) runs a command in each of the modules, two at a time, those that take longest first. What the
# examples of testcontainers, the tests of Helm's chart and the comparison with peers are made of takes longer to compile
# than all else: test-long has them.
LONGEST = . cmd/aadpool examples/tokenservice
LARGEST = deploy examples/standins bench
each = printf '%s\n' $(LONGEST) $(filter-out $(LONGEST) $(LARGEST),$(MODULES)) | xargs -P 2 -I '{}' sh -c 'cd {} && $(1)'

.PHONY: demo try test test-all test-long test-times soak fuzz clients recipes bench matrix mutants lint api cover build vuln azure azure-standins release release-dry-run postgresql

# Built first: go run turns the exit status of a program that Ctrl-C has ended into its own.
demo: postgresql
	@./scripts/with-directory.sh 'go build -o "$$dir/demo" ./examples/demo && exec "$$dir/demo"'

try: postgresql
	@./scripts/with-directory.sh 'go build -o "$$dir/serve" ./aadpooltest/serve && \
	go build -C cmd/aadpool -o "$$dir/aadpool" . && export PATH="$$dir:$$PATH" && \
	exec serve $(if $(FAULT),-fault $(FAULT)) -- ./scripts/try.sh $(FAULT)'

# A program with the race detector sleeps for a second before it ends, lest a goroutine that is left meets a race unseen:
# goleak looks for those. A hundred packages, and the programs that they start, end in a run.
test test-long: export GORACE = atexit_sleep_ms=0

# make lint vets what this compiles. The compiler and the linker collect less garbage, not the tests. Two modules at a
# time would both compile what they have in common: it is there before.
test: postgresql
	@GOGC=400 go build -race . ./aadpooltest ./internal/...
	@$(call each,GOGC=400 go test -race -short -vet off -exec "env -u GOGC" -timeout 15m ./...)

test-all: test test-long

# What make test leaves out since it is long by its nature, the longest last.
test-long: postgresql
	cd examples/ecosystem && go test -race -timeout 15m ./...
	@$(call in,$(LARGEST),$(LINT))
	cd examples/standins && go test -race -timeout 15m ./...
	cd deploy && $(PGBOUNCER) go test -race -timeout 15m ./...
	cd bench && go test -race -timeout 15m ./...
	go test -race -timeout 15m ./examples/demo ./test/soak ./test/docs ./test/pgxpool
	go test -race -timeout 15m -run '^TestSuiteRunsWholeOnTheStandIns$$' ./test/azure
	cd examples/tokenservice && go test -race -timeout 15m ./demo
	cd cmd/aadpool && go test -race -timeout 15m ./... -run \
		'^Test(AgentAsksEntraOnce|PasswordCommands|FaultsOfDSNsSeenInTheWild|ReloadDisturbsNoSessionOfAnotherServer)$$'
	cd cmd/aadpool && go test -race -timeout 15m -run '^Test(Soak|DrainTellsTheTruthAboutWrites)$$' ./internal/proxy
	cd scripts/release && go test -race -timeout 15m -run '^TestChartIsPushedAndPulled$$' .
	AADPOOL_FAILOVER=1 go test -race -timeout 15m ./test/failover

# One package after the other, nothing beside it: what is computed is the test's.
test-times: postgresql
	go run ./scripts/testtimes . $(MODULES)

soak: postgresql
	AADPOOL_SOAK=$(or $(SOAK),10m) AADPOOL_SOAK_SEED=$(SEED) go test -race -count 1 -run '^TestSoak$$' -v -timeout 0 ./test/soak
	cd cmd/aadpool && AADPOOL_SOAK=$(or $(SOAK),10m) AADPOOL_SOAK_SEED=$(SEED) \
		go test -race -count 1 -run '^TestSoak$$' -v -timeout 0 ./internal/proxy

fuzz: postgresql
	go test -run '^$$' -fuzz '^FuzzHostileServer$$' -fuzztime $(or $(FUZZ),10m) ./internal/login
	go test -run '^$$' -fuzz '^FuzzTokenOnTheWire$$' -fuzztime $(or $(FUZZ),10m) ./internal/login
	go test -run '^$$' -fuzz '^FuzzReadAsPgx$$' -fuzztime $(or $(FUZZ),10m) ./internal/dsn
	go test -run '^$$' -fuzz '^FuzzNoPlaintextOffTheMachine$$' -fuzztime $(or $(FUZZ),10m) ./internal/dsn
	cd cmd/aadpool && go test -run '^$$' -fuzz '^FuzzClientStartup$$' -fuzztime $(or $(FUZZ),10m) ./internal/proxy

clients: postgresql
	@dir=$${AADPOOL_PROXY_CLIENTS:-$${TMPDIR:-/tmp}/aadpool-clients} && ./scripts/install-proxy-clients.sh "$$dir" && cd cmd/aadpool && \
	AADPOOL_PROXY_CLIENTS="$$dir" AADPOOL_TEST_CHROMEDRIVER="$$(command -v chromedriver)" go test -count 1 -run '^Test(Django|NodePostgres|PostgresRegressionTests|DatabaseURLServesOtherClients|LoginByARealBrowser|LoginByDeviceCodeInATerminal)$$' -v -timeout 0 ./...

recipes: postgresql
	@dir=$${AADPOOL_RECIPES:-$${TMPDIR:-/tmp}/aadpool-recipes} && ./scripts/install-recipes.sh "$$dir" && \
	AADPOOL_RECIPES="$$dir" go test -count 1 -run '^TestRecipes$$' -v -timeout 0 ./test/recipes

# PgBouncer as docs/pgbouncer.md has it, where it can be fetched.
PGBOUNCER = AADPOOL_PGBOUNCER="$$(cd $(CURDIR) && go run ./test/matrix -pgbouncer trixie)"

bench: postgresql
	go test -run '^$$' -bench . .
	cd bench && $(PGBOUNCER) go run .

bench-%: postgresql
	cd bench && $(PGBOUNCER) go run . -only $*

matrix: postgresql
	go run ./test/matrix

matrix-%: postgresql
	go run ./test/matrix $*

# The packages to change, all that programs run of the root module, and whose tests may notice: all of theirs. An hour or
# two; FILES='^internal/token/' for less, EVERY=5 for an estimate by each fifth.
MUTANTS = . $(filter-out ./internal/azuretest ./internal/credential,$(addprefix ./,$(wildcard internal/*)))
mutants: postgresql
	go run ./test/mutants $(if $(FILES),-files '$(FILES)') $(if $(EVERY),-every $(EVERY)) $(MUTANTS)

# All is compiled as the tests are, so that one finds in the cache what was compiled for the other; not so the tools.
lint: export GOFLAGS = -race
lint: export GOGC = 400
lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'lint: run gofmt -w on these files'; exit 1; }
	@# One after the other: two at a time would both compile what they have in common.
	@$(call in,. $(filter-out $(LARGEST),$(MODULES)),$(LINT))
	cd tools && GOFLAGS= go tool lint ./... && go mod tidy -diff
	@# For other systems what differs there, by its types alone; make build vets all of it on them.
	cd tools && for system in windows darwin; do GOFLAGS= go tool othersystems ../cmd/aadpool $$system \
		./... $(addprefix github.com/aadpool/,aadpool aadpool/aadpooltest aadpool/internal/dsn) || exit 1; done
	go run ./scripts/length -lines 40 $(LIBRARY) $(wildcard internal/*) cmd/aadpool \
		$(wildcard cmd/aadpool/internal/*) $(patsubst %/,%,$(sort $(dir $(wildcard scripts/*/*.go))))
	go run ./scripts/length -columns 120 $(sort $(dir $(shell git ls-files '*.go')))
	go run ./scripts/apilist $(PUBLIC)
	cd bench && go run ./pages -stale
	GOFLAGS= $(TOOL) actionlint $(wildcard .github/workflows/*.yml)
	sed -n '/^on: workflow_dispatch/,/^```/{/^```/!p}' docs/recipes/pipelines.md | \
		GOFLAGS= $(TOOL) actionlint -stdin-filename docs/recipes/pipelines.md -

api:
	go run ./scripts/apilist -add $(PUBLIC)

cover: postgresql
	go test -coverpkg .,./internal/...,./aadpooltest -coverprofile cover.out . ./internal/... ./aadpooltest ./test/...
	@go tool cover -func cover.out | tail -n 1

build:
	@$(call in,. $(MODULES),go build ./... && go vet ./...)

vuln:
	@$(call in,. $(MODULES),$(TOOL) govulncheck ./...)

# Built first, as demo is: Ctrl-C is for the suite, which deletes what it has made.
azure: AZURE = -azure -location "$(or $(LOCATION),westeurope)" -night "$(or $(NIGHT),0)" -guest "$(GUEST)" -identity "$(IDENTITY)"
azure azure-standins: postgresql
	@./scripts/with-directory.sh 'go build -C cmd/aadpool -o "$$dir/aadpool" . && go build -o "$$dir/azure" ./test/azure && \
	exec "$$dir/azure" -aadpool "$$dir/aadpool" $(AZURE)'

release-dry-run:
	cd scripts/release && nice go run . $(if $(VERSION),-version $(VERSION)) $(FLAGS)

# What a workflow does after somebody has pushed the tag VERSION; it pushes nothing either.
release:
	cd scripts/release && go run . -version $(VERSION) -tag -rebuild=false

# PostgreSQL's server programs, installed where that can be done.
postgresql:
	@./scripts/install-postgresql.sh
