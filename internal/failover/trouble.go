// Package failover notices when a server has gone away or has become read-only. What one connection of a pool finds
// probably holds for the others, each of which would fail a query to find out.
package failover

import (
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// moment is a clock that counts troubles: what has answered at a moment has done so since all troubles up to it.
var moment atomic.Uint64

// Now is the moment of the last trouble of any pool.
func Now() uint64 { return moment.Load() }

// A Trouble is the last time that a pool's sessions found their server gone or read-only. A connection that has not
// answered since then has to answer once more before it is handed out. The zero value is ready.
type Trouble struct{ at atomic.Uint64 }

// At is the moment of the trouble; zero before the first.
func (t *Trouble) At() uint64 { return t.at.Load() }

// IsNoted reports whether there has been one.
func (t *Trouble) IsNoted() bool { return t.At() > 0 }

func (t *Trouble) note() { t.at.Store(moment.Add(1)) }

// Watch returns an OnPgError that looks at what the server says and then calls next, if that is not nil.
// becameReadOnly reports whether a session is read-only that was not when it was new.
func (t *Trouble) Watch(next pgconn.PgErrorHandler, becameReadOnly func(*pgconn.PgConn) bool) pgconn.PgErrorHandler {
	return func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		// https://www.postgresql.org/docs/current/errcodes-appendix.html
		switch err.Code {
		case "57P01", "57P02": // admin_shutdown, crash_shutdown
			t.note()
		case "25006": // unless it is in a read-only transaction of the caller's
			if becameReadOnly(conn) {
				t.note()
			}
		}
		return next == nil || next(conn, err)
	}
}

// IsReadOnly reports whether the session's transactions are read-only by default: on a standby, and on Azure when the
// server's storage is full. PostgreSQL 14 and later tell of each change.
func IsReadOnly(conn *pgconn.PgConn) bool {
	return conn.ParameterStatus("in_hot_standby") == "on" || conn.ParameterStatus("default_transaction_read_only") == "on"
}
