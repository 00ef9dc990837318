package proxy

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
)

// aftermath is how long after a fault an operation may still fail by it: pauses between tries of the Hook's, tokens
// that were not renewed meanwhile.
const aftermath = 7 * time.Second

// troubles is when faults were.
type troubles struct {
	mu   sync.Mutex
	last time.Time // when the last one ended; the far future while one lasts
	open int
}

func (t *troubles) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
}

func (t *troubles) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	t.last = time.Now()
}

// explain reports whether a fault touches what has gone on since a time.
func (t *troubles) explain(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open > 0 || t.last.After(since.Add(-aftermath))
}

// fault is something that goes wrong for a while.
type fault struct {
	name  string
	apply func() (end func())
}

func (s *soak) entraFaults() []fault {
	failure := func(name string, f aadpooltest.Failure) fault {
		return fault{name, func() func() { s.SetFailure(f); return func() { s.SetFailure(aadpooltest.Failure{}) } }}
	}
	return []fault{
		failure("Entra hangs", aadpooltest.Hanging()),
		failure("Entra: 503", aadpooltest.ServerError(503)),
		failure("Entra: 429", aadpooltest.Throttled(time.Second)),
		failure("Entra: garbage", aadpooltest.MalformedBody()),
		failure("Entra: connection cut", aadpooltest.ConnectionCut()),
		{"Entra: disabled", func() func() { s.Revoke("orders-api"); return func() { s.Register(s.app) } }},
		{"Entra slow", func() func() { s.SetLatency(time.Second); return func() { s.SetLatency(0) } }},
		{"expired tokens", func() func() { s.SetTokenAge(soakTokenLife + time.Second); return func() { s.SetTokenAge(0) } }},
	}
}

func (s *soak) serverFaults() []fault {
	login := func(name string, f aadpooltest.Fault) fault {
		return fault{name, func() func() { s.server.SetFault(f); return func() { s.server.SetFault(aadpooltest.Fault{}) } }}
	}
	nothing := func() {}
	return []fault{
		{"all connections cut", func() func() { s.server.CloseConnections(); return nothing }},
		{"all sessions ended by an administrator", func() func() {
			s.asSuperuser("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'orders-api'")
			return nothing
		}},
		{"a process of the server killed, at which all of them end and it recovers", func() func() {
			s.killBackend()
			return nothing
		}},
		login("token refused", aadpooltest.RefuseLogins("28000",
			"The access token has expired. Acquire a new token and try again.")),
		login("starting up", aadpooltest.RefuseLogins("57P03", "the database system is starting up")),
		login("too many connections", aadpooltest.RefuseLogins("53300", "remaining connection slots are reserved")),
		login("dropped at accept", aadpooltest.DropAt(aadpooltest.PhaseAccept)),
		login("dropped at TLS", aadpooltest.DropAt(aadpooltest.PhaseTLS)),
		login("dropped at password", aadpooltest.DropAt(aadpooltest.PhasePassword)),
		login("stalled at SSLRequest", aadpooltest.StallAt(aadpooltest.PhaseSSLRequest)),
		login("stalled at startup", aadpooltest.StallAt(aadpooltest.PhaseStartup)),
	}
}

// killBackend kills the process of a session, and waits until the server takes connections again.
func (s *soak) killBackend() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.Postgres.DSN())
	if err != nil {
		s.violation("the soak itself failed: %s", err)
		return
	}
	var pid int
	if conn.QueryRow(ctx, "select pid from pg_stat_activity where usename = 'orders-api' limit 1").Scan(&pid) == nil {
		if process, err := os.FindProcess(pid); err == nil {
			_ = process.Kill()
		}
	}
	_ = conn.Close(ctx)
	for err := error(nil); ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		if conn, err = pgx.Connect(ctx, s.Postgres.DSN()); err == nil {
			_ = conn.Close(ctx)
			return
		}
	}
	s.violation("the server did not come back")
}

// inject applies the faults until ctx ends, all of them once in a random order, and then again. Between two nothing is
// wrong for as long as it takes to be over the last.
func (s *soak) inject(ctx context.Context, faults []fault, random *rand.Rand) {
	for n := 0; ; n++ {
		if n%len(faults) == 0 {
			random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		if !pause(ctx, time.Second+time.Duration(random.Int64N(int64(2*aftermath)))) {
			return
		}
		f := faults[n%len(faults)]
		s.troubles.begin()
		end := f.apply()
		s.mu.Lock()
		s.faults[f.name]++
		s.mu.Unlock()
		pause(ctx, time.Duration(random.Int64N(int64(2*time.Second))))
		end()
		s.troubles.end()
	}
}

// pause returns true after d, and false as soon as ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
