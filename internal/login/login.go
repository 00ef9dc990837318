// Package login is one connection's login. The token goes in when the server asks for it and comes out when it has been
// sent, and what the server says until the connection is up is filtered. Nothing that a program keeps or prints of a
// connection, or of an attempt to make one, holds a token.
package login

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// ErrConfigUsed is the error of a config that is to serve for a second connection.
var ErrConfigUsed = errors.New("aadpool: this config has already served for a connection; for another, call " +
	"Hook.BeforeConnect on a fresh copy")

// A Report is told the outcome of logins.
type Report struct {
	Succeeded func(*pgconn.PgConn, *pgconn.Config, *token.AccessToken)
	Refused   func(context.Context, Refused)
}

// Refused is a login that a server refused.
type Refused struct {
	Config *pgconn.Config // the connection's
	Server net.Addr       // of the host that refused, of those that Config names
	Token  *token.AccessToken
	Reason refusal.Reason
	Err    *pgconn.PgError // an explanation may be added to it
}

// A login is that of one connection. It may try several hosts.
type login struct {
	report *Report

	// The callbacks that the config had.
	afterNetConnect func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)
	afterConnect    pgconn.AfterConnectFunc
	buildFrontend   pgconn.BuildFrontendFunc

	mu      sync.Mutex         // guards what follows against a config that serves for two connections at once
	token   *token.AccessToken // nil once the connection is up
	config  *pgconn.Config     // pgx's own copy, which the connection keeps; nil before beforeStartup
	ctx     context.Context    // of the connect, for report
	server  net.Addr           // of the host being tried
	method  method             // by which that host asks for the token
	given   bool               // pgx has the token, or may ask for it, and has not sent it
	isReady bool               // the server has let the session in
}

// A method is how a server asks for the token.
type method uint8

const (
	notAsked method = iota
	byPassword
	byOAuth
)

// Prepare has config log in with t.
func Prepare(config *pgconn.Config, t *token.AccessToken, report *Report) {
	l := &login{report: report, afterNetConnect: config.AfterNetConnect, token: t}
	config.Password = ""
	config.AfterNetConnect = l.beforeStartup
}

// beforeStartup is pgconn's AfterNetConnect. It runs on a new connection, with TLS where configured, before anything is
// sent on it.
func (l *login) beforeStartup(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
	if err := dsn.CheckPlaintext(conn); err != nil {
		return conn, err // pgconn closes it
	}
	server := conn.RemoteAddr()
	if err := l.begin(ctx, config, server); err != nil || l.afterNetConnect == nil {
		return conn, err
	}
	conn, err := l.afterNetConnect(ctx, config, conn)
	if err != nil {
		return conn, err
	}
	return conn, l.begin(ctx, config, server) // again: a Hook that was configured earlier has put itself there
}

func (l *login) begin(ctx context.Context, config *pgconn.Config, server net.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || (l.config != nil && l.config != config) {
		return ErrConfigUsed
	}
	if l.config == nil {
		l.afterConnect, l.buildFrontend = config.AfterConnect, config.BuildFrontend
		config.AfterConnect, config.BuildFrontend = l.afterStartup, l.frontend
	}
	config.OAuthTokenProvider = l.provideToken
	l.config, l.ctx, l.server, l.method, l.isReady = config, ctx, server, notAsked, false
	l.takeBack()
	return nil
}

// frontend is pgconn's BuildFrontend. Until the connection is up, pgx reads and writes through the login.
func (l *login) frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != nil {
		r, w = &startupReader{server: r, login: l}, &startupWriter{server: w, login: l}
	}
	return l.buildFrontend(r, w)
}

// provideToken is asked for the token by pgx when a server speaks OAUTHBEARER (RFC 7628), such as PostgreSQL 18.
func (l *login) provideToken(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.token == nil:
		return "", ErrConfigUsed
	case l.method != byOAuth || !l.given:
		return "", errors.New("aadpool: no server is asking for the token")
	}
	return l.token.Secret(), nil
}

// takeBack takes the token out of the config. l.mu is held. It writes only where there is something to take out: pgx
// may say goodbye in the background while a program looks at the config of its error.
func (l *login) takeBack() {
	l.given = false
	if l.config != nil && l.config.Password != "" {
		l.config.Password = ""
	}
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
		return ErrConfigUsed
	}
	l.report.Succeeded(conn, l.config, l.token)
	l.takeBack()
	l.token, l.ctx = nil, nil
	return nil
}

// isOver reports whether the connection is up.
func (l *login) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token == nil
}
