# make demo   a pool under load through several token rotations, on a local PostgreSQL
# make test   every test, with the race detector, on a real PostgreSQL
# make soak   a pool under load and faults at random, for SOAK (10m by default); SEED repeats an earlier run's faults
# make bench  the benchmarks, and the comparison with peers, which writes bench/RESULTS.md (10 minutes)
# make lint   gofmt, go vet, staticcheck, go mod tidy

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The modules of their own, which keep what they depend on out of the package's.
MODULES = cmd/aadpool otelaadpool bench examples/ecosystem examples/tokenservice

.PHONY: demo test soak bench lint postgresql

# Built first: go run turns the exit status of a program that Ctrl-C has ended into its own.
demo: postgresql
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && trap : INT && \
	go build -o "$$dir/demo" ./examples/demo && "$$dir/demo"

test: postgresql
	go test -race -timeout 5m ./...
	@# Four packages at a time: they mostly wait.
	@for module in $(MODULES); do \
		(set -x; cd $$module && go test -race -timeout 5m -p 4 ./...) || exit 1; \
	done

soak: postgresql
	AADPOOL_SOAK=$(or $(SOAK),10m) AADPOOL_SOAK_SEED=$(SEED) go test -race -count 1 -run '^TestSoak$$' -v -timeout 0 ./test/soak

bench: postgresql
	go test -run '^$$' -bench . .
	cd bench && go run .

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'lint: run gofmt -w on these files'; exit 1; }
	@for module in . $(MODULES); do \
		(set -x; cd $$module && go vet ./... && go run $(STATICCHECK) ./... && go mod tidy -diff) || exit 1; \
	done

# PostgreSQL's server programs, installed where that can be done.
postgresql:
	@./scripts/install-postgresql.sh
