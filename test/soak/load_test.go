package soak_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// startLoad starts the workers, who work until ctx ends.
func (s *soak) startLoad(ctx context.Context, load *sync.WaitGroup) {
	worker := 0
	start := func(n int, work func(*soakWorker, context.Context)) {
		for range n {
			w := &soakWorker{soak: s, ledger: s.ledger.worker(worker), rand: rand.New(rand.NewPCG(s.seed, uint64(100+worker)))}
			worker++
			load.Go(func() {
				for ctx.Err() == nil {
					work(w, ctx)
				}
			})
		}
	}
	start(6, (*soakWorker).writeAndReadBack)
	start(3, (*soakWorker).readSlowly)
	start(2, (*soakWorker).transact)
	start(3, (*soakWorker).listen)
	start(2, (*soakWorker).giveUp)
	start(1, (*soakWorker).reset)
}

// soakWorker is one goroutine of the load.
type soakWorker struct {
	*soak
	ledger *workersLedger
	rand   *rand.Rand
	last   int64 // the row written last
}

// pausedWords are in the errors of a pause after refusals.
const pausedWords = "times in a row (next try in "

// pause lets between zero and twice the mean pass.
func (w *soakWorker) pause(ctx context.Context, mean time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(upTo(w.rand, 2*mean)):
	}
}

// do acquires a connection, does something with it, and reports false if that failed. If a fault does not explain why,
// it is a violation. The operation gives up when its timeout ends, which is its own affair where that is less than
// patience.
func (w *soakWorker) do(timeout time.Duration, use func(context.Context, *pgxpool.Conn) error) bool {
	start := time.Now()
	// Not the load's own context: an operation that is under way when the load ends comes to its end.
	ctx, cancel := context.WithTimeout(w.t.Context(), timeout)
	defer cancel()
	conn, err := w.pool.Acquire(ctx)
	var born time.Time
	if err == nil {
		w.checkHandedOut(conn.Conn(), start)
		born = bornAt(conn.Conn())
		err = use(ctx, conn)
		conn.Release()
	}
	w.judge(span{start, time.Now()}, born, err, timeout)
	return err == nil
}

// judge decides whether a fault explains how an operation ended. born is when its connection was made, and zero if it
// got none.
func (w *soakWorker) judge(when span, born time.Time, err error, timeout time.Duration) {
	w.ops.Add(1)
	took := when.to.Sub(when.from)
	if raise(&w.slowest, int64(took)); took >= patience {
		w.violation("an operation hung for %s: %v", took, err)
	}
	refused := when
	if err != nil && strings.Contains(err.Error(), pausedWords) { // of a server that refused before the pause
		refused.from = refused.from.Add(-azuretest.LongestBackoff)
	}
	explained := w.windows.explainAcquire(refused) || w.tokens.explain(when)
	if !explained {
		w.calm.Add(1)
	}
	if !born.IsZero() {
		explained = w.windows.explainQuery(born, when.to)
	}
	switch {
	case err == nil:
	case azuretest.AnyJWT.MatchString(fmt.Sprintf("%v\n%+v", err, err)):
		w.violation("a token is in an error")
	case timeout < patience && errors.Is(err, context.DeadlineExceeded):
		w.cancelled.Add(1)
	case explained:
		w.failed.Add(1)
	case born.IsZero():
		w.violation("an acquire failed after %s, though logins and tokens were good: %v", took, err)
	default:
		w.violation("a query failed on a connection %s old, though it was not cut: %v", when.to.Sub(born), err)
	}
}

// raise makes v n, if that is more.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// writeAndReadBack writes a row in a transaction, which it commits or rolls back, and reads the one committed last.
func (w *soakWorker) writeAndReadBack(ctx context.Context) {
	id, commit := w.ledger.next()
	errUndo := errors.New("undo")
	var err error
	w.do(patience, func(ctx context.Context, conn *pgxpool.Conn) error {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "insert into "+w.soak.ledger.table+" values ($1)", id); err != nil || commit {
				return err
			}
			return errUndo
		})
		if err == errUndo {
			return nil
		}
		if err == nil {
			w.ledger.acknowledge(id)
			w.last = id
		}
		return err
	})
	w.pause(ctx, 10*time.Millisecond)
	w.do(patience, func(ctx context.Context, conn *pgxpool.Conn) error {
		var found bool
		if err := conn.QueryRow(ctx, "select exists (select from "+w.soak.ledger.table+" where id = $1)",
			w.last).Scan(&found); err != nil {
			return err
		}
		if !found && w.last != 0 {
			w.violation("row %d was acknowledged and is not there", w.last)
		}
		return nil
	})
	w.pause(ctx, 10*time.Millisecond)
}

// readSlowly keeps a connection busy for a while.
func (w *soakWorker) readSlowly(ctx context.Context) {
	w.do(patience, func(ctx context.Context, conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, "select pg_sleep($1)", w.rand.Float64()/50)
		return err
	})
	w.pause(ctx, 5*time.Millisecond)
}

// transact writes several rows, all or none, in a transaction that takes a second or so.
func (w *soakWorker) transact(ctx context.Context) {
	ids := make([]int64, 4)
	for i := range ids {
		for commit := false; !commit; {
			ids[i], commit = w.ledger.next()
		}
	}
	w.do(patience, func(opCtx context.Context, conn *pgxpool.Conn) error {
		err := pgx.BeginFunc(opCtx, conn, func(tx pgx.Tx) error {
			for _, id := range ids {
				if _, err := tx.Exec(opCtx, "insert into "+w.soak.ledger.table+" values ($1)", id); err != nil {
					return err
				}
				w.pause(ctx, 200*time.Millisecond)
			}
			return nil
		})
		if err == nil {
			w.ledger.acknowledge(ids...)
		}
		return err
	})
	w.pause(ctx, 50*time.Millisecond)
}

