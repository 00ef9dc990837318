//go:build linux

package pgbouncer_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/test/internal/daemon"
)

// programEnv names the PgBouncer to test with. Without it, nothing here runs.
const programEnv = "AADPOOL_PGBOUNCER"

// program returns the path of PgBouncer, or skips the test.
func program(t testing.TB) string {
	t.Helper()
	name := os.Getenv(programEnv)
	if name == "" {
		t.Skipf("set %s to a PgBouncer (pgbouncer, if it is on PATH); make matrix-pgbouncer does", programEnv)
	}
	path, err := exec.LookPath(name)
	require.NoErrorf(t, err, "%s names no program", programEnv)
	return path
}

// version is what "pgbouncer -V" says, such as 1.24.1.
func version(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(program(t), "-V").Output()
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "PgBouncer ")
}

// A bouncer is a PgBouncer that takes TLS connections on 127.0.0.1 and asks them for a password in clear text, which it
// compares with that of its auth_file.
type bouncer struct {
	*daemon.Process
	dir  string
	port int
}

// settings are the lines of pgbouncer.ini that a test chooses.
type settings struct {
	poolMode string
	database string   // the connection string of the database postgres
	lines    []string // more for the section [pgbouncer]
}

// admin is the user of the console; it can only come through the Unix socket, as PgBouncer's own user.
const admin = "pgbouncer"

func start(t testing.TB, s settings) *bouncer {
	t.Helper()
	b := &bouncer{dir: daemon.Dir(t), port: daemon.Port(t)}
	issuer := daemon.NewIssuer(t)
	issuer.RootFile(t, b.file("root.crt"))
	issuer.Issue(t, b.file("server.crt"), b.file("server.key"))
	b.setPasswords(t, nil)
	daemon.WriteFile(t, b.file("pgbouncer.ini"), b.ini(s))
	b.Process = daemon.Start(t, b.dir, program(t), b.file("pgbouncer.ini"))
	require.Eventuallyf(t, func() bool {
		require.Falsef(t, b.Ended(), "PgBouncer ended: %s", b.Output())
		conn, err := pgx.Connect(t.Context(), b.adminDSN())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond, "PgBouncer takes no connection")
	return b
}

func (b *bouncer) file(name string) string { return filepath.Join(b.dir, name) }

func (b *bouncer) ini(s settings) string {
	return strings.Join(append([]string{
		"[databases]",
		"postgres = " + s.database,
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		"listen_port = " + strconv.Itoa(b.port),
		"unix_socket_dir = " + b.dir,
		"auth_type = plain",
		"auth_file = " + b.file("users.txt"),
		"admin_users = " + admin,
		"pool_mode = " + s.poolMode,
		"client_tls_sslmode = require",
		"client_tls_cert_file = " + b.file("server.crt"),
		"client_tls_key_file = " + b.file("server.key"),
	}, append(s.lines, "")...), "\n")
}

// setPasswords writes auth_file; a PgBouncer that runs is to be told, see reload. The console's user has one too.
func (b *bouncer) setPasswords(t testing.TB, passwords map[string]string) {
	t.Helper()
	lines := fmt.Sprintf("%q %q\n", admin, admin)
	for user, password := range passwords {
		lines += fmt.Sprintf("%q %q\n", user, password)
	}
	daemon.WriteFile(t, b.file("users.txt"), lines)
}

// reload has PgBouncer read auth_file again, and returns when it has.
func (b *bouncer) reload(t testing.TB) {
	t.Helper()
	b.tell(t, "RELOAD")
}

// tell runs a command of the console's.
func (b *bouncer) tell(t testing.TB, command string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.adminDSN())
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, command).ReadAll()
	require.NoError(t, err)
}

// admit sets the passwords of a PgBouncer that runs.
func (b *bouncer) admit(t testing.TB, passwords map[string]string) {
	t.Helper()
	b.setPasswords(t, passwords)
	b.reload(t)
}

func (b *bouncer) adminDSN() string {
	query := url.Values{"host": {b.dir}, "port": {strconv.Itoa(b.port)}, "sslmode": {"disable"},
		"connect_timeout": {"60"}}
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(admin, admin), Path: "/pgbouncer", RawQuery: query.Encode()}
	return dsn.String()
}

// dsn is that of a user of PgBouncer, without a password.
func (b *bouncer) dsn(user, database string) string {
	dsn := url.URL{Scheme: "postgres", User: url.User(user), Host: "127.0.0.1:" + strconv.Itoa(b.port), Path: "/" +
		database,
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {b.file("root.crt")}}.Encode()}
	return dsn.String()
}
