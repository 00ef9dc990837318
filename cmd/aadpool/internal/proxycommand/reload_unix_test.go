//go:build unix

package proxycommand_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// renewedFiles are what a proxy beyond loopback is given, and what is put in their place while it serves.
type renewedFiles struct {
	t                   *testing.T
	cert, key, password string
}

// renewCertificate puts another certificate and key in the place of those that are there.
func (f renewedFiles) renewCertificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(f.t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(f.t, err)
	f.put(f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.put(f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// put is how files are renewed: by another in their place.
func (f renewedFiles) put(path string, text []byte) {
	require.NoError(f.t, os.WriteFile(path+".new", text, 0o600))
	require.NoError(f.t, os.Rename(path+".new", path))
}

// connect trusts the certificate that is on disk now, and binds its proof of the password to it.
func (f renewedFiles) connect(address, password string) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	require.NoError(f.t, err)
	return pgx.Connect(f.t.Context(),
		fmt.Sprintf("host=%s port=%s user=orders-api dbname=postgres password='%s' sslmode=verify-full sslrootcert=%s "+
			"channel_binding=require",
			host, port, password, f.cert))
}

func (f renewedFiles) letsIn(address, password string) *pgx.Conn {
	f.t.Helper()
	conn, err := f.connect(address, password)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close(f.t.Context()) })
	return conn
}

func TestProxyReadsRenewedFiles(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir := t.TempDir()
	f := renewedFiles{t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "password")}
	f.renewCertificate()
	f.put(f.password, []byte("correct horse\n"))
	r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"), "--listen=127.0.0.1:0",
		"--tls-cert="+f.cert, "--tls-key="+f.key,
		"--password-file="+f.password)
	address := r.Logged(t, `msg=listening address=(\S+)`)
	session := f.letsIn(address, "correct horse")

	f.renewCertificate()
	f.letsIn(address, "correct horse")

	f.put(f.password, []byte("battery staple\n"))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	r.Logged(t, `SIGHUP: read the certificate and the password anew`)
	f.letsIn(address, "battery staple")
	_, err := f.connect(address, "correct horse")
	assert.ErrorContains(t, err, "password authentication failed")
	assert.NoError(t, session.Ping(t.Context()), "sessions go on")

	good, err := os.ReadFile(f.cert)
	require.NoError(t, err)
	f.put(f.key, []byte("half of a key"))
	f.put(f.password, nil)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	r.Logged(t, `(?s)SIGHUP: a file cannot be used.*SIGHUP: a file cannot be used`)
	f.put(f.cert, good) // the file of before, which is no longer what has been looked at
	f.letsIn(address, "battery staple")
	r.Logged(t, `the proxy's certificate has changed and cannot be used; going on with the one before`)
}

// A SIGHUP is heeded to its end, whatever else there is to end: what it has begun must not be left behind.
func TestReloadWhileTheProxyEnds(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir, file := commandtest.ShortDir(t), filepath.Join(t.TempDir(), "proxy.yaml")
	text := fmt.Sprintf("credential: environment\nupstreams:\n  - {name: one, dsn: %q, socket-dir: %s}\n",
		a.Server.DSN("orders-api"), dir)
	writeConfig(t, file, text)
	r := commandtest.StartProxy(t, a.System(), "--config="+file, "--drain=0s")
	r.Logged(t, `(msg=listening)`)

	require.NoError(t, os.Remove(file))
	require.NoError(t, syscall.Mkfifo(file, 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	slow, err := os.OpenFile(file, os.O_WRONLY, 0) // which waits until it is being read
	require.NoError(t, err)
	r.End()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, ".s.PGSQL.5432"))
		return errors.Is(err, fs.ErrNotExist)
	}, timeLimit, tick, "it takes no clients any more")
	time.Sleep(100 * time.Millisecond) // in which one that waits for nothing says that it has ended
	_, err = slow.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, slow.Close())
	assert.Equal(t, diag.OK, <-r.Status)
	assert.Regexp(t, `(?s)read the configuration file anew.*shut down`, r.Stderr.String())
}
