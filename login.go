package aadpool

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var errConfigUsed = errors.New("aadpool: this config has already served for a connection; for another, call Hook.BeforeConnect on a fresh copy")

// A login brings the token to one connection, from its config to the end of its start-up, and takes it away again: what
// a program keeps, prints or reports of a connection shall not hold a token. pgconn may try several hosts in it.
type login struct {
	hook *Hook

	// The callbacks that the config had.
	afterNetConnect func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)
	afterConnect    pgconn.AfterConnectFunc
	onPgError       pgconn.PgErrorHandler

	mu     sync.Mutex     // guards what follows against a config that serves for two connections at once
	token  *accessToken   // nil once the connection is up
	given  *pgconn.Config // the one that BeforeConnect got
	config *pgconn.Config // pgx's own copy of it, which the connection goes on holding; nil before beforeStartup
}

// startLogin makes config log in with token.
func startLogin(h *Hook, token *accessToken, config *pgconn.Config) {
	l := &login{
		hook:            h,
		token:           token,
		given:           config,
		afterNetConnect: config.AfterNetConnect,
		afterConnect:    config.AfterConnect,
		onPgError:       config.OnPgError,
	}
	config.Password = token.secret()
	config.OAuthTokenProvider = l.provideToken
	config.AfterNetConnect = l.beforeStartup
	config.AfterConnect = l.afterStartup
	config.OnPgError = l.handleError
}

// beforeStartup is pgconn's AfterNetConnect: it runs when there is a connection, with TLS where configured, and before
// anything is said on it.
func (l *login) beforeStartup(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
	if err := l.begin(config, conn); err != nil {
		return conn, err // pgconn closes it
	}
	if l.afterNetConnect == nil {
		return conn, nil
	}
	return l.afterNetConnect(ctx, config, conn)
}

func (l *login) begin(config *pgconn.Config, conn net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || (l.config != nil && l.config != config) {
		return errConfigUsed
	}
	if err := checkPlaintext(conn); err != nil {
		return err
	}
	l.config = config
	if config.Password == "" { // a refusal by another host has taken it away
		config.Password = l.token.secret()
	}
	return nil
}

// forget takes the token out of the configs. l.mu is held.
func (l *login) forget() {
	l.given.Password = ""
	if l.config != nil {
		l.config.Password = ""
	}
}

// provideToken is asked for the token by a server that speaks OAUTHBEARER (RFC 7628), such as PostgreSQL 18.
func (l *login) provideToken(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return "", errConfigUsed
	}
	l.forget() // pgconn says nothing of a refusal
	return l.token.secret(), nil
}

// afterStartup is pgconn's AfterConnect: the connection is up.
func (l *login) afterStartup(ctx context.Context, conn *pgconn.PgConn) error {
	if err := l.end(conn); err != nil {
		return err
	}
	if l.afterConnect == nil {
		return nil
	}
	return l.afterConnect(ctx, conn)
}

func (l *login) end(conn *pgconn.PgConn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return errConfigUsed
	}
	conn.CustomData()[retirementKey] = newRetirement(time.Now(), l.token)
	l.forget()
	l.given, l.token = nil, nil
	return nil
}

// handleError is pgconn's OnPgError. Once the connection is up it only passes on. Before that an error ends the attempt
// whatever is returned here, but after a true pgconn would make another error of the message, as the server wrote it.
func (l *login) handleError(conn *pgconn.PgConn, err *pgconn.PgError) bool {
	l.mu.Lock()
	starting := conn.TxStatus() == 0
	if l.token != nil {
		l.refused(conn, err)
	}
	l.mu.Unlock()
	keep := l.onPgError == nil || l.onPgError(conn, err)
	return keep && !starting
}

// refused deals with an error during start-up. l.mu is held.
func (l *login) refused(conn *pgconn.PgConn, err *pgconn.PgError) {
	l.forget() // pgx's ConnectError holds the config
	// A server may repeat what it was sent.
	for _, text := range []*string{
		&err.Severity, &err.SeverityUnlocalized, &err.Code, &err.Message, &err.Detail, &err.Hint, &err.InternalQuery, &err.Where,
		&err.SchemaName, &err.TableName, &err.ColumnName, &err.DataTypeName, &err.ConstraintName, &err.File, &err.Routine,
	} {
		*text = redact(strings.ReplaceAll(*text, l.token.secret(), redacted))
	}
	if !isRejection(err) {
		return
	}
	server := net.JoinHostPort(l.given.Host, strconv.Itoa(int(l.given.Port)))
	if addr := conn.Conn().RemoteAddr(); addr != nil && len(l.given.Fallbacks) > 0 {
		server = addr.String()
	}
	l.hook.reject(rejection{err: err, server: server, role: l.given.User, token: l.token})
}
