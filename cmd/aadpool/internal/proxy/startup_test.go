package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// A client whose login fails learns why, by a real error of PostgreSQL's.
func TestRefusalsReachTheClient(t *testing.T) {
	for _, row := range []struct {
		name             string
		make             func(a azure, c *testConfig)
		dsn              string
		code, want, hint string
	}{
		{"another principal's role", func(a azure, c *testConfig) { c.Server.User = "billing-api" }, "",
			"28P01", `password authentication failed for user "billing-api"`, "(reason: role;"},
		{"an expired token, says the server", func(a azure, _ *testConfig) {
			a.server.SetFault(aadpooltest.RefuseLogins("28000",
				"The access token has expired. Acquire a new token and try again."))
		}, "", "28000", "The access token has expired", "(reason: token-expired;"},
		{"too many connections", func(a azure, _ *testConfig) {
			a.server.SetFault(aadpooltest.RefuseLogins("53300", "remaining connection slots are reserved"))
		}, "", "53300", "remaining connection slots are reserved", ""},
		{"no such database", func(azure, *testConfig) {}, " dbname=nowhere", "3D000",
			`database "nowhere" does not exist`, ""},
		{"no token: the cause", func(a azure, _ *testConfig) {
			a.Revoke("orders-api")
		}, "", "57P03", "aadpool proxy: no access token for ", ""},
		{"no token: when to come back", func(a azure, _ *testConfig) {
			a.Revoke("orders-api")
		}, "", "57P03", "(next try in ", ""},
		{"a login that cannot be tried", func(_ azure, c *testConfig) {
			c.Server.ChannelBinding = "require"
		}, "", "28000", "channel_binding=require", ""},
		{"a server that is not there", func(_ azure, c *testConfig) {
			c.Server.Port = 1
		}, "", "08001", "connection refused", ""},
		{"a server with another certificate", func(_ azure, c *testConfig) {
			c.Server.TLSConfig = &tls.Config{ServerName: "127.0.0.1"}
		}, "",
			"08001", "certificate signed by unknown authority", ""},
		{"replication", func(azure, *testConfig) {}, " replication=database", "0A000", "cannot be used for replication",
			"as a role with a password"},
		{"an option that the server does not know", func(azure, *testConfig) {}, " no_such_setting=1", "42704",
			"no_such_setting", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.Register(aadpooltest.Principal{Name: "billing-api"})
			config := a.config(t, a.credential(t))
			row.make(a, &config)
			p, _ := startProxy(t, config)
			_, err := pgx.Connect(t.Context(), p.socketDSN()+row.dsn)
			refused := refusedBy(t, err)
			assert.Equal(t, "FATAL", refused.Severity)
			assert.Equal(t, row.code, refused.Code)
			assert.Contains(t, refused.Message, row.want)
			assert.Contains(t, refused.Hint, row.hint)
			assert.NotRegexp(t, anyJWT, fmt.Sprintf("%+v", refused))
			assert.NotContains(t, refused.Message+refused.Hint, a.app.Secret)
			eventually(t, "nothing is left", func() bool { return p.sessionCount() == 0 })
		})
	}
}

// A token that the server repeats reaches neither the client nor the log.
func TestTokenThatTheServerRepeatsIsRedacted(t *testing.T) {
	a := newAzure(t)
	token, err := a.credential(t).GetToken(t.Context(), tokenRequest())
	require.NoError(t, err)
	a.server.SetFault(aadpooltest.RefuseLogins("28000", "no good: "+token.Token))
	p, _ := startProxy(t, a.config(t, fixedCredential(token)))
	_, err = pgx.Connect(t.Context(), p.socketDSN())
	assert.Equal(t, "no good: [redacted]", refusedBy(t, err).Message)
}

// serveOne listens, has serve deal with the first client after its start-up message, and returns where that is.
func serveOne(t *testing.T, serve func(net.Conn)) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := pgwire.ReadStartup(conn); err == nil {
			serve(conn)
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return listener.Addr()
}

