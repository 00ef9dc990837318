package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// proof checks each statement that starts on a connection against the end of the token that the connection logged in
// with. It reads that from the token itself, and so does not rely on what the pool believes.
type proof struct {
	statements atomic.Int64 // that were checked, those of transactions and pgxpool's pings included
	late       atomic.Int64 // that started when the token had ended

	tolerance atomic.Int64 // how long after it, in nanoseconds, a statement may start
}

var _ pgx.QueryTracer = (*proof)(nil)

// watch makes the connections of config be checked. It comes before [aadpool.Hook.Configure], which goes on to call it.
func (p *proof) watch(config *pgx.ConnConfig) {
	config.AfterNetConnect = rememberToken
	config.Tracer = p
}

// tokenConn is a network connection that knows when the token that was sent on it ends.
type tokenConn struct {
	net.Conn
	tokenEnds time.Time // zero before
}

// rememberToken is pgconn's AfterNetConnect.
func rememberToken(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
	return &tokenConn{Conn: conn}, nil
}

// Write looks for the message that has the token: the password.
func (c *tokenConn) Write(p []byte) (int, error) {
	const header = 5 // of a message: https://www.postgresql.org/docs/current/protocol-message-formats.html
	if c.tokenEnds.IsZero() && len(p) > header && p[0] == 'p' {
		token, _, _ := bytes.Cut(p[header:], []byte{0})
		ends, err := tokenEnd(string(token))
		if err != nil {
			return 0, err
		}
		c.tokenEnds = ends
	}
	return c.Conn.Write(p)
}

// tokenEnd reads the exp of an access token: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4.
func tokenEnd(token string) (time.Time, error) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return time.Time{}, fmt.Errorf("demo: reading the access token of a connection: %w", err)
	}
	if claims.ExpiresAt == nil {
		return time.Time{}, fmt.Errorf("demo: the access token of a connection has no exp")
	}
	return claims.ExpiresAt.Time, nil
}

// TraceQueryStart is called when a statement is about to be sent.
func (p *proof) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	p.check(conn.PgConn().Conn(), time.Now())
	return ctx
}

// TraceQueryEnd does nothing.
func (p *proof) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// check counts a statement. On a connection whose token is not known it counts as late: nothing is proven about it.
func (p *proof) check(conn net.Conn, now time.Time) {
	p.statements.Add(1)
	tolerance := time.Duration(p.tolerance.Load())
	if c, ok := conn.(*tokenConn); !ok || !now.Before(c.tokenEnds.Add(tolerance)) {
		p.late.Add(1)
	}
}
