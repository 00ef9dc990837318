package aadpooltest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// saslOAuthBearer is the name of the SASL mechanism: https://www.rfc-editor.org/rfc/rfc7628.
const saslOAuthBearer = "OAUTHBEARER"

var errDropped = errors.New("dropped by a fault")

// connection is one client of a [Server], from accept to end.
type connection struct {
	server *Server
	tcp    net.Conn
	conn   *pgwire.Conn // what messages go through: tcp, or TLS on it
	login  Login        // what is known so far

	ctx    context.Context // ends when the connection is cut
	cancel context.CancelFunc
}

func newConnection(s *Server, tcp net.Conn) *connection {
	ctx, cancel := context.WithCancel(s.closing)
	return &connection{
		server: s,
		tcp:    tcp,
		conn:   pgwire.NewConn(tcp),
		ctx:    ctx,
		cancel: cancel,
	}
}

// cut ends the connection at once, whatever it is doing, without TLS's farewell.
func (c *connection) cut() {
	c.cancel()
	_ = c.tcp.Close()
}

func (c *connection) serve() {
	defer c.cut()
	ctx, cancel := context.WithTimeout(c.ctx, loginTimeout)
	defer cancel()
	_ = c.tcp.SetDeadline(time.Now().Add(loginTimeout))

	first, err := c.firstMessage(ctx)
	if err != nil {
		c.refuse(err)
		return
	}
	if request, ok := first.(*pgproto3.CancelRequest); ok {
		_ = c.server.postgres.cancel(ctx, request) // the client is told nothing, whatever comes of it
		return
	}
	session, err := c.logIn(ctx, first.(*pgproto3.StartupMessage))
	if err != nil {
		c.refuse(err)
		return
	}
	defer session.Conn.Close()
	c.server.count(func(s *ServerStats) { s.Sessions++ }) // before the client knows of it
	defer c.server.count(func(s *ServerStats) { s.Sessions-- })
	if err := c.welcome(session); err != nil {
		return
	}
	_ = c.tcp.SetDeadline(time.Time{})
	c.relay(session.Conn)
}

