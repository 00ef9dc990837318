package login_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// FuzzTokenOnTheWire has any DSN, PGSSLMODE and PGSSLNEGOTIATION go through Configure, a caller's BeforeConnect that
// spoils the config's TLS, the Hook's BeforeConnect and a connect, to a server that has a certificate of its own making
// and keeps what it reads. It must not read the token but where the DSN says that it may:
//   - on a Unix socket that is named, where nothing asks for a verified server,
//   - on the loopback, with sslmode=disable,
//   - inside TLS, with sslmode=require, or where the caller verifies by itself.
func FuzzTokenOnTheWire(f *testing.F) {
	dir := f.TempDir()
	roots := filepath.Join(dir, "roots.pem")
	other, _ := serverCertificate(f, hostileName)
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate[0]})
	require.NoError(f, os.WriteFile(roots, file, 0o600))
	impostor, _ := serverCertificate(f, hostileName)
	for _, dsn := range []string{
		"postgres://u@db.example/d", "host=db.example user=u", "postgres://u@a.example,b.example/d", "postgres://u@/d",
		"postgres://u@db.example/d?sslmode=verify-full", "postgres://u@db.example/d?sslmode=verify-ca",
		"postgres://u@db.example/d?sslrootcert=system", "postgres://u@db.example/d?sslmode=require", "user=u host=",
		"postgres://u@127.0.0.1/d?sslmode=disable", "host=localhost,db.example user=u sslmode=disable",
		"host=/run/pg user=u", "host=/run/pg user=u sslmode=verify-full",
		"postgres://u@%2Frun%2Fpg,db.example/d?sslmode=allow",
		"postgres://u@db.example/d?sslmode=verify-full&ssl=true", "postgres://u@db.example/d?ssl=true",
		"host=db.example user=u sslmode=verify-ca sslrootcert=" + roots,
		"host=db.example user=u sslmode=require sslrootcert=" + roots,
		"host=/run/pg user=u sslmode=verify-full requirepeer=nobody", "host=db.example,, user=u sslmode=verify-full",
		"host=db.example user=u sslmode=prefer sslnegotiation=direct password=",
	} {
		f.Add(dsn, "", "", []byte(nil))
		f.Add(dsn, "verify-full", "", []byte{0x04, 0x05})
		f.Add(dsn, "prefer", "direct", []byte{0x00, 0x11, 0x23, 0x06, 0x04, 0x15, 0x18})
		f.Add(dsn, "disable", "postgres", []byte{0x42, 0x04})
	}
	azuretest.Unsetenv(f, "PG")
	f.Setenv("HOME", dir)
	f.Fuzz(func(t *testing.T, dsn, mode, negotiation string, spoiling []byte) {
		if strings.ContainsRune(mode+negotiation, 0) || readsAnyFile(dsn) {
			t.Skip()
		}
		t.Setenv("PGSSLMODE", mode)
		t.Setenv("PGSSLNEGOTIATION", negotiation)
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			return
		}
		w := wire{impostor: impostor, mayRead: newReadable(dsn, mode, spoiling)}
		w.connect(t, config, spoiling)
	})
}

// readsAnyFile reports whether a DSN may name a device or a FIFO that pgx would read without an end.
func readsAnyFile(dsn string) bool {
	text, err := url.PathUnescape(dsn)
	return err != nil || strings.Contains(text, "/dev") || strings.Contains(text, "/proc") || strings.Contains(text, "\\")
}

// readable says where the token may be read, from the words of the DSN alone.
type readable struct {
	required bool // a server that nobody verifies may read it
	disabled bool // and anybody on the loopback
	socket   bool // and the owner of a Unix socket
	own      bool // the caller verifies by itself, or takes it off
}

func newReadable(dsn, mode string, spoiling []byte) readable {
	unescaped, _ := url.PathUnescape(dsn)
	text := dsn + " " + unescaped + " " + mode
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
	}
	r := readable{required: says("require"), disabled: says("disable"),
		socket: !says("verify-", "system", "ssl=true") || says("disable", "require", "allow", "prefer")} // the last one wins
	for _, change := range spoiling {
		r.own = r.own || change&15 == 15 // VerifyConnection of the caller's own
	}
	return r
}

