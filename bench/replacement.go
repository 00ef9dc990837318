package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

const (
	replacedConns   = 50
	replacedWorkers = 16
	// of a worker between its queries, so that the machine is not what one waits for
	workerPause = 20 * time.Millisecond
	slowDial    = 100 * time.Millisecond
)

// A replacedPool is one whose connections are replaced while it is in use.
type replacedPool struct {
	name     string
	ours     bool
	make     func(context.Context, *pgxpool.Config, *cloud) (*pgxpool.Pool, error)
	maxConns int32
	beside   []time.Duration // when others log in to the same server, since the start

	mu       sync.Mutex
	logins   []time.Duration // when each began, since the start
	acquires []acquired
}

// An acquired is one Acquire.
type acquired struct{ at, took time.Duration }

func replacedPools(life time.Duration) []*replacedPool {
	byAADPool := func(ctx context.Context, config *pgxpool.Config, c *cloud) (*pgxpool.Pool, error) {
		cred, err := credential(c.authority, c.app, policy.RetryOptions{})
		if err != nil {
			return nil, err
		}
		return aadpool.NewWithConfig(ctx, config, cred, silent)
	}
	kept := func(ctx context.Context, config *pgxpool.Config, c *cloud) (*pgxpool.Pool, error) {
		config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) (err error) {
			config.Password, err = c.authority.Issue(role) // at once: what is measured is the login
			return err
		}
		return pgxpool.NewWithConfig(ctx, config)
	}
	byHand := func(ctx context.Context, config *pgxpool.Config, c *cloud) (*pgxpool.Pool, error) {
		config.MaxConnLifetime = life
		config.HealthCheckPeriod = life / 60
		return kept(ctx, config, c)
	}
	return []*replacedPool{
		{name: "a token in BeforeConnect, and MaxConnLifetime", make: byHand, maxConns: replacedConns},
		{name: "aadpool, a pool that can grow", ours: true, make: byAADPool, maxConns: replacedConns + 10},
		{name: "aadpool, a pool at MaxConns", ours: true, make: byAADPool, maxConns: replacedConns},
		{name: "control: a pool that keeps its connections", make: kept, maxConns: replacedConns},
	}
}

// measureReplacement measures acquires while the pool's connections are replaced, and between.
func (b *bench) measureReplacement(ctx context.Context) error {
	life, rotations := 30*time.Second, 3
	if b.quick {
		life, rotations = 15*time.Second, 1
	}
	length := time.Duration(rotations)*life*4/5 + life/2
	s := section{
		Title: "An acquire while connections are replaced",
		Text: fmt.Sprintf("%d goroutines on %d open connections for %s: acquire, `select 1`, release, a pause of %s. "+
			"Tokens live %s, and a login takes %s more than here. "+
			"“Within” are the acquires within a second of a login; “between” the others. The "+
			"control keeps its connections, while others log in to the same server, on the same processors, when the first "+
			"of aadpool's pools did.", replacedWorkers, replacedConns, length, workerPause, life, slowDial),
		Table: [][]string{{"", "logins", "acquires within", "between", "p99.9 within, ms", "p99.9 between, ms", "ratio",
			"that took a tenth of a login"}},
	}
	pools := replacedPools(life)
	control := pools[len(pools)-1]
	for _, p := range pools {
		if err := p.use(ctx, b, life, length); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.ours && control.beside == nil {
			control.beside = p.logins[replacedConns:]
		}
	}
	for _, p := range pools {
		within, between := p.split()
		paid := 0
		for _, took := range within {
			if took >= slowDial.Seconds()*1e3/10 {
				paid++
			}
		}
		s.Table = append(s.Table, []string{p.name, fmt.Sprint(len(p.logins)), fmt.Sprint(len(within)),
			fmt.Sprint(len(between)),
			fmt.Sprintf("%.3f", quantile(within, 0.999)), fmt.Sprintf("%.3f", quantile(between, 0.999)),
			fmt.Sprintf("%.2f", p.ratio()), fmt.Sprint(paid)})
		if p.ours {
			b.report.verdicts = append(b.report.verdicts, verdict{p.name +
				": p99.9 of an acquire while connections are replaced: at most 1.2 of that between",
				fmt.Sprintf("%.2f (control %.2f)", p.ratio(), control.ratio()), p.ratio() <= 1.2})
		}
	}
	b.add(s)
	return nil
}

// ratio is that of p99.9 within a second of a login to p99.9 between.
func (p *replacedPool) ratio() float64 {
	within, between := p.split()
	return quantile(within, 0.999) / quantile(between, 0.999)
}

func (p *replacedPool) use(ctx context.Context, b *bench, life, length time.Duration) error {
	c, err := newCloud(b.db.postgres, life)
	if err != nil {
		return err
	}
	defer c.close()
	config, err := pgxpool.ParseConfig(c.server.DSN(role))
	if err != nil {
		return err
	}
	config.MaxConns = p.maxConns
	start := time.Now()
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		p.mu.Lock()
		p.logins = append(p.logins, time.Since(start))
		p.mu.Unlock()
		select {
		case <-time.After(slowDial):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return dialer.DialContext(ctx, network, address)
	}
	pool, err := p.make(ctx, config, c)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := acquireAll(ctx, pool, replacedConns); err != nil {
		return err
	}
	var working sync.WaitGroup
	errs := make([]error, replacedWorkers+len(p.beside))
	for i := range replacedWorkers {
		working.Go(func() { errs[i] = p.work(ctx, pool, start, length) })
	}
	for i, at := range p.beside {
		time.Sleep(at - time.Since(start))
		working.Go(func() { errs[replacedWorkers+i] = logInBeside(ctx, pool.Config().ConnConfig, c) })
	}
	working.Wait()
	return errors.Join(errs...)
}

// logInBeside opens and closes a connection that is none of the pool's.
func logInBeside(ctx context.Context, config *pgx.ConnConfig, c *cloud) (err error) {
	if config.Password, err = c.authority.Issue(role); err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (p *replacedPool) work(ctx context.Context, pool *pgxpool.Pool, start time.Time, length time.Duration) error {
	var mine []acquired
	for time.Since(start) < length {
		began := time.Now()
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		mine = append(mine, acquired{began.Sub(start), time.Since(began)})
		_, err = conn.Exec(ctx, "select 1")
		conn.Release()
		if err != nil {
			return err
		}
		time.Sleep(workerPause)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acquires = append(p.acquires, mine...)
	return nil
}

// split returns how many milliseconds the acquires took that were within a second of a login, and the others. Those of
// the start, when the pool opened its connections, are left out.
func (p *replacedPool) split() (within, between []float64) {
	slices.Sort(p.logins)
	filled := p.logins[min(replacedConns, len(p.logins))-1] + 2*time.Second
	for _, a := range p.acquires {
		if a.at < filled {
			continue
		}
		i, _ := slices.BinarySearch(p.logins, a.at-time.Second)
		took := a.took.Seconds() * 1e3
		if i < len(p.logins) && p.logins[i] < a.at+a.took+time.Second {
			within = append(within, took)
		} else {
			between = append(between, took)
		}
	}
	return within, between
}
