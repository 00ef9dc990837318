package soak_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// TestSoak is a pool under a mixed load, with tokens that last for seconds, while Entra and PostgreSQL fail in one way
// after another at random. All the time it checks that
//   - nothing fails but what a fault explains: an acquire while no good token is to be had or logins fail, a query on a
//     connection that was cut;
//   - no connection is handed out whose token has ended;
//   - nothing hangs;
//   - no token is in an error or a log record;
//
// and at the end that
//   - each write that was acknowledged is there, and none that was rolled back;
//   - goroutines, file descriptors and memory have not grown.
//
// AADPOOL_SOAK says how long the load lasts, AADPOOL_SOAK_SEED which faults come in which order. (The same seed gives
// the same faults. When each of them meets which query is up to the machine.) load_test.go has the load, faults_test.go
// the faults, explain_test.go what they explain, resources_test.go what must not grow.
func TestSoak(t *testing.T) {
	length, seed := soakSettings(t)
	t.Logf("AADPOOL_SOAK=%s AADPOOL_SOAK_SEED=%d", length, seed)
	_, err := azuretest.SharedPostgres() // which stays when this test ends
	require.NoError(t, err)
	before := measure()
	s := newSoak(t, seed)
	s.run(length)
	s.checkLedger()
	s.checkCoverage(length)
	s.pool.Close()
	s.Server.Close()
	s.Close()
	s.resources.check(t, length, before, len(s.Server.Logins()))
	s.report()
}

// shortSoak is long enough for a few rotations and a handful of faults, with every run of all tests.
const shortSoak = 12 * time.Second

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

const (
	soakConns = 12 // fewer than there are workers

	// tokenTimeout is shorter than a token's life, so that a fetch that hangs is given up and another one made within it.
	tokenTimeout = 3 * time.Second

	// patience is what an operation gets. None takes as long: the longest faults that can hold one up last for
	// longestStall, the token timeout and a ping of a dead connection together.
	patience = 30 * time.Second
)

