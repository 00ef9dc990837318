//go:build linux

package failover_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// backWithin is how soon writes have to succeed again once a server is ready and a client without a pool has written.
	backWithin = 2 * time.Second
	// backAfterHang is the same where the server that the connections are on does not answer: pgx gives each of them 15
	// seconds to be closed in, and a pool that is full waits for that.
	backAfterHang = 18 * time.Second
)

// recovered checks, and notes, how soon after ready each pool writes again.
func recovered(t testing.TB, loads []*load, fault, ready time.Time, within time.Duration) {
	t.Helper()
	for _, l := range loads {
		assert.True(t, back(t, l, fault, ready, within), l.name)
	}
}

// back notes how soon after ready the pool writes again, for which it waits a little longer than that, and reports
// whether it was soon enough.
func back(t testing.TB, l *load, fault, ready time.Time, within time.Duration) bool {
	t.Helper()
	control, ok := l.control.awaitFirst(ready, time.Minute)
	require.True(t, ok, "a client without a pool does not write again either")
	l.awaitWrites(ready, within+5*time.Second)
	first, last := "not within "+(within+5*time.Second).String(), l.lastFailureSince(ready)
	took, ok := l.firstSince(ready)
	if ok {
		first = fmt.Sprint(took.Round(time.Millisecond))
	}
	measured(t, l, "first write after the server was ready", first)
	measured(t, l, "last failure after the server was ready", fmt.Sprint(last.Round(time.Millisecond)))
	measured(t, l, "failed writes", list(l.failuresSince(fault)))
	t.Logf("%s: first write after %s, without a pool after %v", l.name, first, control)
	return ok && took < control+within
}

// TestPrimaryIsKilled: the primary dies by SIGKILL, the standby is promoted a second later, and the old primary comes
// back as its standby. The pools write to the new primary at once, and keep no connection on the old one.
func TestPrimaryIsKilled(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	c.primary.Kill()
	time.Sleep(time.Second) // what notices it takes its time
	ready := c.standby.promote(t)
	recovered(t, loads, fault, ready, backWithin)

	c.rejoin(t, c.primary, c.standby)
	for _, l := range loads {
		since := time.Now()
		assert.True(t, l.awaitWrites(since, time.Minute))
		l.awaitNoConnection(t, c.primary)
		measured(t, l, "connections on the old primary, now a standby", l.connections(t, c.primary))
		assert.Empty(t, l.failuresSince(since), "the old primary's return disturbs nobody")
	}
	finish(t, loads, c.standby)
}

// TestPrimaryIsShutDown: a planned switch. The primary ends its sessions (57P01) and stops; the standby is promoted.
func TestPrimaryIsShutDown(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	c.primary.ShutDown(t)
	recovered(t, loads, fault, c.standby.promote(t), backWithin)
	finish(t, loads, c.standby)
}

// TestPrimaryBecomesReadOnly: the primary takes no more writes (25006), but keeps its sessions, as Azure's server does
// when its storage is nearly full; the standby is promoted. A pool that keeps its connections fails until they end.
func TestPrimaryBecomesReadOnly(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	c.primary.Exec(t, "alter system set default_transaction_read_only = on")
	c.primary.Reload(t)
	for _, l := range loads {
		require.Eventually(t, func() bool { return l.failuresSince(fault)["25006"] > 0 }, time.Minute, time.Millisecond)
	}
	position, err := c.primary.Query(t.Context(), "select pg_current_wal_lsn()")
	require.NoError(t, err)
	c.standby.Await(t, fmt.Sprintf("select pg_last_wal_replay_lsn() >= '%s'", position), "t")
	ready := c.standby.promote(t)
	for _, l := range loads {
		soon := back(t, l, fault, ready, backWithin)
		if l.name == "aadpool" {
			assert.True(t, soon, "a connection that met 25006 has the others replaced too")
			l.awaitNoConnection(t, c.primary)
		}
		measured(t, l, "connections on the old primary, which is read-only", l.connections(t, c.primary))
	}
	finish(t, loads, c.standby)
}

// TestServerRestartsUnderIdleConnections: the pool's connections are at rest when the server restarts. The first query
// that meets one fails (57P01, or cut). The others need not be tried.
func TestServerRestartsUnderIdleConnections(t *testing.T) {
	c := newCluster(t)
	for name, pool := range c.pools(t, "") {
		held := pool.AcquireAllIdle(t.Context())
		for len(held) < writers {
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			held = append(held, conn)
		}
		for _, conn := range held {
			conn.Release()
		}
		l := &load{name: name, pool: pool}
		c.primary.ShutDown(t)
		c.primary.start(t)
		failed, failures := map[string]int{}, 0
		for range 2 * writers {
			if _, err := pool.Exec(t.Context(), "insert into writes (client, n) values ('idle', 1)"); err != nil {
				failed[kind(err)]++
				failures++
			}
		}
		measured(t, l, "failed writes, one after the other", list(failed))
		if name == "aadpool" {
			assert.LessOrEqual(t, failures, 1, "one connection is enough to know")
		}
	}
}

