package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// A client is one from its connection to its session.
type client struct {
	upstream    *upstream
	listener    *listener
	accepted    net.Conn
	peer        *unixsocket.Peer // nil: not known
	conn        *pgwire.Conn
	startup     *pgproto3.StartupMessage
	certificate *tls.Certificate // the proxy's, that the client is shown; nil: none
	early       []byte           // what it has said too early
	trail       *trail
}

// serve is a client's life. It has been admitted.
func (u *upstream) serve(l *listener, accepted net.Conn) {
	began := time.Now()
	accepted = pollable(accepted)
	ctx, cancel := context.WithDeadline(u.closing, began.Add(u.proxy.config.StartupTimeout))
	defer cancel()
	_ = accepted.SetDeadline(began.Add(u.proxy.config.StartupTimeout))
	cut := make(chan struct{})
	stop := context.AfterFunc(u.closing, func() {
		_ = accepted.SetReadDeadline(time.Now())
		close(cut)
	})
	c := &client{upstream: u, listener: l, accepted: accepted, conn: pgwire.NewConn(accepted),
		trail: newTrail(u, began)}
	s, err := c.start(ctx)
	if !stop() {
		<-cut // or else it would cut what comes now, too
	}
	if s == nil {
		defer u.started()
		if err != nil {
			c.refuse(err)
		}
		_ = accepted.Close()
		return
	}
	c.trail.end(ctx, nil)
	u.connected(c.trail.in(ctx), time.Since(began))
	u.proxy.memory.connected()
	// In a goroutine of its own: this one's stack has grown with two handshakes, and a session may last for days.
	u.serving.Go(s.run)
}

// start brings the client to its session. Without an error and a session, it wanted none.
func (c *client) start(ctx context.Context) (*session, error) {
	if err := c.checkPeer(); err != nil {
		return nil, err
	}
	first, err := c.conn.FirstMessage(ctx, c.encryption())
	if err != nil {
		return nil, refuseStartup(err)
	}
	if request, ok := first.(*pgproto3.CancelRequest); ok {
		c.upstream.cancel(ctx, request)
		return nil, nil
	}
	c.startup = first.(*pgproto3.StartupMessage)
	c.trail.begin(ctx)
	if err := c.checkStartup(); err != nil {
		return nil, err
	}
	if err := c.checkCertificate(); err != nil {
		return nil, err
	}
	if err := c.authenticate(); err != nil {
		return nil, err
	}
	if err := c.checkAllowed(); err != nil {
		return nil, err
	}
	s := &session{upstream: c.upstream} // none of those that there may be goes to who does not know the password
	if err := c.upstream.reserve(s); err != nil {
		return nil, &refusal{reason: reasonLimit, told: err.(*pgconn.PgError)}
	}
	if err := c.open(ctx, s); err != nil {
		c.upstream.unreserve(s)
		return nil, err
	}
	return s, nil
}

// authenticate asks the client for its password, if the proxy has one.
func (c *client) authenticate() error {
	if password := c.upstream.password.Load(); password != nil {
		return password.ask(c.conn, c.startup.Parameters["user"], c.certificate)
	}
	return nil
}

// open logs in to the server for the client, and tells it that it is in.
func (c *client) open(ctx context.Context, s *session) error {
	var up *login
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.upstream.loggingIn, cancel)()
	gone, err := c.unlessGone(ctx, func(ctx context.Context) (err error) {
		up, err = c.upstream.logIn(ctx, c.startup, c.trail)
		return err
	})
	if gone {
		if up != nil {
			_ = up.conn.Close()
		}
		return &refusal{reason: reasonGone, err: errors.New("the client hung up before the server had let it in")}
	}
	if err != nil {
		return err
	}
	if c.upstream.loggingIn.Err() != nil { // a moment later run sees to it
		_ = up.conn.Close()
		return &refusal{reason: reasonLimit, told: errShuttingDown}
	}
	s.begin(c, up)
	s.logBegin(c, up)
	if err := pgwire.Send(c.conn, up.welcome(c.startup)...); err != nil {
		s.endedBy(endedClientGone)
		s.end()
		return &refusal{reason: reasonGone, err: err}
	}
	return nil
}

func (c *client) encryption() pgwire.Encryption {
	if c.listener.unix || c.upstream.config.Certificate == nil {
		return pgwire.Encryption{}
	}
	certificate, cas := c.upstream.config.Certificate.current()
	c.certificate = certificate
	return pgwire.Encryption{Config: serverTLS(certificate, cas)}
}

// checkPeer refuses a process on a Unix socket whose user is not allowed. The socket's mode alone would let in whoever
// has connected before it was set.
func (c *client) checkPeer() error {
	if !c.listener.unix || !unixsocket.CanCheckPeers {
		return nil
	}
	peer, err := unixsocket.PeerOf(c.accepted)
	if err != nil {
		told := pgwire.Fatal("28000", "the proxy cannot tell who is connecting")
		return &refusal{reason: reasonPeer, told: told, err: err}
	}
	c.peer = &peer
	if mayUse(peer.UID, os.Getuid(), c.upstream.config.AllowUsers) {
		return nil
	}
	return refuse(reasonPeer, "28000", fmt.Sprintf("user id %d may not use this proxy", peer.UID),
		"the proxy's --allow-user lists who may")
}

// mayUse reports whether user uid may use the proxy of user own. Root passes by the mode of a socket that is for its
// owner alone.
func mayUse(uid uint32, own int, allowed []uint32) bool {
	return int64(uid) == int64(own) || slices.Contains(allowed, uid) || (uid == 0 && len(allowed) == 0)
}

