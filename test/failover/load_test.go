//go:build linux

package failover_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/internal/token"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

const (
	writers       = 16                     // goroutines for each pool, and connections that it may have
	writeDeadline = 2 * time.Second        // of one write, the acquire included
	failurePause  = 5 * time.Millisecond   // after a failed write
	probeDeadline = 500 * time.Millisecond // of the acquires that are timed
	probeSlack    = 2 * time.Second        // of an acquire that ends at its deadline
	probePause    = 50 * time.Millisecond
)

// A load writes through one pool, as a service does, until it is stopped, and notes what becomes of each write.
type load struct {
	name    string
	pool    *pgxpool.Pool
	control *load
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	next    int64
	acked   []int64 // writes that the server acknowledged
	writes  []attempt
	acquire []attempt // acquires with a deadline
}

// attempt is one write, or one acquire.
type attempt struct {
	start, end time.Time
	err        error
}

// startLoads begins to write through each pool, and returns when each writer has written.
func (c *cluster) startLoads(t testing.TB, parameters string) []*load {
	t.Helper()
	control := c.startControl(t, parameters)
	var loads []*load
	for name, pool := range c.pools(t, parameters) {
		l := &load{name: name, pool: pool, control: control}
		l.start(t, writers, pooled{pool})
		loads = append(loads, l)
	}
	slices.SortFunc(loads, func(a, b *load) int { return strings.Compare(a.name, b.name) })
	for _, l := range loads {
		require.Eventually(t, func() bool { return l.count() > 10*writers }, time.Minute, 10*time.Millisecond)
	}
	return loads
}

// startControl begins to write without a pool: what these do as soon as the servers and the machine let anybody is soon
// enough.
func (c *cluster) startControl(t testing.TB, parameters string) *load {
	t.Helper()
	config, err := pgxpool.ParseConfig(c.dsn("control", parameters))
	require.NoError(t, err)
	config.ConnConfig.Password = c.token
	l := &load{name: "control"}
	l.start(t, 1, alone{config.ConnConfig})
	require.Eventually(t, func() bool { return l.count() > 0 }, time.Minute, 10*time.Millisecond)
	return l
}

// A client is what a load writes through.
type client interface {
	exec(ctx context.Context, sql string, args ...any) error
	acquire(ctx context.Context) error
}

type pooled struct{ pool *pgxpool.Pool }

func (p pooled) exec(ctx context.Context, sql string, args ...any) error {
	_, err := p.pool.Exec(ctx, sql, args...)
	return err
}

func (p pooled) acquire(ctx context.Context) error {
	conn, err := p.pool.Acquire(ctx)
	if err == nil {
		conn.Release()
	}
	return err
}

// alone opens a connection for each write, and acquires nothing until the deadline.
type alone struct{ config *pgx.ConnConfig }

func (a alone) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.ConnectConfig(ctx, a.config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

func (alone) acquire(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (l *load) start(t testing.TB, n int, through client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l.stop = cancel
	for range n {
		l.done.Go(func() { l.write(ctx, through) })
	}
	l.done.Go(func() { l.probe(ctx, through) })
	t.Cleanup(l.end)
}

// end stops the load and returns when its goroutines have ended.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

func (l *load) write(ctx context.Context, through client) {
	for ctx.Err() == nil {
		n, start := l.number(), time.Now()
		deadline, cancel := context.WithTimeout(ctx, writeDeadline)
		err := through.exec(deadline, "insert into writes (client, n) values ($1, $2)", l.name, n)
		cancel()
		if ctx.Err() != nil && err != nil {
			return // the test is over
		}
		l.note(n, attempt{start, time.Now(), err})
		if err != nil {
			time.Sleep(failurePause)
		}
	}
}

// probe acquires connections with a deadline, one after the other.
func (l *load) probe(ctx context.Context, through client) {
	for ctx.Err() == nil {
		start := time.Now()
		deadline, cancel := context.WithTimeout(ctx, probeDeadline)
		err := through.acquire(deadline)
		cancel()
		if ctx.Err() != nil && err != nil {
			return // the test is over
		}
		l.mu.Lock()
		l.acquire = append(l.acquire, attempt{start, time.Now(), err})
		l.mu.Unlock()
		time.Sleep(probePause)
	}
}

func (l *load) number() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

func (l *load) note(n int64, a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, a)
	if a.err == nil {
		l.acked = append(l.acked, n)
	}
}

// count returns how many writes have been acknowledged.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// failuresSince counts the writes begun since then that failed, by what failed.
func (l *load) failuresSince(since time.Time) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, a := range l.writes {
		if a.err != nil && !a.start.Before(since) {
			counts[kind(a.err)]++
		}
	}
	return counts
}

