//go:build linux

// Package daemon runs server programs for the tests below test/: as a user that they accept, in a directory of their
// own, with a certificate made at run time, and never longer than the test.
package daemon

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/freeport"
)

// account is whom a daemon runs as: nil for this process's own user. PostgreSQL and PgBouncer refuse root; what
// aadpooltest.StartPostgres takes instead is taken here too, since its socket is for that user alone.
var account = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
})

// Own makes the daemons' user the owner of path, which this process has made.
func Own(t testing.TB, path string) {
	t.Helper()
	require.NoError(t, own(path))
}

// own gives away what path names at this moment, and only what this process's user owns and no other name leads to: the
// daemons' user may own the directory, and could have put a link to another file there.
func own(path string) error {
	credential, err := account()
	if err != nil || credential == nil {
		return err
	}
	const oPath, atEmptyPath = 0x200000, 0x1000 // open(2) and chown(2); package syscall does not name them
	fd, err := syscall.Open(path, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var status syscall.Stat_t
	if err := syscall.Fstat(fd, &status); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	directory := status.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if int(status.Uid) != os.Geteuid() || status.Nlink != 1 && !directory {
		return fmt.Errorf("%s is not what this process has made", path)
	}
	return syscall.Fchownat(fd, "", int(credential.Uid), int(credential.Gid), atEmptyPath)
}

// Dir makes a directory that the daemons' user owns and that ends with the test. Its path is short enough for a Unix
// socket in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "aadpool-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	Own(t, dir)
	return dir
}

// WriteFile writes a file that only the daemons' user can read, whole or not at all.
func WriteFile(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, writeFile(t, path, content))
}

// writeFile has the daemons' user itself write: it may own the directory, and could have put a link there.
func writeFile(t testing.TB, path, content string) error {
	cmd := Command(t, "/", "/bin/sh", "-c", `umask 077; cat >"$1.next" && mv "$1.next" "$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("writing %s: %w: %s", path, err, out)
	}
	return nil
}

// Port returns a TCP port of 127.0.0.1 that is free at this moment.
func Port(t testing.TB) int {
	t.Helper()
	_, port, err := net.SplitHostPort(freeport.For(t))
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	return number
}

// certificateLife is longer than any test runs.
const certificateLife = 24 * time.Hour

// An Issuer signs certificates of servers: those that follow one another on a server are trusted by one root.
type Issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewIssuer makes one.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	template := template(t, "aadpool test root")
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &Issuer{certificate, key}
}

// RootFile writes the root for sslrootcert.
func (i *Issuer) RootFile(t testing.TB, path string) {
	t.Helper()
	WriteFile(t, path, encode("CERTIFICATE", i.certificate.Raw))
}

// Issue writes a new certificate for 127.0.0.1, and its key, and returns its serial number.
func (i *Issuer) Issue(t testing.TB, certFile, keyFile string) *big.Int {
	t.Helper()
	template := template(t, "127.0.0.1")
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, i.certificate, key.Public(), i.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	WriteFile(t, certFile, encode("CERTIFICATE", der))
	WriteFile(t, keyFile, encode("PRIVATE KEY", keyDER))
	return template.SerialNumber
}

func template(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	require.NoError(t, err)
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certificateLife),
		BasicConstraintsValid: true,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Command returns a command of the daemons' user, in dir, with messages in English. It is killed if this process dies.
func Command(t testing.TB, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	credential, err := account()
	require.NoError(t, err)
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setsid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run runs a command that ends by itself, and returns what it printed.
func Run(t testing.TB, dir, program string, args ...string) string {
	t.Helper()
	out, err := Command(t, dir, program, args...).CombinedOutput()
	require.NoErrorf(t, err, "%s: %s", filepath.Base(program), out)
	return string(out)
}

// Process is a server that runs.
type Process struct {
	cmd    *exec.Cmd
	output buffer
	ended  chan struct{}
}

// Start runs a server. It is killed at the end of the test at the latest.
func Start(t testing.TB, dir, program string, args ...string) *Process {
	t.Helper()
	p := &Process{cmd: Command(t, dir, program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	// The files of a grandchild that outlives the server must not hold Wait up.
	p.cmd.WaitDelay = time.Second
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.Kill)
	return p
}

// Signal sends a signal to the server itself.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(signal))
}

// Kill ends the server and its children by SIGKILL, as a machine that loses its power, and returns when the server has
// ended.
func (p *Process) Kill() {
	children := p.children()
	for _, pid := range append([]int{p.cmd.Process.Pid}, children...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.ended
}

// SignalAll sends a signal to the server and its children.
func (p *Process) SignalAll(t testing.TB, signal syscall.Signal) {
	t.Helper()
	p.Signal(t, signal)
	for _, pid := range p.children() {
		_ = syscall.Kill(pid, signal) // one that has ended by now needs none
	}
}

// children returns the processes that the server has started. PostgreSQL's are each in a session of their own.
func (p *Process) children() (pids []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.cmd.Process.Pid))
	if err != nil {
		return nil // it has ended
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Ended reports whether the server has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Output returns what the server has printed so far.
func (p *Process) Output() string { return p.output.String() }

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Clone(b.text.String())
}