// connectHearing connects to the proxy, and returns what the last notice of the start-up says.
func connectHearing(t *testing.T, p *upstream) (conn *pgx.Conn, notice *string, err error) {
	t.Helper()
	notice = new(string)
	client, err := pgx.ParseConfig(p.socketDSN())
	require.NoError(t, err)
	client.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *notice = n.Message }
	conn, err = pgx.ConnectConfig(t.Context(), client)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, notice, err
}

var aKey = &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}

// A server that repeats the token it was sent, as it lets the client in.
func TestClientDoesNotHearTheTokenFromTheServer(t *testing.T) {
	const secret = "opaque-token-of-another-kind-that-the-server-repeats"
	server := serveOne(t, func(conn net.Conn) {
		_ = pgwire.Send(conn, &pgproto3.AuthenticationCleartextPassword{})
		heard, err := pgwire.ReadPassword(conn)
		if err != nil {
			return
		}
		text := string(bytes.TrimSuffix(heard, []byte{0}))
		_ = pgwire.Send(conn, &pgproto3.NoticeResponse{Severity: "NOTICE", Message: "welcome, " + text},
			&pgproto3.AuthenticationOk{},
			&pgproto3.ParameterStatus{Name: "motd", Value: text}, aKey, &pgproto3.ReadyForQuery{TxStatus: 'I'})
		_, _ = conn.Read(heard)
	})
	p, _ := startProxy(t, newAzure(t).configTo(t, server, secret))
	conn, notice, err := connectHearing(t, p)
	require.NoError(t, err)
	assert.Contains(t, *notice, "[redacted]")
	assert.NotContains(t, *notice, secret[:20])
	assert.Equal(t, "[redacted]", conn.PgConn().ParameterStatus("motd"))
}

// A server may say something right after it has let a client in: that it goes down, or what is new.
func TestWhatTheServerSaysAtOnceReachesTheClient(t *testing.T) {
	goesDown := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01",
		Message: "terminating"}
	news := &pgproto3.NoticeResponse{Severity: "NOTICE", Message: strings.Repeat("new ", 1500)}
	for _, row := range []struct {
		name   string
		says   pgproto3.BackendMessage
		notice string
		code   string
	}{
		{"it goes down", goesDown, "", "57P01"},
		{"a notice of 6 kB", news, news.Message, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := serveOne(t, func(conn net.Conn) { welcomeAndSay(conn, row.says) })
			p, _ := startProxy(t, newAzure(t).configTo(t, server, "a token"))
			conn, notice, err := connectHearing(t, p)
			if err == nil { // it came after the end of the start-up
				err = conn.Ping(t.Context())
			}
			if row.code != "" {
				assert.Equal(t, row.code, refusedBy(t, err).Code)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.notice, *notice)
		})
	}
}

