package aadpool

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/conn"
)

// fleetOutEnv names a file. If it is set, a fleet of 1,000 replicas is simulated, too, and the file gets what came of
// it, as JSON: bench/ makes a plot and a paragraph of it.
const fleetOutEnv = "AADPOOL_FLEET_OUT"

const (
	fleetFetchTime   = 500 * time.Millisecond // of a request to Entra that succeeds
	fleetFailureTime = time.Second            // of one that fails
	fleetLoginTime   = 20 * time.Millisecond
	fleetCallerRetry = time.Second // within which a place that has no connection is asked for one again
)

// A fleetScenario is a service of many replicas, each with a pool whose connections are all in use, so that a
// connection is replaced as soon as it has to be. Time is virtual; the token cache, the lifetimes and the deadlines are
// the real ones.
type fleetScenario struct {
	Name        string
	Replicas    int
	Connections int // of each replica
	StartWithin time.Duration
	Length      time.Duration
	OutageFrom  time.Duration // Entra's, since the start
	OutageFor   time.Duration
	MinLife     time.Duration // of a token
	MaxLife     time.Duration
	RefreshIn   time.Duration // how long after a fetch Entra wants a token renewed; 0: it does not say
	InStep      bool          // a token is renewed as soon as it can be, and not at random after that
}

// fleetEvents counts what happens in each second.
type fleetEvents struct {
	start time.Time

	mu       sync.Mutex
	connects []int // logins at the server
	requests []int // token requests at Entra
}

func (e *fleetEvents) count(series []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if second := int(time.Since(e.start) / time.Second); second < len(series) {
		series[second]++
	}
}

// A fleetReplica is one process: a pool, with a token cache and a credential of its own.
type fleetReplica struct {
	*fleetScenario
	*fleetEvents
	pool   *pgxpool.Config
	cache  *tokenCache
	tokens []fleetToken // appended by getToken, one call of which is made at a time
}

// fleetToken is when a replica got a token and when that ends, since the start.
type fleetToken struct{ got, expires time.Duration }

// getToken is Entra, as the replica sees it.
func (r *fleetReplica) getToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	r.count(r.requests)
	if since := time.Since(r.start); since >= r.OutageFrom && since < r.OutageFrom+r.OutageFor {
		time.Sleep(fleetFailureTime)
		return azcore.AccessToken{}, errors.New("503 Service Unavailable")
	}
	time.Sleep(fleetFetchTime)
	life := r.MinLife
	if r.MaxLife > r.MinLife {
		life += rand.N(r.MaxLife - r.MinLife)
	}
	now := time.Now()
	token := azcore.AccessToken{
		Token:     azuretest.JWT(`{"iat":` + unix(now) + `,"exp":` + unix(now.Add(life)) + `}`),
		ExpiresOn: now.Add(life),
	}
	if r.RefreshIn > 0 {
		token.RefreshOn = now.Add(r.RefreshIn)
	}
	r.tokens = append(r.tokens, fleetToken{time.Since(r.start), token.ExpiresOn.Sub(r.start)})
	return token, nil
}

// serve is a replica's day.
func (r *fleetReplica) serve(ctx context.Context) {
	fleetSleep(ctx, rand.N(r.StartWithin))
	if token, err := r.cache.get(ctx, FetchCauseConnect); err == nil {
		conn.MatchLifetime(r.pool, false, false, token.LongestLife())
	}
	var wg sync.WaitGroup
	for range r.Connections {
		wg.Go(func() { r.connect(ctx) })
	}
	r.acquire(ctx)
	wg.Wait()
}

// acquire does what each acquire does for the token, at the times at which that is anything.
func (r *fleetReplica) acquire(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		r.cache.renewIfDue(ctx, now)
		wakeAt := r.cache.wakeAt.Load()
		if wakeAt == math.MaxInt64 { // a fetch is in flight
			fleetSleep(ctx, time.Second)
			continue
		}
		fleetSleep(ctx, time.UnixMilli(wakeAt+1).Sub(now)) // wakeAt is cut to milliseconds
	}
}

// connect keeps one place of the pool filled: with another connection whenever the one in it is retired, by its token's
// end or by the pool's lifetimes.
func (r *fleetReplica) connect(ctx context.Context) {
	for ctx.Err() == nil {
		token, err := r.cache.get(ctx, FetchCauseConnect)
		if err != nil {
			fleetSleep(ctx, r.untilNextTry()+rand.N(fleetCallerRetry)) // before that it would fail at once
			continue
		}
		fleetSleep(ctx, fleetLoginTime)
		r.count(r.connects)
		// As pgxpool draws it, in whole seconds.
		lifetime := r.pool.MaxConnLifetime + time.Duration(rand.Float64()*r.pool.MaxConnLifetimeJitter.Seconds())*time.Second
		r.use(ctx, conn.New(time.Now(), token.Expires(), token.RenewAt()), lifetime)
	}
}

