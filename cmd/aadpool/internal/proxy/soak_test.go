package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
)

// TestSoak is a proxy under a mixed load, with tokens that live for seconds, while Entra and the server fail in one way
// after another at random, and clients are killed. It checks that
//   - nothing fails but what a fault explains, and nothing hangs;
//   - each answer is the one to its question, whatever its size;
//
// - each write that was acknowledged is there, and none that was rolled back, or that was told as ended (57P01) by the
// server
//
//	  or by the proxy, which ends under load;
//	- no token is in an error, in the log or on a client's wire;
//	- no session, goroutine or file is left at the end.
//
// AADPOOL_SOAK says how long the load lasts, AADPOOL_SOAK_SEED which faults come in which order. soak_load_test.go has
// the load, soak_faults_test.go the faults.
func TestSoak(t *testing.T) {
	length, seed := soakSettings(t)
	t.Logf("AADPOOL_SOAK=%s AADPOOL_SOAK_SEED=%d", length, seed)
	_, err := startPostgres() // which stays when this test ends
	require.NoError(t, err)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	s := newSoak(t, seed)
	s.run(length)
	s.checkLedger()
	eventually(t, "no session is left", func() bool {
		return s.proxy.sessionCount() == 0 && s.server.Stats().Sessions == 0
	})
	s.tap.close(t)
	s.stop()
	s.server.Close()
	s.Close()
	eventually(t, "no goroutine and no file is left", func() bool {
		return runtime.NumGoroutine() <= goroutines+2 && openFiles() <= files+2
	})
	s.report(t)
}

const (
	shortSoak = 6 * time.Second // with every run of the tests

	// soakTokenLife is long enough for a login by a token that has just been renewed.
	soakTokenLife = 8 * time.Second

	// soakTokenTimeout is how long a request may outlive the fault that has it hang: with the pause after it, less than
	// the aftermath.
	soakTokenTimeout = 5 * time.Second

	// soakDrain is how long sessions may go on when the proxy ends under load.
	soakDrain = 100 * time.Millisecond

	// patience is what an operation gets. None takes as long.
	patience = 30 * time.Second
)

func soakSettings(t *testing.T) (length time.Duration, seed uint64) {
	length, seed = shortSoak, 1 // the same faults in every run of the tests
	var err error
	if s := os.Getenv("AADPOOL_SOAK"); s != "" {
		length, err = time.ParseDuration(s)
		require.NoError(t, err, "AADPOOL_SOAK is a duration, such as 10m")
		seed = rand.Uint64N(1_000_000)
	} else if testing.Short() {
		t.Skip("a soak is long: without -short, or with AADPOOL_SOAK")
	}
	if s := os.Getenv("AADPOOL_SOAK_SEED"); s != "" {
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "AADPOOL_SOAK_SEED is a number")
	}
	return length, seed
}

func openFiles() int {
	entries, _ := os.ReadDir("/dev/fd") // Linux and macOS
	return len(entries)
}

// soak is a proxy, the load on it, and what watches over both.
type soak struct {
	azure
	t     *testing.T
	seed  uint64
	proxy *upstream
	stop  func()
	tap   *tap // by which the clients reach the proxy
	table string

	troubles troubles
	ledger   ledger

	ops, calm, explained, cancelled, killed, writes, violations atomic.Int64

	mu     sync.Mutex
	faults map[string]int // by name, how often; guarded by mu
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{azure: newAzure(t), t: t, seed: seed, faults: map[string]int{},
		table: fmt.Sprintf("proxy_soak_%d", time.Now().UnixNano())}
	s.SetTokenLife(soakTokenLife)
	require.NoError(t, s.EnsureRole(t.Context(), "orders-api"))
	s.asSuperuser(fmt.Sprintf(`create table %[1]s (id bigint primary key); grant select, insert on %[1]s to "orders-api"`,
		s.table))
	t.Cleanup(func() { s.asSuperuser("drop table " + s.table) })
	config := s.config(t, s.credential(t), aadpool.WithTokenTimeout(soakTokenTimeout))
	config.Server.ConnectTimeout, config.Drain = 10*time.Second, soakDrain
	s.proxy, s.stop = startProxy(t, config)
	s.tap = openTap(t, s.proxy)
	return s
}

func (s *soak) asSuperuser(sql string, args ...any) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.Postgres.DSN())
	if err == nil {
		_, err = conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
		_ = conn.Close(ctx)
	}
	if err != nil {
		s.violation("the soak itself failed: %s: %s", sql, err)
	}
}

// run puts the load on the proxy while faults come, ends the faults, the proxy, and then the load.
func (s *soak) run(length time.Duration) {
	loading, endLoad := context.WithCancel(context.Background())
	defer endLoad()
	faulting, endFaults := context.WithTimeout(loading, length)
	defer endFaults()
	var load, faults sync.WaitGroup
	s.startLoad(loading, &load)
	faults.Go(func() { s.inject(faulting, s.entraFaults(), rand.New(rand.NewPCG(s.seed, 1))) })
	faults.Go(func() { s.inject(faulting, s.serverFaults(), rand.New(rand.NewPCG(s.seed, 2))) })
	faults.Wait()
	s.drain()
	endLoad()
	load.Wait()
	assert.Positive(s.t, s.calm.Load(), "operations that no fault touched")
	assert.Positive(s.t, s.writes.Load())
	assert.Positive(s.t, s.cancelled.Load())
}

// drain ends the proxy in the midst of the load.
func (s *soak) drain() {
	s.troubles.begin()
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > soakDrain+10*time.Second {
		s.violation("the drain took %s", took)
	}
}

// violation fails the test. The first few say why.
func (s *soak) violation(format string, args ...any) {
	if s.violations.Add(1) > 20 {
		s.t.Fail()
		return
	}
	s.t.Errorf("%s: %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

func (s *soak) report(t *testing.T) {
	stats := s.proxy.config.Hook.Stats()
	t.Logf("%d operations, of which no fault touched %d and a fault failed %d; %d queries cancelled, %d clients "+
		"killed, %d writes acknowledged and found",
		s.ops.Load(), s.calm.Load(), s.explained.Load(), s.cancelled.Load(), s.killed.Load(), s.writes.Load())
	t.Logf("%d sessions, %d cancel requests, %d bytes up and %d down; "+
		"%d fetches of a token, of which %d failed; %d logins", s.proxy.metrics.opened.Load(),
		s.proxy.metrics.cancels.Load(), s.proxy.metrics.toServer.Load(), s.proxy.metrics.toClient.Load(), stats.Fetches,
		stats.FailedFetches, len(s.server.Logins()))
	t.Logf("faults: %v", s.faults)
}
