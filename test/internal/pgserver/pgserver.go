//go:build linux

// Package pgserver runs PostgreSQL servers of which the tests below test/ choose the programs, the access rules and the
// settings, and that they kill, copy and promote: more than aadpooltest.StartPostgres offers.
package pgserver

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/test/internal/daemon"
)

// A Server listens on 127.0.0.1 with TLS. Its superuser, postgres, comes through its Unix socket.
type Server struct {
	*daemon.Process        // nil before Start
	Bin             string // the directory of PostgreSQL's programs
	Dir             string // holds the socket, the certificate and the data
	Data            string
	Port            int
}

// New prepares a server with a certificate of the issuer, without data.
func New(t testing.TB, bin string, issuer *daemon.Issuer) *Server {
	t.Helper()
	s := &Server{Bin: bin, Dir: daemon.Dir(t), Port: daemon.Port(t)}
	s.Data = filepath.Join(s.Dir, "data")
	s.RenewCertificate(t, issuer)
	return s
}

// HasPrograms reports whether each of the programs is in dir.
func HasPrograms(dir string, names ...string) bool {
	for _, name := range names {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// RenewCertificate writes a new certificate, which the server shows from its next reload on, and returns its serial
// number.
func (s *Server) RenewCertificate(t testing.TB, issuer *daemon.Issuer) string {
	t.Helper()
	return issuer.Issue(t, s.certFile(), s.keyFile()).String()
}

func (s *Server) certFile() string { return filepath.Join(s.Dir, "server.crt") }
func (s *Server) keyFile() string  { return filepath.Join(s.Dir, "server.key") }

// Run runs one of PostgreSQL's programs that ends by itself.
func (s *Server) Run(t testing.TB, program string, args ...string) {
	t.Helper()
	daemon.Run(t, s.Dir, filepath.Join(s.Bin, program), args...)
}

// Initialise makes an empty database cluster with these lines in pg_hba.conf.
func (s *Server) Initialise(t testing.TB, hba string) {
	t.Helper()
	s.Run(t, "initdb", "--pgdata", s.Data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8",
		"--no-locale", "--no-sync")
	daemon.WriteFile(t, filepath.Join(s.Data, "pg_hba.conf"), hba)
}

// Start starts the server with these settings and returns when the superuser gets in. Nothing is flushed to disk: a
// process that is killed loses nothing of what the kernel has, and machines do not crash here.
func (s *Server) Start(t testing.TB, settings ...string) {
	t.Helper()
	args := []string{"-D", s.Data, "-p", fmt.Sprint(s.Port), "-k", s.Dir}
	for _, setting := range append([]string{"ssl=on", "ssl_cert_file=" + s.certFile(), "ssl_key_file=" + s.keyFile(),
		"listen_addresses=127.0.0.1", "fsync=off", "log_min_messages=warning"}, settings...) {
		args = append(args, "-c", setting)
	}
	s.Process = daemon.Start(t, s.Dir, filepath.Join(s.Bin, "postgres"), args...)
	require.Eventuallyf(t, func() bool {
		require.Falsef(t, s.Ended(), "PostgreSQL ended: %s", s.Output())
		conn, err := s.Connect(t.Context())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond, "PostgreSQL does not start")
}

// ShutDown stops the server fast: its sessions end with 57P01.
func (s *Server) ShutDown(t testing.TB) {
	t.Helper()
	s.Signal(t, syscall.SIGINT)
	require.Eventually(t, s.Ended, time.Minute, 10*time.Millisecond)
}

// Connect opens a connection of the superuser.
func (s *Server) Connect(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx,
		fmt.Sprintf("host=%s port=%d user=postgres database=postgres sslmode=disable connect_timeout=60", s.Dir, s.Port))
}

// Query runs SQL as the superuser and returns the first column of its last result's first row.
func (s *Server) Query(ctx context.Context, sql string) (string, error) {
	conn, err := s.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}

// Exec runs SQL as the superuser.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	_, err := s.Query(t.Context(), sql)
	require.NoError(t, err)
}

// Await waits until a query's answer is this.
func (s *Server) Await(t testing.TB, sql, answer string) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := s.Query(t.Context(), sql)
		return err == nil && got == answer
	}, time.Minute, 5*time.Millisecond, sql)
}

// Reload has the server read its configuration and certificate again.
func (s *Server) Reload(t testing.TB) {
	t.Helper()
	s.Exec(t, "select pg_reload_conf()")
}