// use keeps a connection for as long as a pool of New would, with somebody acquiring it all the time: until its token's
// end is near, or that of the lifetime that pgxpool has drawn for it.
func (r *fleetReplica) use(ctx context.Context, s *conn.State, lifetime time.Duration) {
	s.LimitAge(r.pool.MaxConnLifetime, r.pool.MaxConnLifetimeJitter)
	end := time.Now().Add(lifetime)
	for ctx.Err() == nil {
		fleetSleep(ctx, min(time.Until(end), time.Until(s.LookAt())))
		now := time.Now()
		if !now.Before(end) || s.IsOld(now) || !s.HasNewestToken(now, r.cache.expires()) {
			return
		}
		s.PutOff(now)
	}
}

func (r *fleetReplica) untilNextTry() time.Duration {
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	return time.Until(r.cache.nextTry)
}

// addUnspread adds what the server would see of the replica, with the same tokens, if every connection ended with its
// token: logins at that moment, or when the replica next had a token.
func (r *fleetReplica) addUnspread(connects []int) {
	for i, token := range r.tokens {
		at := token.got
		if i > 0 {
			at = max(at, r.tokens[i-1].expires)
		}
		if second := int(at / time.Second); second < len(connects) {
			connects[second] += r.Connections
		}
	}
}

// recovery is how long after the outage the replica was still without a token.
func (r *fleetReplica) recovery() time.Duration {
	end := r.OutageFrom + r.OutageFor
	for i, token := range r.tokens {
		if i > 0 && token.got > end && r.tokens[i-1].expires < end {
			return token.got - end
		}
	}
	return 0
}

func fleetSleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A fleetDay is what the simulation shows. The lists have an entry for each second.
type fleetDay struct {
	Scenario fleetScenario
	Connects []int         // logins at the server
	Unspread []int         // what they would be if each connection ended with its token
	Requests []int         // token requests at Entra
	InStep   []int         // what they would be if each token were renewed as soon as it can be
	Waits    int64         // connects before the outage that waited for a token, other than each replica's first
	Recovery time.Duration // the longest that a replica was without a token after the outage
}

// run simulates the scenario in a bubble of its own.
func (s fleetScenario) run(t *testing.T) (day fleetDay) {
	t.Helper()
	azuretest.ClearPGEnv(t)
	pool, err := pgxpool.ParseConfig(testDSN)
	require.NoError(t, err)
	day.Scenario = s
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), s.Length)
		defer cancel()
		seconds := int(s.Length / time.Second)
		events := &fleetEvents{start: time.Now(), connects: make([]int, seconds), requests: make([]int, seconds)}
		var replicas []*fleetReplica
		var wg sync.WaitGroup
		for range s.Replicas {
			r := &fleetReplica{fleetScenario: &s, fleetEvents: events, pool: pool.Copy()}
			r.cache = newTokenCache(r.getToken, testScope, quietly(defaultTokenTimeout))
			if s.InStep {
				r.cache.random = func() float64 { return 0 }
			}
			replicas = append(replicas, r)
			wg.Go(func() { r.serve(ctx) })
		}
		fleetSleep(ctx, s.OutageFrom)
		for _, r := range replicas {
			day.Waits += r.cache.snapshot().waits - 1
		}
		wg.Wait()
		time.Sleep(defaultTokenTimeout) // for the fetches that the end has overtaken
		synctest.Wait()

		day.Connects, day.Requests, day.Unspread = events.connects, events.requests, make([]int, seconds)
		for _, r := range replicas {
			r.addUnspread(day.Unspread)
			day.Recovery = max(day.Recovery, r.recovery())
		}
	})
	return day
}

// fleetSum is what happened from one moment to another.
func fleetSum(series []int, from, to time.Duration) (sum int) {
	for _, n := range series[from/time.Second : to/time.Second] {
		sum += n
	}
	return sum
}

