package aadpool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A failover is what a pool's connections have met of servers that went away or became read-only. What one has met is
// likely to hold for the others of its server, which would each fail a query to find out. The zero value is ready.
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

// isReadOnly reports whether a session's transactions are read-only unless it says otherwise: a standby's are, and those
// of a server whose storage is full, on Azure. PostgreSQL 14 and later tell of each change.
func isReadOnly(conn *pgconn.PgConn) bool {
	return conn.ParameterStatus("in_hot_standby") == "on" || conn.ParameterStatus("default_transaction_read_only") == "on"
}

// refuses reports whether conn, which is about to be used, is not to be: its server has become read-only since it logged
// in, or has ended other sessions since, and this one does not answer.
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
