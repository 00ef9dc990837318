package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"
)

var dialer net.Dialer

// rootCertificate is the file that the DSN names.
func (db *database) rootCertificate() string {
	u, err := url.Parse(db.dsn)
	if err != nil {
		return ""
	}
	return u.Query().Get("sslrootcert")
}

// ways are all that there are in a set.
type ways []*way

func (ws ways) of(name string) *way {
	for _, w := range ws {
		if w.name == name {
			return w
		}
	}
	return nil
}

// contestWays has each way's turn come as often as there are rounds in a set, beginning with another one each time. The
// programs are started anew for each set: how the system lays a process out in memory makes a difference.
func (b *bench) contestWays(
	ctx context.Context, dir string, open []opener, e effort, turn func(*way) error,
) (all ways, err error) {
	for range e.sets {
		ws, stop, err := b.openWays(ctx, dir, open)
		if err == nil {
			err = ws.takeTurns(e.rounds, turn)
		}
		for _, w := range ws {
			w.memory = []float64{peakMemory(w.process)}
		}
		stop()
		if err != nil {
			return nil, err
		}
		all = all.joined(ws)
	}
	return all, nil
}

func (ws ways) takeTurns(rounds int, turn func(*way) error) error {
	for i := range rounds {
		for j := range ws {
			if err := turn(ws[(i+j)%len(ws)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// joined are the ways with the figures of another set.
func (ws ways) joined(set ways) ways {
	if ws == nil {
		return set
	}
	for i, w := range ws {
		w.rates, w.cpu = append(w.rates, set[i].rates...), append(w.cpu, set[i].cpu...)
		w.memory = append(w.memory, set[i].memory...)
	}
	return ws
}

// An opener starts what stands between in some way, with files in the directory of a set. The way is nil if the program
// is not there.
type opener func(ctx context.Context, set string, server *pgx.ConnConfig) (w *way, stop func(), err error)

// relays are aadpool proxy, twice, and what does the like.
func (b *bench) relays(dir string) []opener {
	return []opener{b.openProxy(dir, "", wayProxy, "proxy"), b.openProxy(dir, b.control, wayControl, "control"),
		b.openPgBouncer, b.openRelay}
}

// openWays starts what stands between pgbench and the server, beside nothing. stop is never nil.
func (b *bench) openWays(ctx context.Context, dir string, openers []opener) (ws ways, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	server, err := pgx.ParseConfig(b.db.dsn)
	if err != nil {
		return nil, stop, err
	}
	direct, err := b.directWay()
	if err != nil {
		return nil, stop, err
	}
	set, err := os.MkdirTemp(dir, "")
	if err != nil {
		return nil, stop, err
	}
	ws = append(ws, direct)
	for _, open := range openers {
		w, stopThis, err := open(ctx, set, server)
		if stopThis != nil {
			stops = append(stops, stopThis)
		}
		if err != nil {
			return nil, stop, err
		}
		if w != nil {
			ws = append(ws, w)
		}
	}
	return ws, stop, nil
}

// directWay has nothing between.
func (b *bench) directWay() (*way, error) {
	server, err := pgx.ParseConfig(b.db.dsn)
	if err != nil {
		return nil, err
	}
	return &way{name: wayDirect, environment: b.passwordEnvironment(server.Host, server.Port)}, nil
}

// passwordEnvironment is that of a client that knows the token.
func (b *bench) passwordEnvironment(host string, port uint16) []string {
	return []string{
		"PGHOST=" + host, fmt.Sprint("PGPORT=", port), "PGUSER=" + role, "PGDATABASE=postgres",
		"PGPASSWORD=" + b.db.token.Token, "PGSSLMODE=verify-full", "PGSSLROOTCERT=" + b.db.rootCertificate(),
	}
}

// openProxy runs the program, or else the aadpool that is in dir, as a user would, with the Azure CLI's credential,
// which keeps no token.
func (b *bench) openProxy(dir, program, name, socket string) opener {
	return func(ctx context.Context, set string, _ *pgx.ConnConfig) (*way, func(), error) {
		w, stop, err := runProxy(ctx, dir, program, filepath.Join(set, socket), b.db.dsn)
		if w != nil {
			w.name = name
		}
		return w, stop, err
	}
}

// buildProxy builds aadpool into dir as a release does, and installs an az for its credential.
func (b *bench) buildProxy(ctx context.Context, dir string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s", "-o", filepath.Join(dir, "aadpool"), ".")
	build.Dir, build.Env = "../cmd/aadpool", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building aadpool: %w: %s", err, out)
	}
	return b.installCLI(dir)
}

func runProxy(ctx context.Context, dir, program, socket, dsn string, flags ...string) (*way, func(), error) {
	args := []string{"proxy", dsn, "--credential=cli", "--socket-dir=" + socket, "--log-format=json"}
	cmd := exec.Command(cmp.Or(program, filepath.Join(dir, "aadpool")), append(args, flags...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	stop, err := start(cmd)
	if err != nil {
		return nil, nil, err
	}
	w := &way{name: wayProxy, environment: []string{"PGHOST=" + socket, "PGPORT=5432", "PGUSER=" + role,
		"PGDATABASE=postgres"}, process: cmd.Process.Pid}
	return w, stop, await(ctx, "unix", filepath.Join(socket, ".s.PGSQL.5432"))
}

// installCLI puts an az into dir that always has the one token that the database takes, and counts its calls.
func (b *bench) installCLI(dir string) error {
	answer, err := json.Marshal(map[string]any{"accessToken": b.db.token.Token, "expires_on": b.db.token.ExpiresOn.Unix(),
		"tokenType": "Bearer",
		"expiresOn": b.db.token.ExpiresOn.Local().Format("2006-01-02 15:04:05.000000")})
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\necho call >>'%s'\ncat <<'EOF'\n%s\nEOF\n", filepath.Join(dir, callsFile), answer)
	return os.WriteFile(filepath.Join(dir, "az"), []byte(script), 0o755)
}

// callsFile has a line for each call of az.
const callsFile = "az.calls"

// start starts a program, which stop ends.
func start(cmd *exec.Cmd) (stop func(), err error) {
	cmd.Stderr = io.Discard
	if os.Getenv("AADPOOL_BENCH_DEBUG") != "" {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(cmd.Path), err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}, nil
}

const bouncerConfig = `[databases]
postgres = host=%[1]s port=%[2]d dbname=postgres user=%[3]s password='%[4]s'
[pgbouncer]
listen_addr =
unix_socket_dir = %[5]s
listen_port = 5432
auth_type = any
pool_mode = session
default_pool_size = 180
max_client_conn = 1100
server_tls_sslmode = verify-full
server_tls_ca_file = %[6]s
ignore_startup_parameters = extra_float_digits
logfile = %[5]s/pgbouncer.log
`

// openPgBouncer runs PgBouncer, if there is one.
func (b *bench) openPgBouncer(ctx context.Context, dir string, server *pgx.ConnConfig) (*way, func(), error) {
	binary, err := findPgBouncer()
	if err != nil {
		return nil, nil, nil
	}
	socket := filepath.Join(dir, "pgbouncer")
	config := filepath.Join(socket, "pgbouncer.ini")
	text := fmt.Sprintf(bouncerConfig, server.Host, server.Port, role, b.db.token.Token, socket, b.db.rootCertificate())
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Mkdir(socket, 0o755),
		os.WriteFile(config, []byte(text), 0o644)); err != nil {
		return nil, nil, err
	}
	process, stop, err := startPgBouncer(binary, socket)
	if err != nil {
		return nil, nil, err
	}
	w := &way{name: wayPgBouncer, environment: []string{"PGHOST=" + socket, "PGPORT=5432", "PGUSER=" + role,
		"PGDATABASE=postgres"}, process: process}
	return w, stop, await(ctx, "unix", filepath.Join(socket, ".s.PGSQL.5432"))
}

// startPgBouncer runs a PgBouncer whose configuration is in home.
func startPgBouncer(binary, home string) (process int, stop func(), err error) {
	cmd := exec.Command(binary, filepath.Join(home, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // which it refuses
		if err := dropPrivileges(cmd, home); err != nil {
			return 0, nil, err
		}
	}
	stop, err = start(cmd)
	if err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, stop, nil
}

// openRelay listens in this process, and copies.
func (b *bench) openRelay(ctx context.Context, _ string, server *pgx.ConnConfig) (*way, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { relay(ctx, client, net.JoinHostPort(server.Host, fmt.Sprint(server.Port))) })
		}
	})
	port := listener.Addr().(*net.TCPAddr).Port
	w := &way{name: wayRelay, environment: b.passwordEnvironment("127.0.0.1", uint16(port))}
	return w, func() { _ = listener.Close(); serving.Wait() }, nil
}

func relay(ctx context.Context, client net.Conn, address string) {
	defer client.Close()
	server, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	up.Wait()
}
