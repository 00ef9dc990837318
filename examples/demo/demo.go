package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
)

// demo is a pool, the load on it, and those who watch.
type demo struct {
	settings settings
	services *localazure.Services
	hook     *aadpool.Hook
	pool     *pgxpool.Pool
	proof    proof
	load     load
	display  *liveline.Display
	outage   *outage // nil: there is none

	firstWaits int64 // connects that waited for the first token
	waits      waits
}

// newDemo makes the pool as a service would, but for the proof.
func newDemo(ctx context.Context, s settings, services *localazure.Services, display *liveline.Display) (*demo, error) {
	d := &demo{settings: s, services: services, display: display}
	cred, err := services.Credential()
	if err != nil {
		return nil, fmt.Errorf("making the credential: %w", err)
	}
	d.hook, err = aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.NewTextHandler(display,
		&slog.HandlerOptions{Level: slog.LevelWarn}))), aadpool.WithObserver(aadpool.Observer{Waited: d.waits.add}))
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(services.DSN())
	if err != nil {
		return nil, fmt.Errorf("parsing the server's DSN: %w", err)
	}
	config.MaxConns = int32(s.workers)
	d.proof.watch(config.ConnConfig)
	if err := d.hook.Configure(ctx, config); err != nil {
		return nil, err
	}
	d.firstWaits = d.hook.Stats().Waits
	if err := services.Postgres.EnsureRole(ctx, role); err != nil {
		return nil, err
	}
	table, err := createTable(ctx, services.Postgres.DSN())
	if err != nil {
		return nil, fmt.Errorf("creating the table: %w", err)
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("making the pool: %w", err)
	}
	d.load = load{pool: d.pool, table: table, excuses: func(error, time.Time) bool { return false }}
	if s.outage {
		d.outage = &outage{demo: d}
		d.load.excuses = d.outage.excuses
	}
	return d, nil
}

// run puts the load on the pool until the time is over, and the outage after it, or ctx ends. It closes the pool.
func (d *demo) run(ctx context.Context) summary {
	start := time.Now()
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		if wait(loading, d.settings.duration) && d.outage != nil {
			d.outage.tell = d.tellOutage(start)
			d.outage.run(loading)
		}
	}()
	var aside sync.WaitGroup
	aside.Go(func() { _ = d.hook.KeepFresh(loading) })
	aside.Go(func() { d.watch(loading, start) })
	d.load.run(loading, d.settings.workers)
	elapsed := time.Since(start)
	aside.Wait()
	d.display.End()

	result := d.summarize(elapsed)
	result.interrupted = ctx.Err() != nil
	d.pool.Close()
	result.found, result.countErr = countAndDrop(context.WithoutCancel(ctx), d.services.Postgres.DSN(), d.load.table,
		d.load.written)
	return result
}

// summarize collects what everyone has counted.
func (d *demo) summarize(elapsed time.Duration) summary {
	stats := d.hook.Stats()
	s := summary{
		elapsed:          elapsed,
		steady:           min(elapsed, d.settings.duration),
		tokenLife:        d.settings.tokenLife,
		tally:            d.load.end(),
		logins:           countLogins(d.services.Server.Logins()),
		tokensFetched:    stats.Fetches - stats.FailedFetches,
		fetchesFailed:    stats.FailedFetches,
		waited:           stats.Waits - d.firstWaits,
		statements:       d.proof.statements.Load(),
		late:             d.proof.late.Load(),
		retired:          stats.RetiredConns,
		closedAtLifetime: d.pool.Stat().MaxLifetimeDestroyCount(),
	}
	if o := d.outage; o != nil {
		s.outage = &outageResult{times: o.snapshot(), probeErr: o.probeErr, probeTook: o.probeTook,
			answered: o.answered.Load(), sessionErr: o.sessionErr}
		if !s.outage.times.down.IsZero() {
			s.waitedInOutage = s.waited - o.waited
			s.waited = o.waited
			s.longestWait = d.waits.longestSince(s.outage.times.down)
		}
	}
	return s
}