// check says of a day what holds for a fleet of any size.
func (d fleetDay) check(t *testing.T) {
	t.Helper()
	s := d.Scenario
	outageEnd := s.OutageFrom + s.OutageFor
	assert.Zero(t, d.Waits, "no connect waits for a token")
	assert.Less(t, fleetSum(d.Connects, 0, s.OutageFrom), fleetSum(d.Unspread, 0, s.OutageFrom)*21/20,
		"one connect for each token, and hardly more")
	assert.LessOrEqual(t, fleetSum(d.Requests, s.OutageFrom, outageEnd), s.Replicas*int(s.OutageFor/(5*time.Second)),
		"in an outage a replica asks no more often than every five seconds on average")
	assert.LessOrEqual(t, slices.Max(d.Requests), s.Replicas, "nor is there a second in which each asks twice")
	after := (outageEnd + time.Minute) / time.Second
	assert.LessOrEqual(t, slices.Max(d.Requests[after:]), max(6, s.Replicas/40), "after it, renewals are out of step")
	assert.LessOrEqual(t, d.Recovery, 8*time.Second,
		"all have tokens within two seconds of the longest back-off after the outage")
}

func TestFleetDoesNotReconnectAtOnceAndDoesNotStormEntra(t *testing.T) {
	day := fleetScenario{
		Replicas: 50, Connections: 10, StartWithin: 3 * time.Second, Length: 8 * time.Hour,
		// Each token is renewed five minutes before its end, so that all are due in the outage, and end in it.
		MinLife: 65 * time.Minute, MaxLife: 65 * time.Minute,
		OutageFrom: 5*time.Hour - time.Minute, OutageFor: 20 * time.Minute,
	}.run(t)
	day.check(t)
	s := day.Scenario
	started := (s.StartWithin + time.Minute) / time.Second
	assert.LessOrEqual(t, slices.Max(day.Connects[started:s.OutageFrom/time.Second]),
		slices.Max(day.Unspread[started:s.OutageFrom/time.Second])/5,
		"the peak of connects in a second after an expiry, to that of connections that end with their tokens")
	assert.NotZero(t, day.Recovery, "the outage was long enough for all tokens to end")
	assert.Equal(t, 5*s.Replicas, fleetSum(day.Requests, 0, s.OutageFrom), "one request for each token")
}

func TestFleetLogsInOnceForEachToken(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, row := range []struct {
		name                       string
		minLife, maxLife, renewing time.Duration
		most                       float64
	}{
		{"lives that Entra draws: a first token that lived short does not count", h, 90 * m, 0, 1.05},
		{"an hour", h, h, 0, 1.05},
		{"the longest that Entra draws", 90 * m, 90 * m, 0, 1.05},
		{"two hours", 2 * h, 2 * h, 0, 1.05},
		{"24 hours", 24 * h, 24 * h, 0, 1.05},
		{"24 hours, renewed after 12, as a managed identity's: half of the last tenth is given up", 24 * h, 24 * h, 12 * h,
			1.08},
	} {
		t.Run(row.name, func(t *testing.T) {
			day := fleetScenario{
				Replicas: 20, Connections: 10, StartWithin: m, Length: 100 * h, OutageFrom: 99 * h, OutageFor: m,
				MinLife: row.minLife, MaxLife: row.maxLife, RefreshIn: row.renewing,
			}.run(t)
			logins, fewest := fleetSum(day.Connects, 0, 99*h), fleetSum(day.Unspread, 0, 99*h)
			t.Logf("%d logins, %d at the fewest: %.2f", logins, fewest, float64(logins)/float64(fewest))
			assert.LessOrEqual(t, float64(logins)/float64(fewest), row.most)
		})
	}
}

// The day has 25 hours, so that tokens of 24 end in it.
func TestFleetOfAThousandReplicasForADay(t *testing.T) {
	path := os.Getenv(fleetOutEnv)
	if path == "" {
		t.Skip(fleetOutEnv + " is not set: bench/ sets it")
	}
	var days []fleetDay
	for _, s := range []fleetScenario{
		{Name: "tokens live 60 to 90 minutes at random", MinLife: time.Hour, MaxLife: 90 * time.Minute},
		{Name: "all tokens live 65 minutes", MinLife: 65 * time.Minute, MaxLife: 65 * time.Minute},
		{Name: "all tokens live 24 hours and are renewed after 12", MinLife: 24 * time.Hour, MaxLife: 24 * time.Hour,
			RefreshIn: 12 * time.Hour},
	} {
		s.Replicas, s.Connections, s.StartWithin, s.Length = 1000, 10, time.Minute, 25*time.Hour
		s.OutageFrom, s.OutageFor = 12*time.Hour-time.Minute, 20*time.Minute
		day := s.run(t)
		day.check(t)
		s.InStep = true
		day.InStep = s.run(t).Requests
		days = append(days, day)
	}
	text, err := json.Marshal(days)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o644))
}
