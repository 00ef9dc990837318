package soak_test

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

const (
	// usualLife is how long a token lives. azidentity caches none that lives less than five minutes.
	usualLife = 8 * time.Second

	// longestStall is how long the faults of the server last at most: shorter than the connect_timeout of the soak's DSN,
	// so that a login that stalls is late, not lost.
	longestStall = 2 * time.Second
)

// fault is something that goes wrong for a while.
type fault struct {
	name  string
	apply func() (end func())
}

// failEntra has Entra fail in one way after another until ctx ends. None of it explains a failure by itself: only the
// want of a good token does, of which the tokenLog knows.
func (s *soak) failEntra(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.seed, 1))
	failure := func(name string, f aadpooltest.Failure) fault {
		return fault{name, func() func() { s.SetFailure(f); return func() { s.SetFailure(aadpooltest.Failure{}) } }}
	}
	life := func(name string, life, age time.Duration) fault {
		return fault{name, func() func() {
			s.SetTokenLife(life)
			s.SetTokenAge(age)
			return func() { s.SetTokenLife(usualLife); s.SetTokenAge(0) }
		}}
	}
	faults := []fault{
		failure("Entra hangs", aadpooltest.Hanging()),
		failure("Entra: 500", aadpooltest.ServerError(500)),
		failure("Entra: 503", aadpooltest.ServerError(503)),
		failure("Entra: 429", aadpooltest.Throttled(2*time.Second)),
		failure("Entra: secret expired", aadpooltest.OAuthError("invalid_client", 7000222,
			"The provided client secret keys are expired.")),
		failure("Entra: garbage", aadpooltest.MalformedBody()),
		failure("Entra: body cut short", aadpooltest.TruncatedBody()),
		failure("Entra: connection cut", aadpooltest.ConnectionCut()),
		{"Entra: disabled", func() func() { s.Revoke(s.App.Name); return func() { s.Register(s.App) } }},
		{"Entra slow", func() func() { s.SetLatency(2 * time.Second); return func() { s.SetLatency(0) } }},
		{"RefreshOn", func() func() { s.SetRefreshIn(time.Second); return func() { s.SetRefreshIn(0) } }},
		life("tokens of 3 s", 3*time.Second, 0),
		life("tokens of 30 s", 30*time.Second, 0),
		life("old tokens", usualLife, usualLife/2),
		life("expired tokens", usualLife, usualLife+time.Second),
		life("tokens not yet valid", usualLife, -2*time.Second),
	}
	s.inject(ctx, random, faults, func(f fault) time.Duration {
		// Now and then so long that it outlasts the token.
		if random.IntN(3) == 0 {
			return usualLife + upTo(random, 2*time.Second)
		}
		return upTo(random, 2*time.Second)
	}, s.awaitToken)
}

// awaitToken waits until there is a good token again, which after a fault of Entra's must not take long.
func (s *soak) awaitToken() {
	const most = tokenTimeout + azuretest.LongestBackoff + 2*time.Second
	start := time.Now()
	for s.tokens.explain(span{time.Now(), time.Now()}) {
		if time.Since(start) > most {
			s.violation("no good token %s after Entra was well again", time.Since(start))
			return
		}
		sleep(s.t.Context(), 10*time.Millisecond)
	}
	raise(&s.slowestRecovery, int64(time.Since(start)))
}

// failServer has PostgreSQL, and the way there, fail in one way after another until ctx ends.
func (s *soak) failServer(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.seed, 2))
	during := func(name string, begin, end func()) fault {
		return fault{name, func() func() {
			endWindow := s.windows.noLogins()
			begin()
			return func() { end(); endWindow() }
		}}
	}
	login := func(name string, f aadpooltest.Fault) fault {
		return during(name, func() { s.Server.SetFault(f) }, func() { s.Server.SetFault(aadpooltest.Fault{}) })
	}
	once := func(name string, cut func()) fault {
		return fault{name, func() func() {
			endWindow := s.windows.cut()
			cut()
			endWindow()
			return func() {}
		}}
	}
	role := pgx.Identifier{s.App.Name}.Sanitize()
	faults := []fault{
		once("all connections cut", s.Server.CloseConnections),
		once("all sessions ended by an administrator", func() {
			s.asSuperuser("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", s.App.Name)
		}),
		login("token refused", aadpooltest.RefuseLogins("28000",
			"The access token has expired. Acquire a new token and try again.")),
		login("password authentication failed", aadpooltest.RefuseLogins("28P01",
			`password authentication failed for user "soak-api"`)),
		login("starting up", aadpooltest.RefuseLogins("57P03", "the database system is starting up")),
		during("another audience", func() {
			s.Server.SetAudience("https://other.example")
		}, func() { s.Server.SetAudience(aadpooltest.DefaultAudience) }),
		during("at the role's connection limit", func() { s.asSuperuser("alter role " + role + " connection limit 3") },
			func() { s.asSuperuser("alter role " + role + " connection limit -1") }),
	}
	for _, phase := range azuretest.LoginPhases {
		faults = append(faults, login("dropped at "+phase.Name, aadpooltest.DropAt(phase.Phase)),
			login("stalled at "+phase.Name, aadpooltest.StallAt(phase.Phase)))
	}
	if _, err := s.TLSDSN(s.App.Name); err == nil { // these tests started the server, and so may crash it
		faults = append(faults, once("crash and recovery", s.crash))
	}
	s.inject(ctx, random, faults, func(fault) time.Duration { return upTo(random, longestStall) }, func() {})
}

// inject applies the faults until ctx ends, all of them once in a random order, and then any.
func (s *soak) inject(ctx context.Context, random *rand.Rand, faults []fault, length func(fault) time.Duration,
	recovered func()) {
	order := random.Perm(len(faults))
	for n := 0; ; n++ {
		if n%len(order) == 0 {
			order = random.Perm(len(faults))
		}
		f := faults[order[n%len(order)]]
		// Nothing is wrong for a while.
		if !sleep(ctx, 500*time.Millisecond+upTo(random, 2*time.Second)) {
			return
		}
		end := f.apply()
		s.count(f.name)
		sleep(ctx, length(f))
		end()
		recovered()
	}
}

// upTo draws a duration less than d.
func upTo(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

func (s *soak) count(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[fault]++
}

// sleep returns true after d, and false as soon as ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *soak) asSuperuser(sql string, args ...any) {
	if err := s.Azure.AsSuperuser(sql, args...); err != nil {
		s.violation("the soak itself failed: %s: %s", sql, err)
	}
}

func (s *soak) crash() {
	if err := s.Azure.Crash(); err != nil {
		s.violation("the soak itself failed: %s", err)
	}
}
