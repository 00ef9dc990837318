package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// measureHook measures what runs before each connect, alone, with a token at hand.
func (b *bench) measureHook(ctx context.Context) error {
	rounds, n := 40, 500
	if b.quick {
		rounds = 10
	}
	ls := newLanes(users)
	hooks := map[contestant]hook{}
	for _, c := range users {
		h, err := c.newHook(ctx, b.db.dsn, b.db.token.Token, b.db.cred)
		if err != nil {
			return err
		}
		hooks[c] = h
	}
	fresh, err := pgx.ParseConfig(b.db.dsn)
	if err != nil {
		return err
	}
	configs := make([]*pgx.ConnConfig, n)
	prepare := func() {
		for i := range configs {
			configs[i] = fresh.Copy()
		}
	}
	if err := ls.takeTurns(rounds, func(l *lane) error {
		prepare()
		h := hooks[l.contestant]
		start := time.Now()
		for _, config := range configs {
			if err := h(ctx, config); err != nil {
				return err
			}
		}
		l.perCall = append(l.perCall, float64(time.Since(start))/float64(n))
		return nil
	}); err != nil {
		return err
	}

	s := section{
		Title: "The hook alone",
		Text: "What runs before a connect, with the token at hand: azidentity from its own cache. Median and middle half " +
			"of the rounds.",
		Table: [][]string{{"", "ns", "allocations"}},
	}
	r := row{name: "the hook, token at hand, ns", sign: -1, noise: 0.1, cells: map[contestant]cell{}}
	for _, c := range users {
		took := spreadOf(ls.of(c).perCall)
		prepare()
		allocated := allocations(n, func(i int) { _ = hooks[c](ctx, configs[i]) })
		s.Table = append(s.Table, []string{string(c), fmt.Sprintf("%.0f (%.0f–%.0f)", took.median, took.low, took.high),
			fmt.Sprintf("%.0f", allocated)})
		r.cells[c] = cell{text: fmt.Sprintf("%.0f, %.0f allocations", took.median, allocated), figure: took.median}
	}
	s.After = "aadpool's hook also looks at the connection's TLS settings, and makes what will record the token's end " +
		"on the connection and explain a refusal. " +
		"go-pgmultiauth's reads a variable that another goroutine may be writing, which is a data race."
	b.report.headline = append(b.report.headline, r)
	b.add(s)
	return nil
}

// measureConnect measures a connect through the pool, one at a time.
func (b *bench) measureConnect(ctx context.Context) error {
	e := effort{sets: 8, rounds: 40}
	if b.quick {
		e = effort{sets: 2, rounds: 5}
	}
	ls := newLanes(all)
	connect := func(pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		return conn.Hijack().Close(ctx)
	}
	err := ls.contest(ctx, b.db, e, 1, func(l *lane) error {
		if l.pool.Stat().TotalConns() > 0 { // the one that filled the pool
			if err := connect(l.pool); err != nil {
				return err
			}
		}
		return l.calls(1, 2, connect)
	})
	if err != nil {
		return err
	}
	s := section{
		Title: "Time to connect",
		Text: "A connect and a disconnect through the pool, one at a time, with the token at hand: TCP, TLS, a process " +
			"of PostgreSQL's, a password check that costs next to nothing.",
		Table: [][]string{{"", "ms", "ratio to the floor"}},
	}
	r := row{
		name: "time to connect, ratio to the floor", sign: -1, noise: max(0.01, 2*math.Abs(1-ls.time(control).median)),
		cells: map[contestant]cell{floor: shown("1")},
	}
	for _, c := range all {
		ratio := ls.time(c)
		s.Table = append(s.Table, []string{string(c), fmt.Sprintf("%.2f", spreadOf(ls.of(c).perCall).median/1e6),
			ratioText(ratio)})
		if c != floor && c != control {
			r.cells[c] = cell{text: fmt.Sprintf("%.2f", ratio.median), figure: ratio.median}
		}
	}
	b.report.headline = append(b.report.headline, r)
	b.add(s)
	return nil
}