// listen holds a connection for a second or two, and expects on it each notification that was acknowledged on another.
func (w *soakWorker) listen(ctx context.Context) {
	channel := fmt.Sprintf("soak_%d", w.ledger.number)
	w.do(patience, func(opCtx context.Context, conn *pgxpool.Conn) error {
		if _, err := conn.Exec(opCtx, "listen "+channel); err != nil {
			return err
		}
		for n := range 2 + w.rand.IntN(8) {
			payload := fmt.Sprint(time.Now().UnixNano(), " ", n)
			sent := w.do(patience, func(ctx context.Context, other *pgxpool.Conn) error {
				_, err := other.Exec(ctx, "select pg_notify($1, $2)", channel, payload)
				return err
			})
			if sent {
				if err := await(opCtx, conn.Conn(), payload); err != nil {
					return err
				}
				w.notifications.Add(1)
			}
			w.pause(ctx, 100*time.Millisecond)
		}
		_, err := conn.Exec(opCtx, "unlisten *")
		return err
	})
	w.pause(ctx, 50*time.Millisecond)
}

// await waits for a notification. One whose sending seemed to have failed may come before it.
func await(ctx context.Context, conn *pgx.Conn, payload string) error {
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("waiting for a notification that was sent: %w", err)
		}
		if notification.Payload == payload {
			return nil
		}
	}
}

// giveUp cancels acquires and queries wherever they happen to be.
func (w *soakWorker) giveUp(ctx context.Context) {
	w.do(time.Duration(1+w.rand.IntN(60_000))*time.Microsecond, func(ctx context.Context, conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, "select pg_sleep(0.02)")
		return err
	})
	w.pause(ctx, 20*time.Millisecond)
}

// reset has the pool open new connections at all times, and not only when tokens end.
func (w *soakWorker) reset(ctx context.Context) {
	w.pause(ctx, 2*time.Second)
	w.pool.Reset()
}

// ledger is a table, and what was written to it.
type ledger struct {
	table   string
	azure   azuretest.Azure
	t       *testing.T
	workers []*workersLedger
}

// workersLedger is what one worker wrote: rows with its number in the high bits and a sequence in the low ones. It
// keeps only the rows of which it is not known whether they are there, so that it does not grow as they do.
type workersLedger struct {
	number int

	mu           sync.Mutex // guards what follows
	sequence     int64
	acknowledged int64
	open         map[int64]bool // rows to be committed that were not acknowledged
}

const rowBits = 40

// rollsBack reports whether the row is written in a transaction that is rolled back.
func rollsBack(id int64) bool { return id%5 == 0 }

func (l *ledger) create(t *testing.T, a azuretest.Azure) {
	l.t, l.azure, l.table = t, a, fmt.Sprintf("aadpool_soak_%d", time.Now().UnixNano())
	l.asSuperuser("create table " + l.table + " (id bigint primary key); grant select, insert on " + l.table + " to " +
		pgx.Identifier{a.App.Name}.Sanitize())
	t.Cleanup(func() { l.asSuperuser("drop table " + l.table) })
}

func (l *ledger) asSuperuser(sql string) {
	require.NoError(l.t, l.azure.AsSuperuser(sql))
}

func (l *ledger) worker(number int) *workersLedger {
	w := &workersLedger{number: number, open: map[int64]bool{}}
	l.workers = append(l.workers, w)
	return w
}

// next returns the next row to write, and whether to commit it.
func (w *workersLedger) next() (id int64, commit bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sequence++
	id = int64(w.number)<<rowBits | w.sequence
	if rollsBack(id) {
		return id, false
	}
	w.open[id] = true
	return id, true
}

func (w *workersLedger) acknowledge(ids ...int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.open, id)
		w.acknowledged++
	}
}

func (l *ledger) acknowledged() (n int64) {
	for _, w := range l.workers {
		w.mu.Lock()
		n += w.acknowledged
		w.mu.Unlock()
	}
	return n
}

// checkLedger compares what was acknowledged with what is in the table, as the server itself tells.
func (s *soak) checkLedger() {
	ctx := s.t.Context()
	conn, err := s.Azure.ConnectAsSuperuser(ctx)
	require.NoError(s.t, err)
	defer conn.Close(ctx)
	for _, w := range s.ledger.workers {
		rows, err := conn.Query(ctx, "select id from "+s.ledger.table+" where id >> $1 = $2", rowBits, w.number)
		require.NoError(s.t, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(s.t, err)
		found := make(map[int64]bool, len(ids))
		for _, id := range ids {
			found[id] = true
		}
		for n := int64(1); n <= w.sequence; n++ {
			id := int64(w.number)<<rowBits | n
			switch {
			case rollsBack(id) && found[id]:
				s.violation("row %d was rolled back, and is there", id)
			case !rollsBack(id) && !w.open[id] && !found[id]:
				s.violation("row %d was acknowledged, and is not there", id)
			}
			delete(found, id)
		}
		assert.Empty(s.t, found, "rows that nobody wrote")
	}
}
