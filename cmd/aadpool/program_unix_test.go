//go:build unix

package main

import (
	"context"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
)

// A program is aadpool in a process of its own, which is started by a shell's line with "$@" in it.
type program struct {
	*exec.Cmd
	stderr azuretest.LogBuffer
}

func newProgram(t *testing.T, a commandtest.Azure, shell string, args ...string) *program {
	p := unstartedProgram(t, a, shell, args...)
	p.start(t)
	return p
}

func unstartedProgram(t *testing.T, a commandtest.Azure, shell string, args ...string) *program {
	environment, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	maps.Copy(environment, a.ClientSecretEnv(a.App))
	environment[programEnv] = strings.Join(args, "\n")
	p := &program{Cmd: exec.Command("/bin/sh", "-c", shell, "sh", os.Args[0], "-test.run=^TestProgram$")}
	p.Env = os.Environ()
	for name, value := range environment {
		p.Env = append(p.Env, name+"="+value)
	}
	p.Stderr = &p.stderr
	return p
}

func (p *program) start(t *testing.T) {
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
}

// logs waits for a line.
func (p *program) logs(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Contains(p.stderr.String(), text)
	}, time.Minute, 5*time.Millisecond,
		"%s in %s", text, &p.stderr)
}

// proxyArguments are those of a proxy on a socket in dir.
func proxyArguments(a commandtest.Azure, dir string, more ...string) []string {
	return append([]string{"proxy", a.Server.DSN("orders-api"), "--disable-instance-discovery", "--credential=environment",
		"--socket-dir=" + dir}, more...)
}

func TestSignalsThatEndAProxy(t *testing.T) {
	for _, row := range []struct {
		name, shell string
		signal      syscall.Signal
	}{
		{"SIGTERM again later", `exec "$@"`, syscall.SIGTERM},
		{"SIGINT twice, to what a shell has started with &", `trap '' INT; exec "$@"`, syscall.SIGINT},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, _ := startBusyProxy(t, commandtest.New(t), row.shell)
			require.NoError(t, p.Process.Signal(row.signal))
			p.logs(t, "shutting down when the sessions have ended")
			time.Sleep(child.SameSignal + 100*time.Millisecond)
			require.NoError(t, p.Process.Signal(row.signal))
			require.Error(t, p.Wait())
			assert.Equal(t, 128+int(row.signal), p.ProcessState.ExitCode())
		})
	}
}

// As timeout(1) sends it.
func TestSIGTERMTwiceAtOnceIsOne(t *testing.T) {
	a := commandtest.New(t)
	p, tx := startBusyProxy(t, a, `exec "$@"`)
	for signalTwice(t, p) > child.SameSignal/2 { // it may have been too late to be at once
		p, tx = startBusyProxy(t, a, `exec "$@"`)
	}
	p.logs(t, "shutting down when the sessions have ended")
	time.Sleep(50 * time.Millisecond) // in which it would be dead
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, p.Wait(), "%s", &p.stderr)
}

// signalTwice sends SIGTERM twice, and returns how long that has taken.
func signalTwice(t *testing.T, p *program) time.Duration {
	start := time.Now()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	time.Sleep(time.Millisecond) // or the system would make one of the two
	_ = p.Process.Signal(syscall.SIGTERM)
	return time.Since(start)
}

// startBusyProxy starts a proxy that drains for a minute, with a session in a transaction.
func startBusyProxy(t *testing.T, a commandtest.Azure, shell string) (*program, pgx.Tx) {
	dir := commandtest.ShortDir(t)
	p := newProgram(t, a, shell, proxyArguments(a, dir, "--drain=1m")...)
	p.logs(t, "msg=listening")
	conn, err := pgx.Connect(t.Context(), "host="+dir+" user=orders-api dbname=postgres sslmode=disable")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	return p, tx
}

