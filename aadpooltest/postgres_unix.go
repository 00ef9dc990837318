//go:build unix

package aadpooltest

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/freeport"
	"github.com/aadpool/aadpool/internal/initdb"
)

// stopTimeout is how long [Postgres.Stop] waits for a fast shutdown and the removal of the data, which together take
// some tenths of a second. A busy machine has taken over twenty seconds to remove a hundred databases.
const stopTimeout = 2 * time.Minute

// superuser is the role that initdb makes.
const superuser = "postgres"

// serverSettings trade every safety against a crash for speed: the data never outlives the server.
var serverSettings = []string{
	"fsync=off",
	"synchronous_commit=off",
	"full_page_writes=off",
	"max_connections=200",
	"ssl=on",
}

// hba lets everybody in who can reach the Unix socket, which only the server's own user and root can. From
// relayAddress it takes a certificate with the role's name, which only this process can make; from elsewhere a
// password.
const hba = `local   all all              trust
hostssl all all ` + relayAddress + `/32 cert
hostssl all all 127.0.0.1/32 password
`

// startPostgres starts a server on a free port.
func startPostgres(ctx context.Context) (*Postgres, error) {
	bin, err := findPostgres(ctx)
	if err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		p, err := startCluster(ctx, bin, account)
		// Another process may have taken the free port by now: PostgreSQL cannot choose one by itself.
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "Address already in use") {
			return p, err
		}
	}
}

