package proxy

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// A login is a session on the server that has just been logged in.
type login struct {
	conn       net.Conn // what messages go through: TCP or a Unix socket, or TLS on it
	server     pgwire.Server
	version    uint32 // of the protocol
	pid        uint32
	secretKey  []byte
	role       string
	database   string
	parameters map[string]string
	notices    []*pgproto3.NoticeResponse
	txStatus   byte
}

// logIn opens a session on the server for a client that has said startup.
func (u *upstream) logIn(ctx context.Context, startup *pgproto3.StartupMessage, t *trail) (*login, error) {
	config := u.config.Server.Copy()
	if u.config.AnyUser {
		config.User = startup.Parameters["user"]
	}
	dsnDatabase := config.Database
	config.Database = cmp.Or(startup.Parameters["database"], dsnDatabase)
	config.RuntimeParams = mergeParameters(config.RuntimeParams, pgwire.SessionParameters(startup))
	if err := u.chooseVersion(config, startup.ProtocolVersion); err != nil {
		return nil, err
	}
	up := &login{}
	dial := config.DialFunc
	up.listenIn(&config.Config)
	t.watch(&config.Config)
	if err := u.config.Hook.BeforeConnect(t.next(ctx, spanToken), config); err != nil {
		return nil, refuseToken(err)
	}
	ctx = t.next(ctx, spanResolve)
	_, _ = reach.Addresses(ctx, &config.Config) // whose error pgconn repeats
	hijacked, err := connect(ctx, &config.Config)
	if err != nil {
		return nil, refuseConnect(err, startup, dsnDatabase)
	}
	up.take(hijacked, dial)
	t.loggedIn(up)
	return up, nil
}

// chooseVersion has the server asked for the client's version of the protocol: it decides how long a cancel key may be.
func (u *upstream) chooseVersion(config *pgx.ConnConfig, clients uint32) error {
	config.MaxProtocolVersion = "3.0"
	if clients >= pgproto3.ProtocolVersion32 && !u.config.OldProtocol {
		config.MaxProtocolVersion = "3.2"
		return nil
	}
	if least := config.MinProtocolVersion; least != "3.0" {
		return refuse(reasonProtocol, "08P01", "the proxy's DSN has min_protocol_version="+least+
			", and this client speaks version 3.0", "")
	}
	return nil
}

// mergeParameters are the run-time parameters of a session: the DSN's, and over them the client's. Both have their say
// in options, of which the server takes the last.
func mergeParameters(dsn, client map[string]string) map[string]string {
	merged := maps.Clone(dsn)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, client)
	if a, b := dsn["options"], client["options"]; a != "" && b != "" {
		merged["options"] = a + " " + b
	}
	return merged
}

func connect(ctx context.Context, config *pgconn.Config) (*pgconn.HijackedConn, error) {
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := conn.SyncConn(ctx); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn.Hijack()
}

// listenIn has config note what pgconn does not keep: the protocol's version, and notices.
func (l *login) listenIn(config *pgconn.Config) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return pollable(conn), nil
	}
	asked := uint32(pgproto3.ProtocolVersion30)
	if config.MaxProtocolVersion == "3.2" {
		asked = pgproto3.ProtocolVersion32
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		l.version, l.notices = asked, nil // of the host that is tried now
		return pgproto3.NewFrontend(&versionReader{Reader: r, version: &l.version}, w)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		l.notices = append(l.notices, pgwire.NoticeResponse(n))
	}
}

// take makes the session of a connection that is up.
func (l *login) take(h *pgconn.HijackedConn, dial pgconn.DialFunc) {
	l.conn, l.pid, l.secretKey, l.txStatus = h.Conn, h.PID, h.SecretKey, h.TxStatus
	l.parameters, l.role, l.database = h.ParameterStatuses, h.Config.User, h.Config.Database
	addr := h.Conn.RemoteAddr()
	l.server = pgwire.Server{
		Network: addr.Network(), Address: addr.String(), TLS: h.TLSConfig,
		Direct: h.Config.SSLNegotiation == "direct", Dial: dial,
	}
	if addr.Network() == "unix" { // which knows only the name that the server gave it
		l.server.Network, l.server.Address = pgconn.NetworkAddress(h.Config.Host, h.Config.Port)
	}
}

// welcome is what a client is told that is in: all of it the server's own, out of which the Hook has taken the token
// that a server may repeat.
func (l *login) welcome(startup *pgproto3.StartupMessage) []pgproto3.BackendMessage {
	var messages []pgproto3.BackendMessage
	if answer := pgwire.NegotiateVersion(startup, l.version); answer != nil {
		messages = append(messages, answer)
	}
	messages = append(messages, &pgproto3.AuthenticationOk{})
	for name, value := range l.parameters {
		messages = append(messages, &pgproto3.ParameterStatus{Name: name, Value: value})
	}
	messages = append(messages, &pgproto3.BackendKeyData{ProcessID: l.pid, SecretKey: l.secretKey})
	for _, n := range l.notices {
		messages = append(messages, n)
	}
	return append(messages, &pgproto3.ReadyForQuery{TxStatus: l.txStatus})
}

// A versionReader hears a server say that it speaks an older protocol than it was asked for: pgconn does not tell.
type versionReader struct {
	io.Reader
	version *uint32
	head    []byte // of the server's first message
	told    bool
}

// negotiateHead is how long a NegotiateProtocolVersion is, at least: type, length, version.
const negotiateHead = 9

func (r *versionReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if !r.told {
		r.head = append(r.head, b[:min(n, negotiateHead-len(r.head))]...)
		r.told = len(r.head) == negotiateHead
		if r.told && r.head[0] == 'v' {
			// PostgreSQL sends the whole version, others the minor version alone.
			minor := binary.BigEndian.Uint32(r.head[5:]) & 0xffff
			*r.version = min(*r.version, pgproto3.ProtocolVersion30|minor)
		}
	}
	return n, err
}

// String keeps what it holds out of a log.
func (l *login) String() string {
	return strings.Join([]string{l.server.Network, l.server.Address}, " ")
}