// Clients for whom there are no files hear that from the proxy, and those that fit get in.
func TestProxyWithinALimitOnOpenFiles(t *testing.T) {
	for _, row := range []struct {
		name, shell string
		want        int
	}{
		{"a hard one", `ulimit -n 60; exec "$@"`, 22},
		{"a soft one, which it raises", `ulimit -S -n 60; exec "$@"`, 45},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			dir := commandtest.ShortDir(t)
			p := newProgram(t, a, row.shell, proxyArguments(a, dir, "--drain=0s")...)
			p.logs(t, "msg=listening")
			let := 0
			began := time.Now()
			for tried := 0; tried < 45; tried++ {
				conn, err := pgx.Connect(t.Context(), "host="+dir+" user=orders-api dbname=postgres sslmode=disable")
				if err != nil {
					var refused *pgconn.PgError
					require.ErrorAs(t, err, &refused)
					if strings.Contains(refused.Message, "have no session yet") {
						require.Less(t, time.Since(began), time.Minute, refused.Message)
						tried-- // it has not yet seen that those whom it has refused have hung up
						continue
					}
					assert.Equal(t, "53300", refused.Code)
					assert.Contains(t, refused.Hint, "open files")
					continue
				}
				let++
				defer conn.Close(context.Background())
			}
			assert.Equal(t, row.want, let)
			warned := strings.Contains(p.stderr.String(), "limit=60 room_for=22 max_sessions=1000")
			assert.Equal(t, row.want == 22, warned, &p.stderr)
		})
	}
}

// Connections to --http that say nothing keep out neither sessions nor probes.
func TestIdleHTTPConnectionsWithinALimitOnOpenFiles(t *testing.T) {
	a := commandtest.New(t)
	dir, health := commandtest.ShortDir(t), freeport.For(t)
	p := newProgram(t, a, `ulimit -n 64; exec "$@"`, proxyArguments(a, dir, "--drain=0s", "--http="+health)...)
	p.logs(t, "serving health and metrics")
	for range 52 {
		conn, err := net.Dial("tcp", health)
		require.NoError(t, err)
		defer conn.Close()
	}
	for range 16 { // all that fit
		conn, err := pgx.Connect(t.Context(), "host="+dir+" user=orders-api dbname=postgres sslmode=disable")
		require.NoError(t, err)
		defer conn.Close(context.Background())
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	status, _ := commandtest.Get(t, "http://"+health+"/livez")
	assert.Equal(t, http.StatusOK, status)
}

// The system's roots are those of this process, which reads them once.
func TestPsqlWithTheSystemsRoots(t *testing.T) {
	psql := commandtest.FindPsql(t)
	a := commandtest.New(t)
	a.UsePsql(t, psql)
	p := newProgram(t, a, "/bin/cat "+a.RootFile(t)+` >>"$SSL_CERT_FILE"; exec "$@"`, "psql",
		"host=127.0.0.1 user=orders-api dbname=postgres port="+a.Port(), "--disable-instance-discovery",
		"--credential=environment", "--", "-XAtc", "select session_user")
	require.NoError(t, p.Wait(), "%s", &p.stderr)
	assert.Zero(t, a.Server.Stats().PlaintextStartups)
}

// Ctrl-C ends the statement, by way of the proxy.
func TestPsqlCancelsAStatement(t *testing.T) {
	psql := commandtest.FindPsql(t)
	a := commandtest.New(t)
	a.UsePsql(t, psql)
	p := unstartedProgram(t, a, `exec "$@"`, "psql", a.Server.DSN("orders-api"), "--disable-instance-discovery",
		"--credential=environment", "--", "-X", "-c",
		"do $$ begin raise warning 'it runs'; perform pg_sleep(600); end $$")
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // at a terminal SIGINT counts as typed, which psql hears by itself
	p.start(t)
	p.logs(t, "it runs")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.Error(t, p.Wait())
	assert.Equal(t, 1, p.ProcessState.ExitCode(), "psql's own")
	assert.Contains(t, p.stderr.String(), "canceling statement due to user request")
}