// A wire connects to servers of an attacker's.
type wire struct {
	impostor tls.Certificate
	mayRead  readable

	mu      sync.Mutex
	servers sync.WaitGroup
	leaks   []string
}

func (w *wire) connect(t *testing.T, config *pgxpool.Config, spoiling []byte) {
	token := azuretest.Static(azcore.AccessToken{Token: fuzzToken, ExpiresOn: time.Now().Add(time.Hour)})
	hook, err := aadpool.NewHook(token, aadpool.WithLogger(slog.New(slog.DiscardHandler)),
		aadpool.WithScope("https://db.example/.default"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), startUpBound)
	defer cancel()
	config.ConnConfig.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.ConnConfig.DialFunc = w.dial
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		azuretest.SpoilTLS(c, spoiling)
		return nil
	}
	if err := hook.Configure(ctx, config); err != nil {
		return
	}
	c := config.ConnConfig.Copy()
	if err := config.BeforeConnect(ctx, c); err != nil {
		return
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil {
		_ = conn.Close(ctx)
	}
	w.servers.Wait()
	for _, leak := range w.leaks {
		t.Errorf("%s read the token; the connect's error: %v", leak, err)
	}
}

func (w *wire) dial(_ context.Context, network, address string) (net.Conn, error) {
	client, server := net.Pipe()
	w.servers.Go(func() {
		defer server.Close()
		_ = server.SetDeadline(time.Now().Add(startUpBound))
		inTLS, read := w.eavesdrop(server)
		if !bytes.Contains(read, []byte(fuzzToken)) || w.mayRead.by(network, address, inTLS) {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.leaks = append(w.leaks, network+" "+address)
	})
	return client, nil
}

func (r readable) by(network, address string, inTLS bool) bool {
	switch {
	case inTLS:
		return r.required || r.own
	case network == "unix":
		return r.socket
	}
	host, _, _ := net.SplitHostPort(address)
	host, _, _ = strings.Cut(host, "%")
	return r.disabled && (strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback())
}

// eavesdrop is a server that asks for a password and then goes on reading. It has TLS for whoever wants it.
func (w *wire) eavesdrop(conn net.Conn) (inTLS bool, read []byte) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return false, nil
	}
	if first[0] == 0 { // a length, and no TLS record
		rest := make([]byte, 7)
		if _, err := io.ReadFull(conn, rest); err != nil {
			return false, nil
		}
		if !bytes.Equal(rest, []byte{0, 0, 8, 4, 210, 22, 47}) { // no SSLRequest
			return false, askForPassword(conn, append(first, rest...))
		}
		if _, err := conn.Write([]byte("S")); err != nil {
			return false, nil
		}
		first = nil
	}
	secured := tls.Server(prefixed{conn, bytes.NewReader(first)}, &tls.Config{
		Certificates: []tls.Certificate{w.impostor}, NextProtos: []string{"postgresql"}})
	if err := secured.Handshake(); err != nil {
		return false, nil
	}
	return true, askForPassword(secured, nil)
}

// prefixed is a connection of which some has been read.
type prefixed struct {
	net.Conn
	read *bytes.Reader
}

func (p prefixed) Read(b []byte) (int, error) {
	if p.read.Len() > 0 {
		return p.read.Read(b)
	}
	return p.Conn.Read(b)
}

// askForPassword answers a start-up message, of which some has been read, and returns all that comes.
func askForPassword(conn net.Conn, read []byte) []byte {
	ask, err := (&pgproto3.AuthenticationCleartextPassword{}).Encode(nil)
	if err != nil {
		return nil
	}
	buffer := make([]byte, 1<<16)
	for range 2 {
		n, err := conn.Read(buffer)
		read = append(read, buffer[:n]...)
		if err != nil {
			return read
		}
		if _, err := conn.Write(ask); err != nil {
			return read
		}
	}
	return read
}

var _ pgconn.DialFunc = (*wire)(nil).dial
