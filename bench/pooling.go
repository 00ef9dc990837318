package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/internal/freeport"
)

const (
	wayPooled    = "PgBouncer before aadpool proxy"
	recipeFile   = "../deploy/helm/aadpool/files/pgbouncer.ini"
	poolPassword = "a password of the pool"
)

const poolingText = "`pgbench -S`, %d rounds in turns for each of %d sets; the median, and the ratios " +
	"round by round: the median and the middle half. PgBouncer has the file of docs/pgbouncer.md: transaction mode, " +
	"20 sessions on the server, a password by SCRAM-SHA-256. All is on one machine, and each run begins without a " +
	"session on the server. Passwords are checked with one iteration of PBKDF2, at the server and in PgBouncer: " +
	"with PostgreSQL's 4,096 that is most of a connect."

// measurePooling measures what PgBouncer before aadpool proxy brings: to clients that connect for each query, and to as
// many clients as the server has connections.
func (b *bench) measurePooling(ctx context.Context) error {
	if _, err := findPgBouncer(); err != nil {
		return fmt.Errorf("%w: make bench-pooling fetches it on Debian", err)
	}
	return b.atProxy(ctx, func(dir string, run pgbenchRun) error {
		run.open = []opener{b.openProxy(dir, "", wayProxy, "proxy"), b.openPooled(dir)}
		run.before = b.db.endSessions
		return b.pooling(ctx, run, dir)
	})
}

func (b *bench) pooling(ctx context.Context, run pgbenchRun, dir string) error {
	s := section{
		Title: "Pooling: PgBouncer before aadpool proxy",
		Text:  fmt.Sprintf(poolingText, run.effort.rounds, run.effort.sets),
		Table: [][]string{{"", "clients", "", "per second", "to direct", "to aadpool proxy"}},
	}
	for _, load := range []struct {
		what, promise         string
		args                  []string
		clients, transactions int
		least                 float64 // to the direct connection's
	}{
		{"connects", "pooling: connects to the direct connection's, 1 client: at least 5", []string{"-S", "-C"}, 1, 300, 5},
		{"connects", "", []string{"-S", "-C"}, 16, 600, 0},
		{"queries", "pooling: rate to the direct connection's, 200 clients: at least 1", []string{"-S"}, 200, 60_000, 1},
	} {
		run.args = load.args
		ws, err := run.contest(ctx, b, dir, load.clients, load.transactions)
		if err != nil {
			return err
		}
		direct := ws.of(wayDirect)
		for _, w := range ws {
			s.Table = append(s.Table, []string{load.what, strconv.Itoa(load.clients), w.name,
				fmt.Sprintf("%.0f", spreadOf(w.rates).median), w.ratioTo(direct), w.ratioTo(ws.of(wayProxy))})
		}
		if load.promise != "" {
			b.promise(load.promise, spreadOf(ratios(ws.of(wayPooled).rates, direct.rates)).median, load.least)
		}
	}
	b.add(s)
	return nil
}

// findPgBouncer returns the one that AADPOOL_PGBOUNCER names, or that is on PATH.
func findPgBouncer() (string, error) {
	if name := os.Getenv("AADPOOL_PGBOUNCER"); name != "" {
		return exec.LookPath(name)
	}
	return exec.LookPath("pgbouncer")
}

// openPooled runs PgBouncer by the recipe, before a proxy of its own.
func (b *bench) openPooled(dir string) opener {
	return func(ctx context.Context, set string, _ *pgx.ConnConfig) (*way, func(), error) {
		home := filepath.Join(set, "pooled")
		if err := errors.Join(os.Chmod(filepath.Dir(set), 0o755), os.Chmod(set, 0o755), os.Mkdir(home, 0o755)); err != nil {
			return nil, nil, err
		}
		_, stopProxy, err := runProxy(ctx, dir, "", filepath.Join(home, "sockets"), b.db.dsn, allowPgBouncer()...)
		if err != nil {
			return nil, stopProxy, err
		}
		process, address, stop, err := b.startPooled(home)
		if err != nil {
			return nil, stopProxy, err
		}
		host, port, _ := net.SplitHostPort(address)
		w := &way{name: wayPooled, process: process, environment: []string{"PGHOST=" + host, "PGPORT=" + port,
			"PGUSER=" + role, "PGDATABASE=postgres", "PGPASSWORD=" + poolPassword, "PGSSLMODE=disable"}}
		return w, func() { stop(); stopProxy() }, await(ctx, "tcp", address)
	}
}

// allowPgBouncer lets the user in that PgBouncer runs as where this process is root, which PgBouncer refuses.
func allowPgBouncer() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	user, err := poolUser()
	if err != nil {
		return nil // startPgBouncer says so
	}
	return []string{"--allow-user=" + user}
}

// startPooled writes the recipe's files for here, and starts PgBouncer.
func (b *bench) startPooled(home string) (process int, address string, stop func(), err error) {
	binary, err := findPgBouncer()
	if err != nil {
		return 0, "", nil, err
	}
	if address, err = freeport.Address(); err != nil {
		return 0, "", nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	recipe, err := os.ReadFile(recipeFile)
	if err != nil {
		return 0, "", nil, err
	}
	verifier, err := cheapVerifier(poolPassword)
	if err != nil {
		return 0, "", nil, err
	}
	users := filepath.Join(home, "userlist.txt")
	ini := strings.NewReplacer("/run/aadpool/sockets", filepath.Join(home, "sockets"),
		"/etc/pgbouncer/secret/userlist.txt", users, "0.0.0.0", "127.0.0.1", "6432", port).Replace(string(recipe))
	err = errors.Join(os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", role, verifier), 0o644),
		os.WriteFile(filepath.Join(home, "pgbouncer.ini"), []byte(ini), 0o644))
	if err != nil {
		return 0, "", nil, err
	}
	process, stop, err = startPgBouncer(binary, home)
	return process, address, stop, err
}
