package aadpool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A failover remembers which servers a pool's connections found gone or read-only. What one connection finds probably
// holds for the others to that server, each of which would fail a query to find out. The zero value is ready.
type failover struct {
	any atomic.Bool // spares an acquire the lock while no server has gone away

	mu      sync.Mutex           // guards what follows
	gone    map[string]time.Time // when a server, by its address, ended a session
	demoted map[string]time.Time // when one was found to have become read-only
}

// watch is pgconn's OnPgError: the caller's own, if any, and a look at what the server says.
func (f *failover) watch(callers pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if r, ok := conn.CustomData()[retirementKey].(*retirement); ok {
			f.note(conn, r, err.Code)
		}
		return callers == nil || callers(conn, err)
	}
}

// note remembers an error of a session by its SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html.
func (f *failover) note(conn *pgconn.PgConn, r *retirement, code string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case code == "57P01" || code == "57P02": // admin_shutdown, crash_shutdown
		keepTime(&f.gone, conn)
	case code == "25006" && !r.readOnly && isReadOnly(conn): // not a read-only transaction of the caller's
		keepTime(&f.demoted, conn)
	default:
		return
	}
	f.any.Store(true)
}

func keepTime(of *map[string]time.Time, conn *pgconn.PgConn) {
	if *of == nil {
		*of = make(map[string]time.Time)
	}
	(*of)[conn.Conn().RemoteAddr().String()] = time.Now()
}

// isReadOnly reports whether the session's transactions are read-only by default: on a standby, and on Azure when the
// server's storage is full. PostgreSQL 14 and later tell of each change.
func isReadOnly(conn *pgconn.PgConn) bool {
	return conn.ParameterStatus("in_hot_standby") == "on" || conn.ParameterStatus("default_transaction_read_only") == "on"
}

// refuses reports whether conn must not be handed out: its server has become read-only since conn logged in, or has
// ended other sessions since and conn does not answer.
func (f *failover) refuses(ctx context.Context, conn *pgx.Conn, r *retirement, now time.Time) bool {
	if r == nil || !f.any.Load() {
		return false
	}
	server := conn.PgConn().Conn().RemoteAddr().String()
	f.mu.Lock()
	gone, demoted := f.gone[server], f.demoted[server]
	f.mu.Unlock()
	if demoted.After(r.born) {
		return true
	}
	if !gone.After(r.seen) {
		return false
	}
	if conn.Ping(ctx) != nil {
		return true
	}
	r.seen = now
	return false
}