// welcomeAndSay lets a client in, says something with the same write, and answers empty queries.
func welcomeAndSay(conn net.Conn, says pgproto3.BackendMessage) {
	_ = pgwire.Send(conn, &pgproto3.AuthenticationOk{}, aKey, &pgproto3.ReadyForQuery{TxStatus: 'I'}, says)
	backend := pgproto3.NewBackend(conn, conn)
	for {
		message, err := backend.Receive()
		if _, isQuery := message.(*pgproto3.Query); err != nil || !isQuery {
			return
		}
		_ = pgwire.Send(conn, &pgproto3.EmptyQueryResponse{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

// A server that keeps refusing is not asked by each client that comes: servers lock out roles whose logins keep
// failing.
func TestServerThatKeepsRefusingIsLeftAlone(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Server.User = "billing-api"
	p, _ := startProxy(t, config)
	for range 20 {
		_, err := pgx.Connect(t.Context(), p.socketDSN())
		refused := refusedBy(t, err)
		assert.Equal(t, "28P01", refused.Code, "each client gets the refusal")
		assert.Equal(t, `password authentication failed for user "billing-api"`, refused.Message)
		assert.NotEmpty(t, refused.Hint)
	}
	assert.Less(t, len(a.server.Logins()), 10)
}

// Whatever the first bytes are, the client hears of it, and the proxy serves the next one.
func TestWhatIsNoPostgresClientIsTurnedAway(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	const nothing = "nothing: it only hangs up"
	for _, row := range []struct {
		name, first, want string
	}{
		{"HTTP", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", "invalid length of startup packet"},
		{"a packet that claims 2 GB", "\x7f\xff\xff\xff\x00\x03\x00\x00", "invalid length of startup packet"},
		{"protocol 2.0", "\x00\x00\x00\x09\x00\x02\x00\x00\x00", "unsupported frontend protocol 2.0"},
		{"no user", "\x00\x00\x00\x14\x00\x03\x00\x00database\x00x\x00\x00",
			"no PostgreSQL user name specified in startup packet"},
		{"a start-up packet that does not end", "\x00\x00\x00\x10\x00\x03\x00\x00user\x00x\x00y",
			"invalid startup packet layout"},
		{"a start-up packet without a value", "\x00\x00\x00\x0e\x00\x03\x00\x00user\x00\x00",
			"invalid startup packet layout"},
		{"requests for encryption without end", strings.Repeat("\x00\x00\x00\x08\x04\xd2\x16\x30", 3),
			"unsupported frontend protocol"},
		{"TLS, where there is none", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", nothing},
		{"nothing at all", "", nothing},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := p.dialSocket(t)
			_, err := io.WriteString(conn, row.first)
			require.NoError(t, err)
			require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			if row.want == nothing {
				assert.Empty(t, answer)
				return
			}
			assert.Contains(t, string(answer), row.want)
		})
	}
	assert.Equal(t, 1, ask[int](t, connectTo(t, p.socketDSN()), "select 1"))
}

// A load balancer's probes are no news.
func TestProbesAreNoWarnings(t *testing.T) {
	for _, row := range []struct {
		name  string
		probe func(conn *net.TCPConn)
	}{
		{"that hang up", func(*net.TCPConn) {}},
		{"that reset the connection", func(conn *net.TCPConn) { _ = conn.SetLinger(0) }},
		{"that reset it after a byte", func(conn *net.TCPConn) { _, _ = conn.Write([]byte{0}); _ = conn.SetLinger(0) }},
		{"that reset it in a TLS handshake", func(conn *net.TCPConn) {
			_, _ = conn.Write([]byte("\x16\x03\x01\x01\x00\x01"))
			_ = conn.SetLinger(0)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			certificate, _ := testCertificate(t)
			var log lockedBuffer
			config := a.config(t, a.credential(t))
			config.Listen, config.Certificate = []string{"127.0.0.1:0"}, fixed(certificate)
			config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			p, stop := startProxy(t, config)
			for range 30 {
				conn := p.dialTCP(t).(*net.TCPConn)
				row.probe(conn)
				require.NoError(t, conn.Close())
			}
			eventually(t, "all have been noticed", func() bool { return p.metrics.refusals[reasonGone].Load() == 30 })
			stop() // what it would tell, it has told by then
			assert.NotContains(t, log.String(), "level=WARN")
		})
	}
}

// Many clients that are refused at once for one reason are one line.
func TestRefusalsAtOnceAreOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		lines := refusalLog{logger: slog.New(slog.NewTextHandler(&log, nil))}
		for range 999 {
			lines.add(slog.LevelWarn, "timeout", []any{"reason", "timeout"})
		}
		lines.add(slog.LevelWarn, "peer", []any{"reason", "peer"})
		time.Sleep(2 * refusalsAtOnce)
		assert.Equal(t, 2, strings.Count(log.String(), "a client got no session"), log.String())
		assert.Equal(t, 1, strings.Count(log.String(), "clients=999"), log.String())
		assert.NotContains(t, log.String(), "clients=1\n")

		lines.add(slog.LevelWarn, "timeout", []any{"reason", "timeout"})
		lines.flush()
		assert.Equal(t, 3, strings.Count(log.String(), "a client got no session"), "none is lost at the end")
	})
}

// A refused client that does not hang up takes one of the places of those that start up, or there would be no limit.
func TestRefusedClientsAreCountedUntilTheyAreGone(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.limits = patient
	p, _ := startProxy(t, config)
	var refused []net.Conn
	for range 3 {
		conn := p.dialSocket(t)
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		require.NoError(t, err)
		refused = append(refused, conn)
	}
	starting := func() int {
		p.proxy.places.mu.Lock()
		defer p.proxy.places.mu.Unlock()
		return p.proxy.places.starting
	}
	assert.Equal(t, len(refused), starting())
	for _, conn := range refused {
		require.NoError(t, conn.Close())
	}
	eventually(t, "their places are free", func() bool { return starting() == 0 })
}

// A slowConn takes its time to heed a read deadline.
type slowConn struct{ net.Conn }

func (c slowConn) SetReadDeadline(at time.Time) error {
	time.Sleep(lingering / 2)
	return c.Conn.SetReadDeadline(at)
}

// A client that is refused while the proxy closes has as long to hang up as any other.
func TestRefusalWhileTheProxyCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newScriptedUpstream(t)
		p.proxy.config.StartupTimeout = time.Hour
		client, accepted := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { p.serve(&listener{}, slowConn{accepted}) })
		synctest.Wait()
		p.close()
		synctest.Wait() // the deadline of what the client says is on its way
		_, err := io.WriteString(client, "GET ")
		require.NoError(t, err)
		first := make([]byte, 1)
		_, err = io.ReadFull(client, first)
		require.NoError(t, err)
		refused := time.Now()
		rest, err := io.ReadAll(client)
		require.NoError(t, err)
		assert.Contains(t, string(first)+string(rest), "C57P03")
		assert.Equal(t, lingering, time.Since(refused))
		serving.Wait()
	})
}

