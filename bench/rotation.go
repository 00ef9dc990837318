package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
)

// A cloud is an authority and a server that takes its tokens: aadpooltest's, in front of the real PostgreSQL.
type cloud struct {
	authority *aadpooltest.Authority
	server    *aadpooltest.Server
	app       aadpooltest.Principal
}

func newCloud(postgres *aadpooltest.Postgres, tokenLife time.Duration) (*cloud, error) {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		return nil, err
	}
	authority.SetTokenLife(tokenLife)
	server, err := aadpooltest.NewServer(authority, postgres)
	if err != nil {
		authority.Close()
		return nil, err
	}
	return &cloud{authority, server, register(authority)}, nil
}

func (c *cloud) close() {
	c.server.Close()
	c.authority.Close()
}

// An attempt is one connect, made at a time since the start.
type attempt struct {
	At     time.Duration
	Hook   time.Duration // of it, in the hook: waiting for a token
	Took   time.Duration // until the connection was up, or failed
	Failed bool
}

// connects makes a connect at each interval, whether or not those before have come back, for as long as it is told. It
// hands each to record, one at a time, and returns when all have come back or ctx ends.
func connects(ctx context.Context, h hook, dsn string, interval, length time.Duration, record func(attempt)) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for time.Since(start) < length && ctx.Err() == nil {
		wg.Go(func() {
			a := connectOnce(ctx, h, config.Copy(), start)
			mu.Lock()
			defer mu.Unlock()
			record(a)
		})
		<-ticker.C
	}
	wg.Wait()
	return ctx.Err()
}

func connectOnce(ctx context.Context, h hook, config *pgx.ConnConfig, start time.Time) attempt {
	began := time.Now()
	a := attempt{At: began.Sub(start)}
	err := h(ctx, config)
	a.Hook = time.Since(began)
	if err == nil {
		var conn *pgx.Conn
		if conn, err = pgx.ConnectConfig(ctx, config); err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
		}
	}
	a.Took, a.Failed = time.Since(began), err != nil
	return a
}

const (
	rotationInterval = 200 * time.Millisecond
	waited           = 50 * time.Millisecond // in the hook: less is scheduling
)

// rotationLives is how long the tokens of each contestant live, so that by its own rule it renews them after
// every: azidentity five minutes before the end, go-pgmultiauth one minute, aadpool a fifth of the life.
func rotationLives(every time.Duration) map[contestant]time.Duration {
	return map[contestant]time.Duration{
		floor: 24 * time.Hour, azidentity: 5*time.Minute + every, pgMultiAuth: time.Minute + every, ours: every * 5 / 4,
	}
}

// measureRotation measures connects through several renewals of the token, each of which takes a second.
func (b *bench) measureRotation(ctx context.Context) error {
	every, fetch := 15*time.Second, time.Second
	length := every * 13 / 2
	if b.quick {
		every, fetch, length = 8*time.Second, 500*time.Millisecond, 20*time.Second
	}
	lives := rotationLives(every)
	contestants := []contestant{floor, azidentity, pgMultiAuth, ours}
	attempts := map[contestant][]attempt{}
	requests := map[contestant]int{}
	var mu sync.Mutex
	errs := make([]error, len(contestants))
	var wg sync.WaitGroup
	for i, c := range contestants {
		wg.Go(func() {
			a, n, err := b.rotate(ctx, c, lives[c], fetch, length)
			mu.Lock()
			defer mu.Unlock()
			attempts[c], requests[c], errs[i] = a, n, err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	s := section{
		Title: "Through the renewal of a token",
		Text: fmt.Sprintf("A connect every %s for %s, while the credential (azidentity's client secret) takes %s for a "+
			"request. "+
			"The tokens live such that each contestant, by its own rule, renews them about every %s: azidentity five minutes "+
			"before their end (they live %s), "+
			"go-pgmultiauth one minute (%s), aadpool a fifth of their life (%s). The first token is there at the start. "+
			"A connect counts as waiting if its hook took more than %s.",
			rotationInterval, length, fetch, every, lives[azidentity], lives[pgMultiAuth], lives[ours], waited),
		Table: [][]string{{"", "connects", "token requests", "connects that waited for a token", "p50, ms", "p99, ms",
			"longest, ms"}},
		Picture: picture("rotation", "Time to connect through renewals"),
	}
	r := row{name: "connects that waited for a renewal that takes 1 s", sign: -1, cells: map[contestant]cell{}}
	for _, c := range contestants {
		n := 0
		var took []float64
		for _, a := range attempts[c] {
			if a.Hook > waited {
				n++
			}
			if a.Failed {
				return fmt.Errorf("%s: a connect failed in the rotation", c)
			}
			took = append(took, float64(a.Took)/1e6)
		}
		s.Table = append(s.Table, []string{
			string(c), fmt.Sprint(len(took)), fmt.Sprint(requests[c]), fmt.Sprint(n),
			fmt.Sprintf("%.0f", quantile(took, 0.5)), fmt.Sprintf("%.0f", quantile(took, 0.99)),
			fmt.Sprintf("%.0f", slices.Max(took)),
		})
		r.cells[c] = cell{text: fmt.Sprintf("%d of %d", n, len(took)), figure: float64(n) / float64(len(took))}
		if c == ours {
			b.report.verdicts = append(b.report.verdicts, verdict{"connects that wait for a token after the first: 0",
				fmt.Sprintf("%d of %d, through %d renewals", n, len(took), requests[c]), n == 0})
		}
	}
	b.report.headline = append(b.report.headline, r)
	b.add(s)
	return b.plotRotation(contestants, attempts)
}

// rotate is one contestant's part. It returns its connects and how many token requests they made.
func (b *bench) rotate(ctx context.Context, c contestant, life, fetch, length time.Duration) (attempts []attempt,
	requests int, err error) {
	cl, err := newCloud(b.db.postgres, life)
	if err != nil {
		return nil, 0, err
	}
	defer cl.close()
	cred, err := credential(cl.authority, cl.app, policy.RetryOptions{})
	if err != nil {
		return nil, 0, err
	}
	token, err := cl.authority.Issue(role)
	if err != nil {
		return nil, 0, err
	}
	dsn := cl.server.DSN(role)
	h, err := c.newHook(ctx, dsn, token, cred)
	if err != nil {
		return nil, 0, err
	}
	if err := warmUp(ctx, h, dsn); err != nil {
		return nil, 0, err
	}
	cl.authority.SetLatency(fetch)
	before := cl.authority.Requests()
	err = connects(ctx, h, dsn, rotationInterval, length, func(a attempt) { attempts = append(attempts, a) })
	return attempts, cl.authority.Requests() - before, err
}

// warmUp makes the first connect.
func warmUp(ctx context.Context, h hook, dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	if err := h(ctx, config); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
