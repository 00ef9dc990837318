package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/examples/internal/latency"
)

const (
	// queryWork is how long each query keeps the server, without using its processor. With meanPause, the mean of how
	// long a worker rests after it, two thirds of the connections are busy at any time, and all of them now and then: so
	// each is due for retirement when its own time comes, as in a service that needs its pool.
	queryWork = 10 * time.Millisecond
	meanPause = 5 * time.Millisecond

	// writeEvery makes one query in five a write.
	writeEvery = 5

	// queryTimeout is far more than a query takes; one that hangs shall count as failed.
	queryTimeout = 10 * time.Second

	// grace is how long queries that are on their way may take when the load ends.
	grace = 2 * time.Second
)

// fromWork makes a query last for queryWork.
var fromWork = fmt.Sprintf(" from pg_sleep(%g)", queryWork.Seconds())

// load is a number of workers that read and write through a pool, steadily.
type load struct {
	pool  *pgxpool.Pool
	table string
	// excuses reports whether a query that began at start may have failed with err.
	excuses func(err error, start time.Time) bool

	mu         sync.Mutex // guards what follows
	latencies  latency.Recorder
	failed     int64
	firstError error
	refused    int64         // failed, with an excuse
	slowest    time.Duration // of those
	succeeded  time.Time     // when a query last did
	written    []int64       // the rows whose transaction was committed
}

// tally is what a load has done so far.
type tally struct {
	queries, failed, writes int64
	firstError              error
	refused                 int64
	slowestRefusal          time.Duration
	p50, p99, max           time.Duration
}

// run lets the workers work until ctx ends, and returns when all their queries have.
func (l *load) run(ctx context.Context, workers int) {
	queries, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	var working sync.WaitGroup
	for n := range workers {
		working.Go(func() { l.work(ctx, queries, int64(n)) })
	}
	working.Wait()
}

// work is one worker: until ctx ends it makes one query after the other, each in the context queries.
func (l *load) work(ctx, queries context.Context, worker int64) {
	var last int64 // the row written last, to be read back
	for n := int64(1); ctx.Err() == nil; n++ {
		row := worker<<32 | n
		write := n%writeEvery == 0
		start := time.Now()
		err := l.query(queries, write, row, last)
		l.record(err, start, write, row)
		if write && err == nil {
			last = row
		}
		wait(ctx, meanPause/2+rand.N(meanPause))
	}
}

// query writes a row in a transaction, or reads back the one written last.
func (l *load) query(ctx context.Context, write bool, row, last int64) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if write {
		return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into "+l.table+" select $1"+fromWork, row)
			return err
		})
	}
	var found bool
	if err := l.pool.QueryRow(ctx, "select exists (select from "+l.table+" where id = $1)"+fromWork,
		last).Scan(&found); err != nil {
		return err
	}
	if !found && last != 0 {
		return fmt.Errorf("row %d was committed and is not there", last)
	}
	return nil
}

func (l *load) record(err error, start time.Time, write bool, row int64) {
	took := time.Since(start)
	excused := err != nil && l.excuses(err, start)
	l.mu.Lock()
	defer l.mu.Unlock()
	if excused {
		l.refused++
		l.slowest = max(l.slowest, took)
		return
	}
	l.latencies.Add(took)
	if err == nil {
		l.succeeded = time.Now()
	}
	switch {
	case err != nil:
		l.failed++
		if l.firstError == nil {
			l.firstError = err
		}
	case write:
		l.written = append(l.written, row)
	}
}

// lastSuccess is when a query last succeeded.
func (l *load) lastSuccess() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.succeeded
}

// endSecond returns the tally so far, with the latencies of the time since the call before.
func (l *load) endSecond() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.EndSecond())
}

// end returns the tally with the latencies of the whole load.
func (l *load) end() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.All())
}

// tally is called with l.mu held.
func (l *load) tally(latencies *latency.Histogram) tally {
	return tally{
		queries:    l.latencies.All().Count(),
		failed:     l.failed,
		writes:     int64(len(l.written)),
		firstError: l.firstError,
		refused:    l.refused, slowestRefusal: l.slowest,
		p50: latencies.Percentile(50),
		p99: latencies.Percentile(99),
		max: latencies.Max(),
	}
}

// createTable makes the table that the load writes to. dsn is a superuser's: in PostgreSQL 15 and later a role may
// create nothing in a database that is not its own.
func createTable(ctx context.Context, dsn string) (table string, err error) {
	table = fmt.Sprintf("aadpool_demo_%d", time.Now().UnixNano())
	return table, asSuperuser(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create table "+table+" (id bigint primary key); grant select, insert on "+table+" to "+
			pgx.Identifier{role}.Sanitize())
		return err
	})
}

// countAndDrop returns how many of the rows are in the table, and drops it. It asks past the pool, so that what the
// pool says is not believed.
func countAndDrop(ctx context.Context, dsn, table string, rows []int64) (found int64, err error) {
	return found, asSuperuser(ctx, dsn, func(conn *pgx.Conn) error {
		query := "select count(*) from " + table + " where id = any ($1)"
		countErr := conn.QueryRow(ctx, query, rows).Scan(&found)
		_, dropErr := conn.Exec(ctx, "drop table "+table)
		return errors.Join(countErr, dropErr)
	})
}

// asSuperuser calls do with a connection to the database that the pool is connected to.
func asSuperuser(ctx context.Context, dsn string, do func(*pgx.Conn) error) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}