func TestEncryptionRequests(t *testing.T) {
	a := newAzure(t)
	certificate, _ := testCertificate(t)
	config := a.config(t, a.credential(t))
	config.Listen, config.Certificate = []string{"127.0.0.1:0"}, fixed(certificate)
	p, _ := startProxy(t, config)
	for _, row := range []struct {
		name    string
		dial    func() io.ReadWriter
		request pgproto3.FrontendMessage
		want    string
	}{
		{"GSS on a Unix socket", func() io.ReadWriter { return p.dialSocket(t) }, &pgproto3.GSSEncRequest{}, "N"},
		{"TLS on a Unix socket", func() io.ReadWriter { return p.dialSocket(t) }, &pgproto3.SSLRequest{}, "N"},
		{"GSS over TCP", func() io.ReadWriter { return p.dialTCP(t) }, &pgproto3.GSSEncRequest{}, "N"},
		{"TLS over TCP", func() io.ReadWriter { return p.dialTCP(t) }, &pgproto3.SSLRequest{}, "S"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := row.dial()
			packet, err := row.request.Encode(nil)
			require.NoError(t, err)
			_, err = conn.Write(packet)
			require.NoError(t, err)
			var answer [1]byte
			_, err = io.ReadFull(conn, answer[:])
			require.NoError(t, err)
			assert.Equal(t, row.want, string(answer[:]))
		})
	}
}