// startCluster makes a database cluster with the programs in bin and starts a server on it.
func startCluster(ctx context.Context, bin string, account *syscall.Credential) (*Postgres, error) {
	certificates, err := newClusterCertificates()
	if err != nil {
		return nil, err
	}
	dir, err := makeServerDir(account)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(configureCluster(dir, certificates), makeData(ctx, bin, dir)); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	server, err := startPostmaster(bin, dir, port)
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	stop := sync.OnceValue(func() error { return errors.Join(server.shutDown(), dir.remove()) })
	dsn := socketDSN(dir.file(socketDir), port)
	config, err := pgconn.ParseConfig(dsn)
	if err == nil {
		err = server.waitReady(ctx, config)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &Postgres{dsn: dsn, config: config, dir: dir.path, port: port, relay: certificates.relayTLS(), stop: stop}, nil
}

// serverAccount returns the user to run the server as: nil for this process's own. PostgreSQL refuses root.
func serverAccount() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("aadpooltest: the user %s has a strange id: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("aadpooltest: the group of the user %s has a strange id: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("aadpooltest: PostgreSQL refuses to run as root, and there is no user postgres or nobody: " +
		"add one, or run as another user")
}

// makeData makes the database cluster in dir: initdb does, or it is a copy of what initdb made for tests of this
// project's own before.
func makeData(ctx context.Context, bin string, dir *serverDir) error {
	if err := dir.makeOwn(dataDir); err != nil {
		return err
	}
	copied, err := initdb.Copy(bin, dir.file(dataDir))
	if err := errors.Join(err, dir.giveAway(dataDir)); err != nil || copied {
		return err
	}
	if err := initCluster(ctx, bin, dir); err != nil {
		return err
	}
	_ = initdb.Keep(bin, dir.file(dataDir)) // or the next one makes its own, too
	return nil
}

// initCluster has initdb make the database cluster in dir.
func initCluster(ctx context.Context, bin string, dir *serverDir) error {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", dir.file(dataDir),
		"--username", superuser, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	dir.runAsAccount(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aadpooltest: initdb failed: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// configureCluster makes what the server needs besides its data.
func configureCluster(dir *serverDir, c *clusterCertificates) error {
	key, err := privateKeyPEM(c.server)
	if err != nil {
		return fmt.Errorf("aadpooltest: %w", err)
	}
	return errors.Join(
		dir.mkdir(socketDir),
		dir.writeFile(serverCertFile, certificatePEM(c.server), 0o644),
		dir.writeFile(serverKeyFile, key, 0o600), // PostgreSQL refuses a key that others can read
		dir.writeFile(clientRootFile, certificatePEM(c.clients), 0o600),
		dir.writeFile(hbaFile, []byte(hba), 0o600),
		dir.writeFile(logFile, nil, 0o600),
	)
}

// serverVariables are what the programs get of this process's environment: what is needed to find and to load them, and
// the time zone that the server takes for its own. Other processes of the server's user can read it all.
var serverVariables = []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ"}

// serverEnv is the environment of the programs, whose messages are in English.
func serverEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range serverVariables {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// freePort returns a TCP port of 127.0.0.1 that nobody listens on at this moment.
func freePort() (int, error) {
	address, err := freeport.Address()
	if err != nil {
		return 0, fmt.Errorf("aadpooltest: %w", err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// socketDSN returns the superuser's connection string for the server whose socket is in dir.
func socketDSN(dir string, port int) string {
	return formatDSN(superuser, "", "postgres", url.Values{
		"host":    {dir},
		"port":    {strconv.Itoa(port)},
		"sslmode": {"disable"}, // PostgreSQL has no TLS on Unix sockets
	})
}

// superviseScript runs the server, and ends it when this process ends, however it ends.
//
//go:embed supervise.sh
var superviseScript string

// tidyScript removes the server's directory when the supervisor has ended.
//
//go:embed tidy.sh
var tidyScript string

// postmaster is a running server, with the shells that supervise it and tidy up after it.
type postmaster struct {
	supervisor *exec.Cmd
	lifeline   io.Closer     // closing it ends the server
	ended      chan struct{} // closed when all processes have ended
	err        error         // how they ended; set before ended is closed
}

func startPostmaster(bin string, dir *serverDir, port int) (*postmaster, error) {
	arguments := append([]string{"-c", superviseScript, "sh", dir.path}, serverCommand(bin, dir, port)...)
	supervisor := exec.Command("/bin/sh", arguments...)
	dir.runAsAccount(supervisor)
	var stderr bytes.Buffer
	supervisor.Stderr = &stderr
	lifeline, err := supervisor.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: starting PostgreSQL: %w", err)
	}
	tidied, err := startTidying(dir, supervisor)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: starting PostgreSQL: %w", err)
	}
	m := &postmaster{supervisor: supervisor, lifeline: lifeline, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		if err := supervisor.Wait(); err != nil {
			m.err = fmt.Errorf("aadpooltest: PostgreSQL ended by itself: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		tidied()
	}()
	return m, nil
}

// startTidying starts the supervisor, and a shell of this process's own user that removes the directory, which the
// server's user cannot, as soon as the supervisor has ended: by a pipe whose other end the supervisor alone holds. The
// function returned waits for the shell's end.
func startTidying(dir *serverDir, supervisor *exec.Cmd) (wait func(), err error) {
	ended, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ended.Close()
	defer held.Close()
	supervisor.ExtraFiles = []*os.File{held}
	if err := supervisor.Start(); err != nil {
		return nil, err
	}
	tidy := exec.Command("/bin/sh", "-c", tidyScript, "sh", dir.path)
	tidy.Dir, tidy.Env, tidy.Stdin = "/", serverEnv(), ended
	tidy.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := tidy.Start(); err != nil {
		_ = supervisor.Process.Kill()
		_ = supervisor.Wait()
		return nil, err
	}
	return func() { _ = tidy.Wait() }, nil
}

// serverCommand is the command line of the server.
func serverCommand(bin string, dir *serverDir, port int) []string {
	command := []string{filepath.Join(bin, "postgres"),
		"-D", dir.file(dataDir), "-p", strconv.Itoa(port), "-k", dir.file(socketDir)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1",
		"hba_file=" + dir.file(hbaFile),
		"ssl_cert_file=" + dir.file(serverCertFile),
		"ssl_key_file=" + dir.file(serverKeyFile),
		"ssl_ca_file=" + dir.file(clientRootFile),
	}, serverSettings...) {
		command = append(command, "-c", setting)
	}
	return command
}

// waitReady returns when the server lets the superuser in, or has ended.
func (m *postmaster) waitReady(ctx context.Context, superuser *pgconn.Config) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := pgconn.ConnectConfig(ctx, superuser)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-poll.C:
		case <-m.ended:
			return m.err
		case <-ctx.Done():
			return fmt.Errorf("aadpooltest: waiting for PostgreSQL to accept connections: %w: %w", ctx.Err(), err)
		}
	}
}

// shutDown ends the server and returns when it has ended.
func (m *postmaster) shutDown() error {
	_ = m.lifeline.Close()
	select {
	case <-m.ended:
		return m.err
	case <-time.After(stopTimeout):
	}
	_ = syscall.Kill(-m.supervisor.Process.Pid, syscall.SIGKILL)
	<-m.ended
	return fmt.Errorf("aadpooltest: PostgreSQL did not shut down within %v and was killed", stopTimeout)
}
