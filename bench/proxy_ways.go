package main

import (
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

// openProxy runs aadpool as a user would, with the Azure CLI's credential, which keeps no token.
func (b *bench) openProxy(ctx context.Context, dir string, _ *pgx.ConnConfig) (*way, func(), error) {
	binary, err := b.buildProxy(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	return runProxy(ctx, binary, dir, filepath.Join(dir, "proxy"), b.db.dsn)
}

// buildProxy builds aadpool, and installs an az for its credential.
func (b *bench) buildProxy(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "aadpool")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = "../cmd/aadpool"
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building aadpool: %w: %s", err, out)
	}
	return binary, b.installCLI(dir)
}

func runProxy(ctx context.Context, binary, dir, socket, dsn string, flags ...string) (*way, func(), error) {
	cmd := exec.Command(binary, append([]string{"proxy", dsn, "--credential=cli", "--socket-dir=" + socket,
		"--log-format=json"}, flags...)...)
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
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, nil, nil
	}
	socket := filepath.Join(dir, "pgbouncer")
	config := filepath.Join(socket, "pgbouncer.ini")
	text := fmt.Sprintf(bouncerConfig, server.Host, server.Port, role, b.db.token.Token, socket, b.db.rootCertificate())
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(socket, 0o755),
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
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	w := &way{name: wayRelay, environment: []string{
		"PGHOST=127.0.0.1", "PGPORT=" + port, "PGUSER=" + role, "PGDATABASE=postgres", "PGPASSWORD=" + b.db.token.Token,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + b.db.rootCertificate(),
	}}
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