func TestTLSAndPasswordOverTCP(t *testing.T) {
	a := newAzure(t)
	certificate, root := testCertificate(t)
	config := a.config(t, a.credential(t))
	config.Listen, config.Certificate, config.Password = []string{"127.0.0.1:0"}, fixed(certificate),
		testPassword(t, "correct horse")
	p, _ := startProxy(t, config)
	verified := "sslmode=verify-full sslrootcert=" + root
	for _, row := range []struct {
		name, dsn, code string
	}{
		{"the right password", verified + " password='correct horse'", ""},
		{"with channel binding", verified + " password='correct horse' channel_binding=require", ""},
		{"with direct TLS", verified + " password='correct horse' sslnegotiation=direct", ""},
		{"a wrong password", verified + " password='correct mule'", "28P01"},
		{"no TLS", "sslmode=disable password='correct horse'", "28000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			logins := len(a.server.Logins())
			conn, err := pgx.Connect(t.Context(), p.tcpDSN(row.dsn))
			if row.code != "" {
				assert.Equal(t, row.code, refusedBy(t, err).Code)
				assert.Len(t, a.server.Logins(), logins, "the server has not been asked")
				return
			}
			require.NoError(t, err)
			defer conn.Close(context.Background())
			assert.Equal(t, "orders-api", ask[string](t, conn, "select session_user"))
		})
	}
}

func TestWhoDoesNotSayThePasswordTakesNoSession(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Listen, config.Password = []string{"127.0.0.1:0"}, testPassword(t, "correct horse")
	config.MaxSessions = 1
	p, _ := startProxy(t, config)
	silent, err := pgconn.ParseConfig(p.tcpDSN("sslmode=disable password=x"))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", net.JoinHostPort(silent.Host, fmt.Sprint(silent.Port)))
	require.NoError(t, err)
	defer conn.Close()
	client := pgproto3.NewFrontend(conn, conn)
	client.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": "u"}})
	require.NoError(t, client.Flush())
	asked, err := client.Receive()
	require.NoError(t, err)
	require.IsType(t, &pgproto3.AuthenticationSASL{}, asked)

	connectTo(t, p.tcpDSN("sslmode=disable password='correct horse'"))
}

func TestAllowUser(t *testing.T) {
	for _, row := range []struct {
		name string
		uid  uint32
		want bool
	}{
		{"one that is allowed", 4242, true},
		{"the proxy's own, which may always", 1000, true},
		{"another one", 1001, false},
		{"root, which is not allowed by name", 0, false},
	} {
		assert.Equal(t, row.want, mayUse(row.uid, 1000, []uint32{7, 4242}), row.name)
	}

	assert.True(t, mayUse(0, 1000, nil), "root passes by the socket's mode")
	assert.False(t, mayUse(1001, 1000, nil), "nobody else does")

	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.AllowUsers = []uint32{4242}
	p, _ := startProxy(t, config)
	conn, err := pgx.Connect(t.Context(), p.socketDSN())
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestClientThatSaysNothingIsLetGo(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.StartupTimeout = 100 * time.Millisecond
	p, _ := startProxy(t, config)
	answer, err := io.ReadAll(p.dialSocket(t))
	require.NoError(t, err)
	assert.Empty(t, answer)
}

// A client that hangs up while the server takes its time leaves no login behind that nobody waits for.
func TestClientThatHangsUpEndsItsLogin(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.StallAt(aadpooltest.PhasePassword))
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := p.dialSocket(t)
	packet, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": "orders-api"}}).Encode(nil)
	require.NoError(t, err)
	_, err = conn.Write(packet)
	require.NoError(t, err)
	eventually(t, "it logs in", func() bool { return p.sessionCount() == 1 && a.server.Stats().Connections == 1 })
	assert.Zero(t, p.openCount(), "a login under way is no session")
	require.NoError(t, conn.Close())
	eventually(t, "the login has ended", func() bool { return p.sessionCount() == 0 })
}

func TestSessionLimit(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.MaxSessions = 2
	p, _ := startProxy(t, config)
	one, _ := connectTo(t, p.socketDSN()), connectTo(t, p.socketDSN())
	_, err := pgx.Connect(t.Context(), p.socketDSN())
	assert.Equal(t, "53300", refusedBy(t, err).Code)
	assert.Equal(t, 2, p.openCount())
	require.NoError(t, one.Close(t.Context()))
	eventually(t, "there is room again", func() bool { return p.sessionCount() == 1 })
	connectTo(t, p.socketDSN())
}