// kind names an error by its SQLSTATE, or else shortly.
func kind(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr):
		return pgErr.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "deadline"
	case strings.Contains(err.Error(), "connection refused"):
		return "refused"
	case strings.Contains(err.Error(), "EOF"), strings.Contains(err.Error(), "reset by peer"),
		strings.Contains(err.Error(), "broken pipe"), strings.Contains(err.Error(), "conn closed"):
		return "cut"
	case strings.Contains(err.Error(), "read only connection"): // by target_session_attrs
		return "read-only"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// awaitWrites waits until more writes begun since then have been acknowledged than there are writers, for at most d.
func (l *load) awaitWrites(since time.Time, d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l.acknowledged(since) > 10*writers {
			return true
		}
	}
	return false
}

// awaitFirst waits for the first write after ready, for at most d, and returns how long after ready it came.
func (l *load) awaitFirst(ready time.Time, d time.Duration) (took time.Duration, ok bool) {
	for end := time.Now().Add(d); !ok && time.Now().Before(end); time.Sleep(time.Millisecond) {
		took, ok = l.firstSince(ready)
	}
	return took, ok
}

func (l *load) acknowledged(since time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range slices.Backward(l.writes) {
		if a.start.Before(since) {
			break
		}
		if a.err == nil {
			n++
		}
	}
	return n
}

// firstSince returns how long after ready the first write was acknowledged that began, or was waiting, then.
func (l *load) firstSince(ready time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, found := time.Duration(0), false
	for _, a := range l.writes {
		if took := a.end.Sub(ready); a.err == nil && took >= 0 && (!found || took < first) {
			first, found = took, true
		}
	}
	return first, found
}

// lastFailureSince returns how long after ready the last write failed that had begun after it.
func (l *load) lastFailureSince(ready time.Time) (last time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.writes {
		if a.err != nil && !a.start.Before(ready) {
			last = max(last, a.end.Sub(ready))
		}
	}
	return last
}

// slowestAcquire returns how long an acquire with a deadline took at most.
func (l *load) slowestAcquire() (slowest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acquire {
		slowest = max(slowest, a.end.Sub(a.start))
	}
	return slowest
}

// acquireFailures counts the acquires that failed, by what failed.
func (l *load) acquireFailures() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, a := range l.acquire {
		if a.err != nil {
			counts[kind(a.err)]++
		}
	}
	return counts
}

// lost returns how many acknowledged writes are not on the node.
func (l *load) lost(t testing.TB, n *node) (lost int) {
	t.Helper()
	conn, err := n.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	results, err := conn.Exec(t.Context(), fmt.Sprintf("select n from writes where client = '%s'", l.name)).ReadAll()
	require.NoError(t, err)
	there := map[string]bool{}
	for _, row := range results[0].Rows {
		there[string(row[0])] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.acked {
		if !there[fmt.Sprint(n)] {
			lost++
		}
	}
	return lost
}

// connections counts the pool's connections that a node has.
func (l *load) connections(t testing.TB, n *node) string {
	t.Helper()
	count, err := n.Query(t.Context(), fmt.Sprintf("select count(*) from pg_stat_activity where application_name = '%s'",
		l.name))
	require.NoError(t, err)
	return count
}

// awaitNoConnection waits for what is being closed. A connection that the pool keeps does not go away.
func (l *load) awaitNoConnection(t testing.TB, n *node) {
	t.Helper()
	assert.Eventually(t, func() bool { return l.connections(t, n) == "0" }, time.Minute, 10*time.Millisecond, l.name)
}

// finish ends the loads, and checks what holds after every fault: nothing acknowledged is lost, and an acquire with a
// deadline ends at it.
func finish(t testing.TB, loads []*load, primary *node) {
	t.Helper()
	for _, l := range loads {
		l.end()
		lost := l.lost(t, primary)
		assert.Zerof(t, lost, "%s: acknowledged writes lost", l.name)
		slowest, control := l.slowestAcquire(), max(probeDeadline, l.control.slowestAcquire())
		assert.Less(t, slowest, control+probeSlack, "%s: an acquire with a deadline ends at it", l.name)
		measured(t, l, "acknowledged writes lost", fmt.Sprintf("%d of %d", lost, l.count()))
		measured(t, l, "slowest acquire, deadline 500 ms", fmt.Sprint(slowest.Round(time.Millisecond)))
		measured(t, l, "failed acquires", list(l.acquireFailures()))
	}
}

// measured puts a figure where test/matrix finds it.
func measured(t testing.TB, l *load, what, value string) {
	t.Helper()
	t.Attr(url.QueryEscape(l.name+"/"+what), token.OneLine(value))
}

// list writes counts as "12 57P01, 3 cut".
func list(counts map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[kind], kind))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
