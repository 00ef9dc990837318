package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/aadpooltest"
)

// measureOldest measures how old the connections are that a busy pool hands out.
func (b *bench) measureOldest(ctx context.Context) error {
	life, length := 20*time.Second, 70*time.Second
	if b.quick {
		life, length = 8*time.Second, 20*time.Second
	}
	cl, err := newCloud(b.db.postgres, life)
	if err != nil {
		return err
	}
	defer cl.close()
	contestants := []contestant{floor, azidentity, pgMultiAuth, ours}
	oldest := make([]time.Duration, len(contestants))
	errs := make([]error, len(contestants))
	var wg sync.WaitGroup
	for i, c := range contestants {
		wg.Go(func() { oldest[i], errs[i] = oldestInUse(ctx, c, cl, length) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s := section{
		Title: "The oldest connection in use",
		Text: fmt.Sprintf("Tokens live %s; a pool of 4 connections is busy for %s. The age is that of the oldest "+
			"connection that it handed out, since its login. "+
			"Without aadpool that goes on to pgxpool's MaxConnLifetime, an hour by default.", life, length),
		Table: [][]string{{"", "oldest, s", "of the token's life"}},
	}
	r := row{name: "oldest connection in use, as a share of its token's life", sign: -1, noise: 0.02,
		cells: map[contestant]cell{}}
	for i, c := range contestants {
		share := oldest[i].Seconds() / life.Seconds()
		text := fmt.Sprintf("%.2f", share)
		if oldest[i] > length-2*time.Second {
			text += " and growing"
		}
		s.Table = append(s.Table, []string{string(c), fmt.Sprintf("%.1f", oldest[i].Seconds()), text})
		r.cells[c] = cell{text: text, figure: share}
		if c == ours {
			b.report.verdicts = append(b.report.verdicts, verdict{"no connection is handed out whose token has ended",
				fmt.Sprintf("the oldest at %.2f of the token's life", share), share < 1})
		}
	}
	b.report.headline = append(b.report.headline, r)
	b.add(s)
	return nil
}

func oldestInUse(ctx context.Context, c contestant, cl *cloud, length time.Duration) (oldest time.Duration, err error) {
	cred, err := credential(cl.authority, cl.app, policy.RetryOptions{})
	if err != nil {
		return 0, err
	}
	token, err := cl.authority.Issue(role)
	if err != nil {
		return 0, err
	}
	pool, err := c.newPool(ctx, cl.server.DSN(role)+"&pool_max_conns=4", token, cred)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	born := map[uint32]time.Time{}
	var mu sync.Mutex
	err = keepBusy(ctx, pool, 4, 50*time.Millisecond, length, func(pid uint32) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := born[pid]; !ok {
			born[pid] = time.Now()
		}
		oldest = max(oldest, time.Since(born[pid]))
	})
	return oldest, err
}

// keepBusy has workers acquire a connection, tell its process id to seen, make a query and pause.
func keepBusy(ctx context.Context, pool *pgxpool.Pool, workers int, pause, length time.Duration,
	seen func(pid uint32)) error {
	errs := make([]error, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for time.Since(start) < length && errs[w] == nil {
				errs[w] = useOnce(ctx, pool, pause, seen)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// useOnce holds a connection for half of the pause, so that others have to take others.
func useOnce(ctx context.Context, pool *pgxpool.Pool, pause time.Duration, seen func(pid uint32)) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	seen(conn.Conn().PgConn().PID())
	_, err = conn.Exec(ctx, "select 1")
	time.Sleep(pause / 2)
	conn.Release()
	time.Sleep(pause / 2)
	return err
}

const expiryConns = 50

// measureExpiry measures connects per second when the connections that a pool opened at once reach the end of their
// token.
func (b *bench) measureExpiry(ctx context.Context) error {
	life := 100 * time.Second
	if b.quick {
		life = 18 * time.Second
	}
	length := life + life/10
	spreadOut, together := make([]int, 0), make([]int, 0)
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { spreadOut, errs[0] = b.connectsThroughExpiry(ctx, ours, life, length) })
	wg.Go(func() { together, errs[1] = b.connectsThroughExpiry(ctx, azidentity, life, length) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	half := int(life / time.Second / 2)
	ourPeak, theirPeak := slices.Max(spreadOut[half:]), slices.Max(together[half:])
	b.add(section{
		Title: "Connects per second through an expiry",
		Text: fmt.Sprintf("A busy pool of %d connections, opened at once with a token of %s. Beside aadpool there is "+
			"azidentity in BeforeConnect with pgxpool's MaxConnLifetime set to the token's life, "+
			"which is how connections can be kept from outliving their tokens without it. With tokens of 75 minutes all is "+
			"%.0f times as slow, and as much further apart.", expiryConns, life, (75*time.Minute).Seconds()/life.Seconds()),
		Table: [][]string{
			{"", "most connects in a second"},
			{"azidentity with MaxConnLifetime", fmt.Sprint(theirPeak)},
			{string(ours), fmt.Sprint(ourPeak)},
		},
		Picture: picture("expiry", "Connects per second through an expiry"),
	})
	b.report.headline = append(b.report.headline, row{
		name: fmt.Sprintf("most connects in a second when %d connections' token ends", expiryConns), sign: -1,
		cells: map[contestant]cell{
			azidentity: {text: fmt.Sprintf("%d (with MaxConnLifetime)", theirPeak), figure: float64(theirPeak)},
			ours:       {text: fmt.Sprint(ourPeak), figure: float64(ourPeak)},
		},
	})
	return b.plotExpiry(spreadOut, together)
}

// connectsThroughExpiry returns the logins in each second, as the server saw them.
func (b *bench) connectsThroughExpiry(ctx context.Context, c contestant, life, length time.Duration) ([]int, error) {
	cl, err := newCloud(b.db.postgres, life)
	if err != nil {
		return nil, err
	}
	defer cl.close()
	cred, err := credential(cl.authority, cl.app, policy.RetryOptions{})
	if err != nil {
		return nil, err
	}
	dsn := fmt.Sprintf("%s&pool_max_conns=%d", cl.server.DSN(role), expiryConns)
	if c != ours {
		dsn += "&pool_max_conn_lifetime=" + life.String()
	}
	pool, err := c.newPool(ctx, dsn, "", cred)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	start := time.Now()
	if err := acquireAll(ctx, pool, expiryConns); err != nil {
		return nil, err
	}
	if err := keepBusy(ctx, pool, expiryConns, 250*time.Millisecond, length, func(uint32) {}); err != nil {
		return nil, err
	}
	return perSecond(loginTimes(cl.server, start), length), nil
}

func loginTimes(server *aadpooltest.Server, start time.Time) (times []time.Duration) {
	for _, login := range server.Logins() {
		times = append(times, login.Time.Sub(start))
	}
	return times
}