// Clients that come at once, from a cold start and with a credential that keeps nothing, cost one token request. The
// benchmark does it with a thousand.
func TestManyClientsAtOnceAskForOneToken(t *testing.T) {
	a := newAzure(t)
	token, err := a.credential(t).GetToken(t.Context(), tokenRequest())
	require.NoError(t, err)
	slow := &countingCredential{token: token, takes: 300 * time.Millisecond}
	p, _ := startProxy(t, a.config(t, slow))
	var clients sync.WaitGroup
	const n = 50 // the server takes 200
	begin := make(chan struct{})
	for range n {
		clients.Go(func() {
			<-begin
			conn, err := pgx.Connect(t.Context(), p.socketDSN())
			if assert.NoError(t, err) {
				assert.NoError(t, conn.Close(t.Context()))
			}
		})
	}
	close(begin)
	clients.Wait()
	assert.EqualValues(t, 1, slow.calls.Load())
	eventually(t, "each is counted", func() bool { return p.metrics.opened.Load() == n }) // when it has had its answer
}

// Clients that say anything at all at the start, at random, are a second's work for the fuzzer's seeds.
func FuzzClientStartup(f *testing.F) {
	token := azcore.AccessToken{Token: "eyJfuzzfuzzfuzz.eyJfuzzfuzzfuzz.fuzz", ExpiresOn: time.Now().Add(time.Hour)}
	for _, seed := range startupSeeds(f) {
		f.Add(seed)
	}
	a := newAzure(f)
	a.server.SetFault(aadpooltest.RefuseLogins("28000", token.Token))
	certificate, _ := testCertificate(f)
	config := a.config(f, fixedCredential(token))
	config.StartupTimeout = time.Second
	config.Certificate, config.Password, config.Listen = fixed(certificate), testPassword(f, "correct horse"),
		[]string{"127.0.0.1:0"}
	behindPassword, _ := startProxy(f, config)
	open := a.config(f, fixedCredential(token))
	open.StartupTimeout = time.Second
	p, _ := startProxy(f, open)
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, conn := range []io.ReadWriteCloser{p.dialSocket(t), behindPassword.dialTCP(t)} {
			_, _ = conn.Write(said)
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			heard, err := io.ReadAll(conn)
			_ = conn.Close()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the client is left hanging")
			}
			if bytes.Contains(heard, []byte(token.Token[:12])) {
				t.Fatal("the client hears the token")
			}
			if bytes.Contains(heard, []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")) {
				t.Fatal("the client is told that it is in, and it is not")
			}
		}
	})
}

// startupSeeds are what clients say, whole and cut.
func startupSeeds(t testing.TB) (seeds [][]byte) {
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.SSLRequest{}, &pgproto3.GSSEncRequest{}, &pgproto3.CancelRequest{ProcessID: 7, SecretKey: make([]byte, 32)},
		&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
			Parameters: map[string]string{"user": "orders-api", "options": "-c a=b"}},
		&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion32,
			Parameters: map[string]string{"user": "orders-api", "_pq_.x": "1"}},
		&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
			Parameters: map[string]string{"user": "orders-api", "replication": "1"}},
	} {
		packet, err := m.Encode(nil)
		require.NoError(t, err)
		seeds = append(seeds, packet, packet[:len(packet)/2], append(bytes.Clone(packet), packet...))
	}
	proof := binary.BigEndian.AppendUint32([]byte{'p'}, 4+54)
	proof = append(proof, "SCRAM-SHA-256\x00\x00\x00\x00\x20n,,n=,r=rOprNGfwEbeRWgbNEkqOxxxx"...)
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	return append(seeds, append(bytes.Clone(seeds[9]), proof...), noise, []byte("GET / HTTP/1.1\r\n\r\n"))
}

func tokenRequest() policy.TokenRequestOptions {
	return policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}}
}
