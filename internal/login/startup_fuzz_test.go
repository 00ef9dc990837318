package login_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/token"
)

// hostileName is the server's name in the DSN and, but for an impostor's, in its certificate.
const hostileName = "db.example"

// startUpBound is far more than a start-up takes here, where nothing waits for anything but the other side.
const startUpBound = time.Minute

// maxBody keeps a message that announces itself as two gigabytes long from having them allocated, which pgx would do.
const maxBody = 1 << 16

// fuzzToken is what must not be seen.
var fuzzToken = azuretest.JWT(`{"upn":"ada@contoso.example","aud":"https://db.example"}`)

// hostileDSNs are the ways in which a connection may begin. The last is on this machine, where plaintext is allowed.
var hostileDSNs = []string{
	"postgres://orders-api@" + hostileName + "/orders",
	"postgres://orders-api@" + hostileName + "/orders?sslmode=require",
	"postgres://orders-api@" + hostileName + "/orders?sslmode=verify-full",
	"postgres://orders-api@" + hostileName + "/orders?sslnegotiation=direct",
	"postgres://orders-api@" + hostileName + "/orders?sslmode=allow",
	"postgres://orders-api@" + hostileName + "," + hostileName + ":6432/orders",
	"postgres://orders-api@127.0.0.1/orders?sslmode=disable",
}

// FuzzHostileServer has a login go to a server that says what it likes, before TLS and inside it, and that may be an
// impostor, without a certificate for its name.
//   - Before TLS nothing of the token is sent, whatever the server answers.
//   - An impostor is sent nothing of it, but with sslmode=require, which does not ask who answers.
//   - The login ends, without a panic, when the server has said all it has to say.
//   - No error and no log record holds the token, in any of the forms that a server can put it into at little cost.
func FuzzHostileServer(f *testing.F) {
	azuretest.ClearPGEnv(f)
	for _, script := range hostileScripts(f) {
		for way := range hostileDSNs {
			f.Add(byte(way), false, []byte("S"), script)
		}
		f.Add(byte(0), true, []byte("S"), script)
		f.Add(byte(6), false, []byte(nil), script)
	}
	for _, form := range tokenIn {
		said := []byte("SFATAL\x00C28P01\x00Myou sent " + form + "\x00\x00")
		f.Add(byte(1), false, []byte("S"), slices.Concat(asksForPassword, azuretest.Frame('E', said...)))
		f.Add(byte(1), false, []byte("S"), slices.Concat(asksForPassword, azuretest.Frame('N', said...), lets, ready))
		f.Add(byte(1), false, []byte("S"), slices.Concat(asksForPassword, lets,
			azuretest.Frame('S', []byte("a\x00"+form+"\x00")...), ready))
	}
	for _, beforeTLS := range []string{"", "N", "E", "X", "SS", "SSS\x16\x03\x03", "EExx\x00", "N" +
		string(azuretest.Frame('R', 0, 0, 0, 3))} {
		f.Add(byte(0), false, []byte(beforeTLS), []byte(nil))
		f.Add(byte(3), false, []byte(beforeTLS), []byte(nil))
	}
	honest, roots := serverCertificate(f, hostileName)
	impostors, _ := serverCertificate(f, hostileName)
	f.Fuzz(func(t *testing.T, way byte, impostor bool, beforeTLS, inside []byte) {
		dsn := hostileDSNs[int(way)%len(hostileDSNs)]
		server := &hostileServer{certificate: honest, beforeTLS: beforeTLS, inside: inside,
			direct: strings.Contains(dsn, "direct")}
		if impostor {
			server.certificate = impostors
		}
		logs := &azuretest.LogBuffer{}
		hook, err := aadpool.NewHook(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: fuzzToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
		}}, aadpool.WithLogger(logs.Logger()))
		require.NoError(t, err)

		err = logIn(t, hook, dsn, roots, server)
		server.serving.Wait()

		if server.raw.hasToken() && !strings.Contains(dsn, "disable") {
			t.Fatalf("the token was sent in the clear; the login ended with: %v", err)
		}
		if impostor && server.decrypted.hasToken() && !strings.Contains(dsn, "require") {
			t.Fatalf("the token was sent to an impostor; the login ended with: %v", err)
		}
		if said := fmt.Sprintf("%v %+v", err, err); token.Carries(said, fuzzToken) {
			t.Fatal("the token is in the error")
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && token.Carries(fmt.Sprintf("%+v", *refused), fuzzToken) {
			t.Fatal("the token is in the server's error")
		}
		for _, line := range logs.Lines(slog.LevelWarn) {
			if token.Carries(line, fuzzToken) {
				t.Fatal("the token is in the log")
			}
		}
	})
}

// logIn connects to server, fails the test if that does not end, and returns what came of it.
func logIn(t *testing.T, hook *aadpool.Hook, dsn string, roots *x509.CertPool, server *hostileServer) error {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	for _, c := range tlsConfigs(config) {
		c.RootCAs = roots
	}
	config.MaxProtocolMessageBodyLen = maxBody
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return server.accept() }
	ctx, cancel := context.WithTimeout(t.Context(), startUpBound)
	defer cancel()
	if err := hook.BeforeConnect(ctx, config); err != nil {
		t.Fatalf("before the server was asked: %v", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
	}
	if ctx.Err() != nil {
		t.Fatalf("the login hung; it ended with: %v", err)
	}
	return err
}

