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
	any atomic.Bool // spares an acquire the lock while nothing has been found

	mu    sync.Mutex           // guards what follows
	found map[string]time.Time // when a server, by its address, ended a session or took no write
}

// afterConnect is the pool's AfterConnect: the caller's own, if any, which may make the session read-only on purpose.
func (f *failover) afterConnect(callers afterConnect) afterConnect {
	return func(ctx context.Context, conn *pgx.Conn) error {
		if callers != nil {
			if err := callers(ctx, conn); err != nil {
				return err
			}
		}
		if r := retirementOf(conn); r != nil {
			r.readOnly = isReadOnly(conn.PgConn())
		}
		return nil
	}
}

// watch is pgconn's OnPgError: the caller's own, if any, and a look at what the server says.
func (f *failover) watch(callers pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if r, ok := conn.CustomData()[retirementKey].(*retirement); ok && isOfServer(conn, r, err.Code) {
			f.note(conn)
		}
		return callers == nil || callers(conn, err)
	}
}

// isOfServer reports whether an error of a session, by its SQLSTATE, says something of the server:
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
func isOfServer(conn *pgconn.PgConn, r *retirement, code string) bool {
	switch code {
	case "57P01", "57P02": // admin_shutdown, crash_shutdown
		return true
	case "25006": // not in a read-only transaction of the caller's
		return r.becameReadOnly(conn)
	}
	return false
}

func (f *failover) note(conn *pgconn.PgConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == nil {
		f.found = make(map[string]time.Time)
	}
	f.found[conn.Conn().RemoteAddr().String()] = time.Now()
	f.any.Store(true)
}

// isReadOnly reports whether the session's transactions are read-only by default: on a standby, and on Azure when the
// server's storage is full. PostgreSQL 14 and later tell of each change.
func isReadOnly(conn *pgconn.PgConn) bool {
	return conn.ParameterStatus("in_hot_standby") == "on" || conn.ParameterStatus("default_transaction_read_only") == "on"
}

// becameReadOnly reports whether the session was no such one when it was new.
func (r *retirement) becameReadOnly(conn *pgconn.PgConn) bool { return !r.readOnly && isReadOnly(conn) }

// refuses reports whether conn must not be handed out: something has been found about its server since conn last
// answered, and now it does not, or it says that it has become read-only.
func (f *failover) refuses(ctx context.Context, conn *pgx.Conn, r *retirement, now time.Time) bool {
	if r == nil || !f.any.Load() {
		return false
	}
	f.mu.Lock()
	found := f.found[conn.PgConn().Conn().RemoteAddr().String()]
	f.mu.Unlock()
	if !found.After(r.seen) {
		return false
	}
	if conn.Ping(ctx) != nil {
		return true
	}
	r.seen = now
	return r.becameReadOnly(conn.PgConn())
}