// checkCertificate refuses a client whose certificate has none of the names that are allowed.
func (c *client) checkCertificate() error {
	allowed := c.upstream.config.AllowCertificates
	if c.listener.unix || len(allowed) == 0 {
		return nil
	}
	if over, ok := c.conn.Conn.(*tls.Conn); ok {
		if shown := over.ConnectionState().PeerCertificates; len(shown) > 0 {
			isAllowed := func(name string) bool { return slices.Contains(allowed, name) }
			if slices.ContainsFunc(clientNames(shown[0]), isAllowed) {
				return nil
			}
		}
	}
	return refuse(reasonPeer, "28000", "the certificate of this client may not use this proxy",
		"the proxy's --allow-certificate lists which may")
}

// checkStartup refuses what can be refused before a login.
func (c *client) checkStartup() error {
	switch {
	case c.upstream.loggingIn.Err() != nil:
		return &refusal{reason: reasonLimit, told: errShuttingDown}
	case c.startup.Parameters["user"] == "":
		return refuse(reasonProtocol, "28000", "no PostgreSQL user name specified in startup packet", "")
	case !c.listener.unix && c.upstream.config.Certificate != nil && !c.conn.Secure():
		return refuse(reasonProtocol, "28000", "the proxy takes no connection without TLS here",
			"set sslmode=require, or verify-full, for the connection to the proxy")
	case pgwire.AsksForReplication(c.startup):
		return refuse(reasonReplication, "0A000", "the proxy cannot be used for replication: "+
			"Microsoft Entra access tokens do not log in to replication connections",
			"connect to the server itself, as a role with a password")
	}
	return nil
}

// checkAllowed refuses roles and databases that the upstream is not for. Who has not shown a password is not told.
func (c *client) checkAllowed() error {
	config := c.upstream.config
	role := config.Server.User
	if config.AnyUser {
		role = c.startup.Parameters["user"]
	}
	if len(config.AllowRoles) > 0 && !slices.Contains(config.AllowRoles, role) {
		return refuse(reasonDenied, "28000", "the proxy takes no session as this role here",
			"its --allow-role lists which it takes")
	}
	database := cmp.Or(c.startup.Parameters["database"], config.Server.Database, role)
	if len(config.AllowDatabases) > 0 && !slices.Contains(config.AllowDatabases, database) {
		return refuse(reasonDenied, "28000", "the proxy takes no session on this database here",
			"its --allow-database lists which it takes")
	}
	return nil
}

// unlessGone does f, whose context ends when the client hangs up. What the client says meanwhile is kept.
func (c *client) unlessGone(ctx context.Context, f func(context.Context) error) (gone bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hung := make(chan bool, 1)
	go func() {
		var b [1]byte
		n, err := c.conn.Read(b[:])
		c.early = b[:n]
		hung <- n == 0 && !isTimeout(err)
		if n == 0 && !isTimeout(err) {
			cancel()
		}
	}()
	err = f(ctx)
	_ = c.accepted.SetReadDeadline(time.Now())
	gone = <-hung
	deadline, _ := ctx.Deadline()
	_ = c.accepted.SetReadDeadline(deadline)
	return gone, err
}

// httpAnswer is for a browser, a health check or a scraper that has taken the port for another.
const httpAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" +
	"This is the PostgreSQL port of aadpool proxy. Its health and its metrics are where --http says.\n"

// refuse tells the client why it gets no session, and the log.
func (c *client) refuse(err error) {
	r := &refusal{reason: reasonProtocol, err: err}
	errors.As(err, &r)
	if c.upstream.loggingIn.Err() != nil {
		r = &refusal{reason: reasonLimit, told: errShuttingDown}
	}
	c.upstream.metrics.refused(r.reason)
	c.trail.end(context.Background(), r)
	c.log(r)
	_ = c.accepted.SetDeadline(time.Now().Add(c.upstream.proxy.config.limits.lingering))
	if other, ok := errors.AsType[*pgwire.LengthError](r.err); ok && other.IsHTTP() {
		_, _ = io.WriteString(c.conn, httpAnswer)
	} else if r.told != nil {
		_ = pgwire.Send(c.conn, pgwire.ErrorResponse(r.told))
	}
	closeWrite(c.conn.Conn, c.accepted)
	_, _ = io.Copy(io.Discard, c.accepted) // closed with something unread, TCP would take away what was sent last
}

// log records the refusal. A client that hangs up may have a reason of its own, such as a password to ask for. Package
// aadpool warns of refused logins and missing tokens by itself.
func (c *client) log(r *refusal) {
	text := line(r)
	attrs := []any{"reason", string(r.reason), "error", text}
	if r.told != nil {
		attrs = append(attrs, "sqlstate", r.told.Code)
	}
	attrs = append(attrs, c.who()...)
	var user, database string
	if c.startup != nil {
		user, database = c.startup.Parameters["user"], told(c.startup.Parameters["database"])
		attrs = append(attrs, "database", database)
	}
	level := slog.LevelWarn
	if r.reason == reasonGone {
		level = slog.LevelDebug
	}
	host, _, _ := net.SplitHostPort(c.accepted.RemoteAddr().String())
	c.upstream.refusals.add(level, fmt.Sprintf("%s %q %q %q %q %v", r.reason, text, host, user, database, c.uid()), attrs)
}