// TestPrimaryHangs: the primary stops for 20 seconds, as a machine does that swaps or is moved, and goes on. No write
// waits longer than its deadline, and when the primary goes on so do the pools.
func TestPrimaryHangs(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	c.primary.freeze(t)
	time.Sleep(20 * time.Second)
	c.primary.thaw(t)
	recovered(t, loads, fault, time.Now(), backWithin)
	finish(t, loads, c.primary)
}

// TestPrimaryHangsAndIsReplaced: the primary stops and the standby is promoted. Connects to the old one hang until
// connect_timeout and then go to the new one. That is why a DSN with two hosts needs one that is short.
func TestPrimaryHangsAndIsReplaced(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "&connect_timeout=1")
	fault := time.Now()
	c.primary.freeze(t)
	time.Sleep(2 * time.Second)
	ready := c.standby.promote(t)
	recovered(t, loads, fault, ready, backAfterHang)
	for _, l := range loads {
		l.end()
	}
	c.primary.Kill() // before it goes on and takes itself for the primary still
	finish(t, loads, c.standby)
}

// TestServerIsFull: others have every connection that the server allows. Connects get its error (53300); as soon as
// there is room the pools are back.
func TestServerIsFull(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	leave := c.crowd(t, loads)
	full := time.Now()
	for _, l := range loads {
		require.Eventually(t, func() bool {
			return l.failuresSince(full)["53300"] > writers
		}, time.Minute, 5*time.Millisecond)
	}
	leave()
	recovered(t, loads, fault, time.Now(), backWithin)
	finish(t, loads, c.primary)
}

// crowd ends the loads' connections and takes each one that the primary has, until leave is called. Meanwhile the role
// of the pools may have none, or they would take theirs back.
func (c *cluster) crowd(t testing.TB, loads []*load) (leave func()) {
	t.Helper()
	c.primary.Exec(t, fmt.Sprintf("create role crowd login password '%s'", c.token))
	config, err := pgconn.ParseConfig(strings.Replace(c.dsnOf("crowd", c.primary), app, "crowd", 1))
	require.NoError(t, err)
	config.Password = c.token
	c.primary.Exec(t, fmt.Sprintf(`alter role "%s" connection limit 0`, app))
	for _, l := range loads {
		c.primary.Exec(t,
			fmt.Sprintf("select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = '%s'", l.name))
	}
	var taken []*pgconn.PgConn
	leave = sync.OnceFunc(func() {
		for _, conn := range taken {
			_ = conn.Close(context.WithoutCancel(t.Context()))
		}
	})
	t.Cleanup(leave)
	require.Eventually(t, func() bool {
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err == nil {
			taken = append(taken, conn)
		}
		return err != nil && kind(err) == "53300"
	}, 5*time.Minute, time.Millisecond)
	c.primary.Exec(t, fmt.Sprintf(`alter role "%s" connection limit -1`, app))
	return leave
}

// TestDiskIsFull: the primary cannot write any more (53100, or it dies), until there is room again.
func TestDiskIsFull(t *testing.T) {
	c := newClusterOn(t, func(t testing.TB, primary *node) { primary.mountSmallDisk(t) })
	loads := c.startLoads(t, "")
	fault := time.Now()
	c.primary.fillDisk(t)
	for _, l := range loads {
		require.Eventually(t, func() bool { return len(l.failuresSince(fault)) > 0 }, time.Minute, 10*time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	require.NoError(t, os.Remove(c.primary.filler()))
	if c.primary.Ended() {
		c.primary.start(t)
	}
	recovered(t, loads, fault, time.Now(), backWithin)
	finish(t, loads, c.primary)
}

// TestCertificateIsReplaced: the server gets another certificate of the same issuer while it runs. Connections go on,
// and new ones see it; no write fails.
func TestCertificateIsReplaced(t *testing.T) {
	c := newCluster(t)
	loads := c.startLoads(t, "")
	fault := time.Now()
	serial := c.primary.RenewCertificate(t, c.issuer)
	c.primary.Reload(t)
	require.Eventually(t, func() bool { return c.serial(t) == serial }, time.Minute, 10*time.Millisecond)
	for _, l := range loads {
		l.pool.Reset()
		assert.True(t, l.awaitWrites(time.Now(), time.Minute))
		require.NoError(t, l.pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
			assert.Equal(t, serial, serialOf(conn.Conn().PgConn()))
			return nil
		}))
		assert.Empty(t, l.failuresSince(fault))
		measured(t, l, "failed writes", list(l.failuresSince(fault)))
	}
	finish(t, loads, c.primary)
}

// serial is the serial number of the certificate that the primary shows.
func (c *cluster) serial(t testing.TB) string {
	t.Helper()
	config, err := pgconn.ParseConfig(c.dsnOf("certificate", c.primary))
	require.NoError(t, err)
	config.Password = c.token
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	return serialOf(conn)
}

func serialOf(conn *pgconn.PgConn) string {
	return conn.Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}
