# make demo   a pool under load through several token rotations, on a local PostgreSQL
# make test   every test, with the race detector, on a real PostgreSQL
# make bench  the benchmarks
# make lint   gofmt, go vet, staticcheck, go mod tidy

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: demo test bench lint postgresql

# Built first: go run turns the exit status of a program that Ctrl-C has ended into its own.
demo: postgresql
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && trap : INT && \
	go build -o "$$dir/demo" ./examples/demo && "$$dir/demo"

test: postgresql
	go test -race -timeout 5m ./...

bench: postgresql
	go test -run '^$$' -bench . ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'lint: run gofmt -w on these files'; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff

# PostgreSQL's server programs, installed where that can be done.
postgresql:
	@./scripts/install-postgresql.sh
