package aadpool

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/refusal"
)

var errConfigUsed = errors.New("aadpool: this config has already served for a connection; for another, call " +
	"Hook.BeforeConnect on a fresh copy")

// A loginReport is told what came of a login. config is the connection's.
type loginReport interface {
	loginSucceeded(config *pgconn.Config)
	// loginRefused may add an explanation to err. server is the host that refused, of those that config names.
	loginRefused(config *pgconn.Config, server net.Addr, token *accessToken, reason refusal.Reason, err *pgconn.PgError)
}

// A login puts the token into one connection's config when the start-up begins, and takes it out when the start-up
// ends: nothing that a program keeps or prints of a connection may hold a token. One login may try several hosts.
type login struct {
	report loginReport

	// The callbacks that the config had.
	afterNetConnect func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)
	afterConnect    pgconn.AfterConnectFunc
	buildFrontend   pgconn.BuildFrontendFunc

	mu     sync.Mutex     // guards what follows against a config that serves for two connections at once
	token  *accessToken   // nil once the connection is up
	config *pgconn.Config // pgx's own copy, which the connection keeps; nil before beforeStartup
	server net.Addr       // of the host being tried
	asked  askedFor       // what that host has asked for
}

// startLogin prepares config to log in with token. The token itself goes into pgx's own copy, once there is a
// connection to send it on.
func startLogin(config *pgconn.Config, token *accessToken, report loginReport) {
	l := &login{report: report, afterNetConnect: config.AfterNetConnect, token: token}
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
	if err := l.begin(config, server); err != nil || l.afterNetConnect == nil {
		return conn, err
	}
	conn, err := l.afterNetConnect(ctx, config, conn)
	if err != nil {
		l.forget()
		return conn, err
	}
	return conn, l.begin(config, server) // again: a Hook that was configured earlier has put its own token there
}

func (l *login) begin(config *pgconn.Config, server net.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || (l.config != nil && l.config != config) {
		return errConfigUsed
	}
	if l.config == nil {
		l.afterConnect, l.buildFrontend = config.AfterConnect, config.BuildFrontend
		config.AfterConnect, config.BuildFrontend, config.OAuthTokenProvider = l.afterStartup, l.frontend, l.provideToken
	}
	l.config, l.server, l.asked = config, server, nothingYet
	config.Password = l.token.secret() // a refusal by another host has taken it away
	return nil
}

// frontend is pgconn's BuildFrontend. Until the connection is up, pgx reads the server's messages through a
// startupReader.
func (l *login) frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != nil {
		r = newStartupReader(r, l)
	}
	return l.buildFrontend(r, w)
}

// provideToken is asked for the token by a server that speaks OAUTHBEARER (RFC 7628), such as PostgreSQL 18.
func (l *login) provideToken(context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return "", errConfigUsed
	}
	l.asked = oauthToken
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
	if data := conn.CustomData(); data[retirementKey] == nil { // that of a Hook that was configured later stands
		data[retirementKey] = newRetirement(time.Now(), l.token)
	}
	l.report.loginSucceeded(l.config)
	l.config.Password = ""
	l.token = nil
	return nil
}

// forget takes the token out of the config of a login that has failed: pgx's ConnectError holds that.
func (l *login) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config.Password = ""
}