func tlsConfigs(config *pgx.ConnConfig) (configs []*tls.Config) {
	first := &pgconn.FallbackConfig{TLSConfig: config.TLSConfig}
	for _, entry := range append([]*pgconn.FallbackConfig{first}, config.Fallbacks...) {
		if entry.TLSConfig != nil {
			configs = append(configs, entry.TLSConfig)
		}
	}
	return configs
}

// hostileServer answers one connection by its script and no other. That would be the next host's, or a cancel
// request's.
type hostileServer struct {
	certificate tls.Certificate
	beforeTLS   []byte // its answer to SSLRequest. If that is S alone, TLS follows; else nothing
	inside      []byte // what it says after that, or at once where the client begins without TLS
	direct      bool   // the client begins with TLS at once

	accepted  bool
	serving   sync.WaitGroup
	raw       recorder // what came on the wire
	decrypted recorder // what came inside TLS
}

// accept is called by pgx, for one host after the other.
func (s *hostileServer) accept() (net.Conn, error) {
	if s.accepted {
		return nil, errors.New("the server is gone")
	}
	s.accepted = true
	client, server := net.Pipe()
	s.serving.Go(func() {
		defer server.Close()
		_ = server.SetDeadline(time.Now().Add(startUpBound))
		s.serve(&tappedConn{server, &s.raw})
	})
	return client, nil
}

func (s *hostileServer) serve(conn net.Conn) {
	if !s.direct {
		asked, err := asksForTLS(conn)
		if err != nil {
			return
		}
		if !asked {
			say(conn, s.inside)
			return
		}
		if string(s.beforeTLS) != "S" {
			say(conn, s.beforeTLS)
			return
		}
		if _, err := conn.Write(s.beforeTLS); err != nil {
			return
		}
	}
	encrypted := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.certificate},
		NextProtos: []string{"postgresql"}})
	if encrypted.Handshake() != nil {
		return
	}
	say(&tappedConn{encrypted, &s.decrypted}, s.inside)
}

// asksForTLS reads the start of the first message, and all of it if it is an SSLRequest:
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
func asksForTLS(conn net.Conn) (bool, error) {
	var first [8]byte
	_, err := io.ReadFull(conn, first[:])
	return binary.BigEndian.Uint32(first[4:]) == 80877103, err
}

// say says all of script, whatever comes, and then nothing more. A pipe has no buffers: what comes is read meanwhile.
func say(conn net.Conn, script []byte) {
	var hearing sync.WaitGroup
	hearing.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	_, _ = conn.Write(script)
	if half, ok := conn.(*tappedConn).Conn.(*tls.Conn); ok {
		_ = half.CloseWrite() // the client can still send what it was asked for
	} else {
		_ = conn.Close()
	}
	hearing.Wait()
}

// recorder keeps what is written to it.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

// hasToken reports whether a good part of the token was recorded.
func (r *recorder) hasToken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.buf.Bytes(), []byte(fuzzToken[40:70]))
}

// tappedConn records what is read from it.
type tappedConn struct {
	net.Conn
	heard *recorder
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	_, _ = c.heard.Write(b[:n])
	return n, err
}

// hostileScripts reads testdata/startup.txt.
func hostileScripts(t testing.TB) (scripts [][]byte) {
	text, err := os.ReadFile("testdata/startup.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		_, messages, ok := strings.Cut(line, "|")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		var script []byte
		for rest := strings.TrimSpace(messages); rest != ""; {
			quoted, err := strconv.QuotedPrefix(rest)
			require.NoError(t, err, line)
			message, err := strconv.Unquote(quoted)
			require.NoError(t, err, line)
			script = append(script, message...)
			rest = strings.TrimSpace(rest[len(quoted):])
		}
		scripts = append(scripts, script)
	}
	require.NotEmpty(t, scripts)
	return scripts
}

// serverCertificate makes a server's certificate, signed by itself, and the roots that a client of it trusts.
func serverCertificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// TestHostileServerHearsTheTokenWhereItMay makes sure that the server of FuzzHostileServer could notice a token.
func TestHostileServerHearsTheTokenWhereItMay(t *testing.T) {
	azuretest.ClearPGEnv(t)
	honest, roots := serverCertificate(t, hostileName)
	impostors, _ := serverCertificate(t, hostileName)
	password, ok, ready := azuretest.Frame('R', 0, 0, 0, 3), azuretest.Frame('R', 0, 0, 0, 0), azuretest.Frame('Z', 'I')
	script := slices.Concat(password, ok, ready)
	for _, row := range []struct {
		name, params, beforeTLS string
		certificate             tls.Certificate
		heard, letIn            bool
	}{
		{"a server with the right certificate", "", "S", honest, true, true},
		{"an impostor", "", "S", impostors, false, false},
		{"an impostor, with sslmode=require", "?sslmode=require", "S", impostors, true, true},
		{"a server without TLS", "", "N", honest, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			hook, err := aadpool.NewHook(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
				return azcore.AccessToken{Token: fuzzToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
			}})
			require.NoError(t, err)
			server := &hostileServer{certificate: row.certificate, beforeTLS: []byte(row.beforeTLS), inside: script}
			err = logIn(t, hook, hostileDSNs[0]+row.params, roots, server)
			server.serving.Wait()
			assert.Equal(t, row.letIn, err == nil, err)
			assert.Equal(t, row.heard, server.decrypted.hasToken())
			assert.False(t, server.raw.hasToken())
		})
	}
}