// reach does in this phase of the login what a fault wants.
func (c *connection) reach(ctx context.Context, p Phase) error {
	for {
		fault, changed := c.server.currentFault()
		if fault.phase != p {
			return nil
		}
		if fault.kind == dropFault {
			return errDropped
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// firstMessage negotiates encryption and returns what comes after it: a StartupMessage or a CancelRequest.
func (c *connection) firstMessage(ctx context.Context) (pgproto3.FrontendMessage, error) {
	if err := c.reach(ctx, PhaseAccept); err != nil {
		return nil, err
	}
	return c.conn.FirstMessage(ctx, pgwire.Encryption{
		Config: c.server.tls,
		Asked: func(ctx context.Context) (bool, error) {
			if err := c.reach(ctx, PhaseSSLRequest); err != nil {
				return false, err
			}
			fault, _ := c.server.currentFault()
			return fault.kind != downgradeFault, nil
		},
		Done: func(ctx context.Context) error { return c.reach(ctx, PhaseTLS) },
	})
}

// logIn authenticates the client and opens its session. Of the errors, the client is told those that are a PgError.
func (c *connection) logIn(ctx context.Context, startup *pgproto3.StartupMessage) (*pgconn.HijackedConn, error) {
	c.readStartup(startup)
	if err := c.reach(ctx, PhaseStartup); err != nil {
		return nil, err
	}
	if err := c.checkStartup(startup); err != nil {
		return nil, err
	}
	if err := c.negotiateVersion(startup); err != nil {
		return nil, err
	}
	method, audience := c.server.authentication()
	c.login.Method = method
	token, err := c.askToken(method)
	if err != nil {
		return nil, err
	}
	if err := c.reach(ctx, PhasePassword); err != nil {
		return nil, err
	}
	if err := c.checkToken(ctx, token, audience); err != nil {
		if method == OAuthBearer {
			c.refuseBearer(audience)
		}
		return nil, err
	}
	session, err := c.openSession(ctx, pgwire.SessionParameters(startup))
	if err != nil {
		return nil, asPgError(err)
	}
	return session, nil
}

func (c *connection) readStartup(startup *pgproto3.StartupMessage) {
	c.login.Role = startup.Parameters["user"]
	c.login.Database = startup.Parameters["database"]
	if c.login.Database == "" {
		c.login.Database = c.login.Role // PostgreSQL's default
	}
	if !c.conn.Secure() {
		c.server.count(func(s *ServerStats) { s.PlaintextStartups++ })
	}
}

// checkStartup refuses what Azure does before it asks for a token.
func (c *connection) checkStartup(startup *pgproto3.StartupMessage) error {
	host, _, _ := net.SplitHostPort(c.tcp.RemoteAddr().String())
	if c.login.Role == "" {
		return fatal("28000", "no PostgreSQL user name specified in startup packet")
	}
	if fault, _ := c.server.currentFault(); !c.conn.Secure() && fault.kind != downgradeFault {
		return fatal("28000", fmt.Sprintf(`no pg_hba.conf entry for host "%s", user "%s", database "%s", no encryption`,
			host, c.login.Role, c.login.Database))
	}
	if !pgwire.AsksForReplication(startup) {
		return nil
	}
	return fatal("28000",
		fmt.Sprintf(`no pg_hba.conf entry for replication connection from host "%s", user "%s", SSL encryption`,
			host, c.login.Role))
}

// negotiateVersion tells a client that asks for more than protocol 3.0 that this is all there is.
func (c *connection) negotiateVersion(startup *pgproto3.StartupMessage) error {
	answer := pgwire.NegotiateVersion(startup, pgproto3.ProtocolVersion30)
	if answer == nil {
		return nil
	}
	return pgwire.Send(c.conn, answer)
}

// askToken asks for the access token and returns what comes.
func (c *connection) askToken(method AuthMethod) (string, error) {
	var request pgproto3.BackendMessage = &pgproto3.AuthenticationCleartextPassword{}
	if method == OAuthBearer {
		request = &pgproto3.AuthenticationSASL{AuthMechanisms: []string{saslOAuthBearer}}
	}
	if err := pgwire.Send(c.conn, request); err != nil {
		return "", err
	}
	response, err := pgwire.ReadPassword(c.conn)
	if err != nil {
		return "", err
	}
	if !c.conn.Secure() {
		c.server.count(func(s *ServerStats) { s.PlaintextPasswords++ })
	}
	if !c.server.takesPassword(len(response) - 1) { // it ends with a zero byte
		return "", fatal("08P01", messageTooLong)
	}
	if method == OAuthBearer {
		return bearerToken(response)
	}
	var password pgproto3.PasswordMessage
	if err := password.Decode(response); err != nil {
		return "", fatal("08P01", "malformed password packet")
	}
	return password.Password, nil
}

// checkToken decides whether the token is good for the role.
func (c *connection) checkToken(ctx context.Context, token, audience string) error {
	claims, err := c.server.authority.Verify(token, audience)
	principal, known := Principal{}, false
	if err == nil {
		principal, known = c.server.authority.principalOf(claims)
		c.login.Principal, c.login.TokenExpiresAt = principal.Name, claims.ExpiresAt
	}
	switch fault, _ := c.server.currentFault(); {
	case fault.kind == refuseFault:
		return fault.refusal
	case !c.conn.Secure():
		return fatal("28000", "a password came without TLS")
	case err != nil:
		return tokenRefusal(err, audience)
	case !known:
		return c.server.roleRefusal(c.login.Role, principal)
	}
	if err := c.server.checkRole(ctx, principal, claims, c.login.Role); err != nil {
		return asPgError(err)
	}
	return nil
}

// mayUse reports whether the role has the name of the principal or of a group that it is in. Case counts.
func (p Principal) mayUse(role string) bool {
	return p.Name == role || slices.Contains(p.Groups, role)
}

// refuseBearer says what was wrong in the way of OAUTHBEARER, before the refusal itself:
// https://www.rfc-editor.org/rfc/rfc7628#section-3.2.2. The client's answer to it carries nothing, and pgx sends none.
func (c *connection) refuseBearer(audience string) {
	status, err := json.Marshal(map[string]string{
		"status": "invalid_token",
		"scope":  audience + "/.default",
		"openid-configuration": c.server.authority.URL() + c.server.authority.TenantID() +
			"/v2.0/.well-known/openid-configuration",
	})
	if err != nil {
		return
	}
	if pgwire.Send(c.conn, &pgproto3.AuthenticationSASLContinue{Data: status}) == nil {
		_, _ = pgwire.ReadPassword(c.conn)
	}
}

// openSession connects to the real server as the role, creating it if it has not logged in before.
func (c *connection) openSession(ctx context.Context, params map[string]string) (*pgconn.HijackedConn, error) {
	if err := c.server.ensureRole(ctx, c.login.Role); err != nil {
		return nil, err
	}
	if c.server.hasDirectory() {
		params[tenantSetting] = c.server.authority.tenantID
	}
	conn, err := c.server.postgres.connectAs(ctx, c.login.Role, c.login.Database, params)
	if err != nil {
		return nil, err
	}
	if err := conn.SyncConn(ctx); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn.Hijack()
}

// welcome records the login and tells the client that it is in. The cancel key is the real server's.
func (c *connection) welcome(session *pgconn.HijackedConn) error {
	c.server.record(c.login)
	messages := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}
	for name, value := range session.ParameterStatuses {
		messages = append(messages, &pgproto3.ParameterStatus{Name: name, Value: value})
	}
	return pgwire.Send(c.conn, append(messages,
		&pgproto3.BackendKeyData{ProcessID: session.PID, SecretKey: session.SecretKey},
		&pgproto3.ReadyForQuery{TxStatus: session.TxStatus})...)
}

// relay passes everything on until the session ends or the connection is cut. A client that has said all may still get
// answers. PostgreSQL may be in a query, and then it neither answers nor reads: relay waits for it only while a client
// does.
func (c *connection) relay(session net.Conn) {
	defer context.AfterFunc(c.ctx, func() { _ = session.Close() })()
	var toServer sync.WaitGroup
	toServer.Go(func() {
		if _, err := io.Copy(session, c.conn); err != nil {
			_ = session.Close()
			return
		}
		closeWrite(session)
		if encrypted, ok := session.(*tls.Conn); ok { // TLS has ended; PostgreSQL looks for the end of TCP, too
			_, _ = io.Copy(io.Discard, c.tcp)
			closeWrite(encrypted.NetConn())
		}
	})
	_, _ = io.Copy(c.conn, session)
	_ = session.Close() // one of the two has ended: what the other still says is for nobody
	_ = c.conn.Close()
	toServer.Wait()
}

// closeWrite ends what is said on conn.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// refuse ends a login. The client is told the reason if it is PostgreSQL's kind; else the connection just ends.
func (c *connection) refuse(err error) {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return
	}
	if c.login.Role != "" {
		c.login.SQLState, c.login.Message = pgErr.Code, pgErr.Message
		c.server.record(c.login)
	}
	if pgwire.Send(c.conn, pgwire.ErrorResponse(pgErr)) == nil {
		_ = c.conn.Close()
	}
}