const (
	coldConnects = 200
	coldFetch    = 300 * time.Millisecond
)

// measureCold measures how a new pool of 200 connections comes up when all are wanted at once.
func (b *bench) measureCold(ctx context.Context) error {
	rounds := 12
	if b.quick {
		rounds = 1
	}
	ls := newLanes(all)
	requests := map[contestant][]float64{}
	dsn := fmt.Sprintf("%s&pool_max_conns=%d", b.db.dsn, coldConnects)
	if err := ls.takeTurns(rounds, func(l *lane) error {
		cred := &uncached{token: b.db.token, takes: coldFetch}
		if err := b.db.settle(ctx); err != nil {
			return err
		}
		start := time.Now()
		pool, err := l.newPool(ctx, dsn, b.db.token.Token, cred)
		if err != nil {
			return err
		}
		defer pool.Close()
		if err := acquireAll(ctx, pool, coldConnects); err != nil {
			return err
		}
		l.perCall = append(l.perCall, float64(time.Since(start)))
		requests[l.contestant] = append(requests[l.contestant], float64(cred.calls.Load()))
		return nil
	}); err != nil {
		return err
	}

	s := section{
		Title: fmt.Sprintf("%d cold connects at once", coldConnects),
		Text: fmt.Sprintf("From making the pool until %d goroutines hold a connection each. The credential takes %s for "+
			"each call and has no cache; it answers calls side by side, "+
			"which the real Azure CLI credential does not: there they queue. Median and middle half of %d rounds, the ratio "+
			"to the floor's time of the same round plus one fetch.",
			coldConnects, coldFetch, rounds),
		Table: [][]string{{"", "s", "ratio to floor + one fetch", "token requests"}},
	}
	times := row{
		name: "200 cold connects with a credential that takes 300 ms, s", sign: -1,
		noise: max(0.02, 2*math.Abs(1-ls.time(control).median)), cells: map[contestant]cell{},
	}
	asked := row{name: "… token requests for them", sign: -1, cells: map[contestant]cell{}}
	ideal := make([]float64, rounds)
	for i, t := range ls.of(floor).perCall {
		ideal[i] = t + float64(coldFetch)
	}
	for _, c := range all {
		took := spreadOf(ls.of(c).perCall)
		ratio, n := spreadOf(ratios(ls.of(c).perCall, ideal)), quantile(requests[c], 1)
		s.Table = append(s.Table, []string{string(c), fmt.Sprintf("%.2f (%.2f–%.2f)", took.median/1e9, took.low/1e9,
			took.high/1e9), ratioText(ratio), fmt.Sprintf("%.0f", n)})
		times.cells[c] = cell{text: fmt.Sprintf("%.2f", took.median/1e9), figure: took.median}
		if c != floor {
			asked.cells[c] = cell{text: fmt.Sprintf("%.0f", n), figure: n}
		}
		if c == ours {
			b.report.verdicts = append(b.report.verdicts,
				verdict{"token requests for 200 cold connects: 1", fmt.Sprintf("%.0f", n), n == 1},
				verdict{"200 cold connects: within 1.1 × (the floor's time + one fetch)", fmt.Sprintf("%.3f", ratio.median),
					ratio.median <= 1.1})
		}
	}
	b.report.headline = append(b.report.headline, times, asked)
	b.add(s)
	return nil
}

// acquireAll has n goroutines acquire a connection each and keep it until all have one.
func acquireAll(ctx context.Context, pool *pgxpool.Pool, n int) error {
	errs := make([]error, n)
	conns := make([]*pgxpool.Conn, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { conns[i], errs[i] = pool.Acquire(ctx) })
	}
	wg.Wait()
	for _, conn := range conns {
		if conn != nil {
			conn.Release()
		}
	}
	return errors.Join(errs...)
}
