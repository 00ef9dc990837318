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
)

// stopTimeout is how long [Postgres.Stop] waits for a fast shutdown, which takes about a tenth of a second.
const stopTimeout = 20 * time.Second

// superuser is the role that initdb makes.
const superuser = "postgres"

// Files and directories below that of a server, besides serverCertFile.
const (
	serverKeyFile  = "server.key"
	clientRootFile = "client-root.crt" // verifies the certificates of relayTLS
	socketDir      = "socket"          // only the owner can enter it
)

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
	dir, err := makeServerDir(account)
	if err != nil {
		return nil, err
	}
	removeDir := func() error { return os.RemoveAll(dir) }
	certificates, err := newClusterCertificates()
	if err != nil {
		return nil, errors.Join(err, removeDir())
	}
	if err := initCluster(ctx, bin, dir, account); err != nil {
		return nil, errors.Join(err, removeDir())
	}
	if err := configureCluster(dir, account, certificates); err != nil {
		return nil, errors.Join(err, removeDir())
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, removeDir())
	}
	server, err := startPostmaster(bin, dir, port, account)
	if err != nil {
		return nil, errors.Join(err, removeDir())
	}
	stop := sync.OnceValue(func() error { return errors.Join(server.shutDown(), removeDir()) })
	dsn := socketDSN(filepath.Join(dir, socketDir), port)
	config, err := pgconn.ParseConfig(dsn)
	if err == nil {
		err = server.waitReady(ctx, config)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &Postgres{dsn: dsn, config: config, dir: dir, port: port, relay: certificates.relayTLS(), stop: stop}, nil
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

// makeServerDir makes the directory that holds everything of one server, and that account owns. Others may pass
// through it, to the certificate that clients trust; what is not for them has modes of its own.
func makeServerDir(account *syscall.Credential) (string, error) {
	parent := os.TempDir()
	if !fitsSocket(parent) || account != nil && !reachable(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "aadpooltest-")
	if err != nil {
		return "", fmt.Errorf("aadpooltest: making a directory for PostgreSQL: %w", err)
	}
	if err := errors.Join(os.Chmod(dir, 0o711), giveTo(account, dir)); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}

// fitsSocket reports whether the server's socket below dir has a path that the operating system takes: 103 bytes on
// macOS and the BSDs, 107 on Linux (unix(7)).
func fitsSocket(dir string) bool {
	return len(dir)+len("/aadpooltest-4294967295/"+socketDir+"/.s.PGSQL.65535") <= 103
}

// reachable reports whether every user may pass through dir, which a TMPDIR below root's home is not.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// giveTo makes account the owner of a file that this process has made.
func giveTo(account *syscall.Credential, path string) error {
	if account == nil {
		return nil
	}
	if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
		return fmt.Errorf("aadpooltest: giving PostgreSQL its files: %w", err)
	}
	return nil
}

// initCluster makes the database cluster dir/data.
func initCluster(ctx context.Context, bin, dir string, account *syscall.Credential) error {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(dir, "data"),
		"--username", superuser, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	cmd.Dir = dir
	cmd.Env = serverEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account, Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aadpooltest: initdb failed: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// configureCluster writes what the server reads besides its data, and makes the directory of its socket.
func configureCluster(dir string, account *syscall.Credential, c *clusterCertificates) error {
	key, err := privateKeyPEM(c.server)
	if err != nil {
		return fmt.Errorf("aadpooltest: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, socketDir), 0o700); err != nil {
		return fmt.Errorf("aadpooltest: configuring PostgreSQL: %w", err)
	}
	if err := giveTo(account, filepath.Join(dir, socketDir)); err != nil {
		return err
	}
	for _, file := range []struct {
		path    string
		content []byte
		mode    os.FileMode
	}{
		{filepath.Join(dir, "data", "pg_hba.conf"), []byte(hba), 0o600},
		{filepath.Join(dir, serverCertFile), certificatePEM(c.server), 0o644},
		{filepath.Join(dir, serverKeyFile), key, 0o600}, // PostgreSQL refuses a key that others can read
		{filepath.Join(dir, clientRootFile), certificatePEM(c.clients), 0o600},
	} {
		if err := writeFile(file.path, file.content, file.mode); err != nil {
			return fmt.Errorf("aadpooltest: configuring PostgreSQL: %w", err)
		}
		if err := giveTo(account, file.path); err != nil {
			return err
		}
	}
	return nil
}

// serverEnv is this process's environment without the variables that initdb and postgres read, and with messages in
// English.
func serverEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") && !strings.HasPrefix(v, "LANG") {
			env = append(env, v)
		}
	}
	return append(env, "LC_ALL=C")
}

// freePort returns a TCP port of 127.0.0.1 that nobody listens on at this moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("aadpooltest: looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// socketDSN returns the superuser's connection string for the server whose socket is in dir.
func socketDSN(dir string, port int) string {
	return formatDSN(superuser, "", "postgres", url.Values{
		"host":    {dir},
		"port":    {strconv.Itoa(port)},
		"sslmode": {"disable"}, // PostgreSQL has no TLS on Unix sockets
	})
}

// superviseScript runs the server, and ends it and removes its directory when this process ends, however it ends.
//
//go:embed supervise.sh
var superviseScript string

// postmaster is a running server, with the shell that supervises it.
type postmaster struct {
	supervisor *exec.Cmd
	lifeline   io.Closer     // closing it ends the server
	ended      chan struct{} // closed when both processes have ended
	err        error         // how they ended; set before ended is closed
}

func startPostmaster(bin, dir string, port int, account *syscall.Credential) (*postmaster, error) {
	args := []string{"-c", superviseScript, "sh", dir, filepath.Join(bin, "postgres"),
		"-D", filepath.Join(dir, "data"),
		"-p", strconv.Itoa(port),
		"-k", filepath.Join(dir, socketDir),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "ssl_cert_file=" + filepath.Join(dir, serverCertFile),
		"-c", "ssl_key_file=" + filepath.Join(dir, serverKeyFile),
		"-c", "ssl_ca_file=" + filepath.Join(dir, clientRootFile),
	}
	for _, setting := range serverSettings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir = dir
	cmd.Env = serverEnv()
	// A session of its own: Ctrl-C in a terminal is not for the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account, Setsid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: starting PostgreSQL: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("aadpooltest: starting PostgreSQL: %w", err)
	}
	m := &postmaster{supervisor: cmd, lifeline: lifeline, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		if err := cmd.Wait(); err != nil {
			m.err = fmt.Errorf("aadpooltest: PostgreSQL ended by itself: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
	}()
	return m, nil
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