// soak is a pool, the load on it, and what watches over both.
type soak struct {
	azuretest.Azure
	t         *testing.T
	seed      uint64
	hook      *aadpool.Hook
	pool      *pgxpool.Pool
	tokens    *tokenLog
	windows   windows
	ledger    ledger
	resources resources

	// operations; those that no fault touched; that failed, explained; that gave up by themselves
	ops, calm, failed, cancelled atomic.Int64
	handedOut                    atomic.Int64 // connections, each checked
	notifications, logRecords    atomic.Int64
	slowest                      atomic.Int64 // operation, in nanoseconds
	slowestRecovery              atomic.Int64 // of the token after a fault of Entra's, in nanoseconds
	violations                   atomic.Int64

	mu     sync.Mutex
	faults map[string]int // by name, how often; guarded by mu
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{Azure: azuretest.New(t), t: t, seed: seed, faults: map[string]int{}}
	s.App = s.Register(aadpooltest.Principal{Name: "soak-api"})
	require.NoError(t, s.EnsureRole(t.Context(), s.App.Name))
	s.ledger.create(t, s.Azure)
	s.SetTokenLife(usualLife)
	s.tokens = &tokenLog{cred: s.Credential(t)}

	var err error
	s.hook, err = aadpool.NewHook(s.tokens, aadpool.WithTokenTimeout(tokenTimeout),
		aadpool.WithLogger(slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	require.NoError(t, err)
	// What is acknowledged survives a crash of the server's processes.
	config, err := pgxpool.ParseConfig(s.DSN() + "&synchronous_commit=on&connect_timeout=10&pool_max_conns=" +
		strconv.Itoa(soakConns))
	require.NoError(t, err)
	config.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		watched := &soakConn{born: time.Now()}
		watched.Conn = azuretest.WatchPassword(conn, func(_ net.Conn, token string) {
			watched.tokenEnds, _ = azuretest.TokenEnd(token) // zero, and so too late, if it cannot be read
		})
		return watched, nil
	}
	s.pool, err = s.hook.NewPoolWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(s.pool.Close)
	return s
}

// soakConn is a connection that knows when it was made and when its token ends.
type soakConn struct {
	net.Conn
	born      time.Time
	tokenEnds time.Time
}

func bornAt(conn *pgx.Conn) time.Time { return conn.PgConn().Conn().(*soakConn).born }

// checkHandedOut is told of each connection, and of when it was asked for: after that the machine may be busy for as
// long as it likes.
func (s *soak) checkHandedOut(conn *pgx.Conn, asked time.Time) {
	s.handedOut.Add(1)
	if ends := conn.PgConn().Conn().(*soakConn).tokenEnds; !asked.Before(ends) {
		s.violation("a connection was handed out whose token had ended %s before it was asked for", asked.Sub(ends))
	}
}

// Write is where the pool's log goes.
func (s *soak) Write(record []byte) (int, error) {
	s.logRecords.Add(1)
	if azuretest.AnyJWT.Match(record) {
		s.violation("a token is in the log")
	}
	return len(record), nil
}

// violation fails the test. The first few say why.
func (s *soak) violation(format string, args ...any) {
	if s.violations.Add(1) > 20 {
		s.t.Fail()
		return
	}
	s.t.Errorf("%s: %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// run puts the load on the pool while faults come, ends the faults, and then the load.
func (s *soak) run(length time.Duration) {
	loading, endLoad := context.WithCancel(s.t.Context())
	defer endLoad()
	faulting, endFaults := context.WithTimeout(loading, length)
	defer endFaults()

	var load, rest sync.WaitGroup
	s.startLoad(loading, &load)
	rest.Go(func() { s.failEntra(faulting) })
	rest.Go(func() { s.failServer(faulting) })
	rest.Go(func() { s.resources.sample(faulting, length, s.Server) })
	rest.Go(func() { s.reportProgress(faulting) })
	rest.Wait()
	endLoad()
	load.Wait()
	s.comeBack()
}

// comeBack makes sure that the pool works when all faults have ended: at once, or after the pause that the last
// refusals have caused.
func (s *soak) comeBack() {
	err := s.pool.Ping(s.t.Context())
	if err != nil && strings.Contains(err.Error(), pausedWords) {
		select {
		case <-time.After(azuretest.LongestBackoff):
		case <-s.t.Context().Done():
		}
		err = s.pool.Ping(s.t.Context())
	}
	assert.NoError(s.t, err, "when all faults have ended")
}

// checkCoverage makes sure that the soak could find something.
func (s *soak) checkCoverage(length time.Duration) {
	assert.Positive(s.t, s.calm.Load(), "operations that no fault touched")
	assert.Positive(s.t, s.ledger.acknowledged())
	assert.Positive(s.t, s.notifications.Load())
	if length < longSoak {
		return
	}
	seconds := int64(length / time.Second)
	assert.Greater(s.t, s.ops.Load(), 50*seconds, "operations")
	assert.Greater(s.t, s.calm.Load(), 10*seconds, "operations that no fault touched")
	assert.Greater(s.t, s.ledger.acknowledged(), 5*seconds, "acknowledged writes")
	assert.Greater(s.t, s.tokens.count(), int(length/(4*usualLife)), "rotations")
	assert.Positive(s.t, s.hook.Stats().RetiredConns)
	assert.Greater(s.t, len(s.faults), 25, "kinds of faults")
}

func (s *soak) reportProgress(ctx context.Context) {
	ticks := time.NewTicker(30 * time.Second)
	defer ticks.Stop()
	for start := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			now := measure()
			s.t.Logf("%s: %d operations, %d writes, %d tokens, %d violations, %d goroutines, %d files, %d kB",
				time.Since(start).Round(time.Second),
				s.ops.Load(), s.ledger.acknowledged(), s.tokens.count(), s.violations.Load(), now.goroutines, now.files,
				now.heap>>10)
		}
	}
}

func (s *soak) report() {
	stats := s.hook.Stats()
	logins, refused := s.Server.Logins(), 0
	for _, login := range logins {
		if login.SQLState != "" {
			refused++
		}
	}
	s.t.Logf("%d operations, of which no fault touched %d, a fault failed %d and %d gave up; the slowest took %s",
		s.ops.Load(), s.calm.Load(),
		s.failed.Load(), s.cancelled.Load(), time.Duration(s.slowest.Load()).Round(time.Millisecond))
	s.t.Logf("%d writes acknowledged and found, %d notifications, %d log records without a token", s.ledger.acknowledged(),
		s.notifications.Load(), s.logRecords.Load())
	s.t.Logf("%d tokens of %d fetches (%d failed); back at most %s after a fault of Entra's", s.tokens.count(),
		stats.Fetches, stats.FailedFetches,
		time.Duration(s.slowestRecovery.Load()).Round(time.Millisecond))
	s.t.Logf("%d connections handed out, none past its token's end; %d logins, %d refused; %d retired, %d refusals",
		s.handedOut.Load(), len(logins), refused,
		stats.RetiredConns, stats.Refused)
	s.t.Logf("faults: %v", s.faults)
	s.t.Logf("resources: %s", s.resources.String())
}
