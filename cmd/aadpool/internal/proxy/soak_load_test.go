package proxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// startLoad starts the workers, who work until ctx ends.
func (s *soak) startLoad(ctx context.Context, load *sync.WaitGroup) {
	number := 0
	start := func(n int, work func(*soakWorker, context.Context, *pgx.Conn) error) {
		for range n {
			w := &soakWorker{soak: s, number: int64(number), random: rand.New(rand.NewPCG(s.seed, uint64(100+number)))}
			number++
			load.Go(func() {
				for ctx.Err() == nil {
					w.session(work)
				}
			})
		}
	}
	start(4, (*soakWorker).write)
	start(4, (*soakWorker).askBack)
	start(2, (*soakWorker).copyBothWays)
	start(3, (*soakWorker).cancel)
	start(3, (*soakWorker).die)
}

// soakWorker is one goroutine of the load.
type soakWorker struct {
	*soak
	number, sequence int64
	random           *rand.Rand
}

// session connects, works a few times, and ends the session, in order or not.
func (w *soakWorker) session(work func(*soakWorker, context.Context, *pgx.Conn) error) {
	born := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, socketDSN(w.tap.dir))
	if w.judge(born, err); err != nil {
		pause(ctx, 50*time.Millisecond)
		return
	}
	defer conn.Close(ctx)
	for range 1 + w.random.IntN(8) {
		if err := work(w, ctx, conn); err != nil || conn.IsClosed() {
			w.judge(born, err)
			return
		}
		w.judge(born, nil)
		pause(ctx, time.Duration(w.random.Int64N(int64(20*time.Millisecond))))
	}
	if w.random.IntN(4) == 0 {
		w.killed.Add(1)
		_ = conn.PgConn().Conn().Close()
	}
}

var errWrongAnswer = errors.New("a wrong answer")

// judge decides whether a fault explains how an operation of a session ended, which has been there since born.
func (w *soakWorker) judge(born time.Time, err error) {
	w.ops.Add(1)
	explained := w.troubles.explain(born)
	if !explained {
		w.calm.Add(1)
	}
	switch {
	case time.Since(born) >= patience:
		w.violation("an operation hung: %v", err)
	case err == nil:
	case anyJWT.MatchString(fmt.Sprintf("%v\n%+v", err, err)):
		w.violation("a token is in an error")
	case errors.Is(err, errWrongAnswer), !explained:
		w.violation("%v", err)
	default:
		w.explained.Add(1)
	}
}

// write writes a row in a transaction, which it commits or rolls back.
func (w *soakWorker) write(ctx context.Context, conn *pgx.Conn) error {
	w.sequence++
	id := w.number<<40 | w.sequence
	commit := w.sequence%5 != 0
	if commit {
		w.ledger.begin(id)
	}
	errUndo := errors.New("undo")
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into "+w.table+" values ($1)", id); err != nil || commit {
			return err
		}
		return errUndo
	})
	if err == nil {
		w.writes.Add(1)
		w.ledger.acknowledge(id)
	}
	if errors.Is(err, errUndo) {
		return nil
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && commit {
		w.ledger.refuse(id, refused.Code)
	}
	return err
}

// askBack asks for a text of any size, and expects it.
func (w *soakWorker) askBack(ctx context.Context, conn *pgx.Conn) error {
	size := 1 << w.random.IntN(19)
	want := strings.Repeat(string(rune('a'+w.random.IntN(26))), size)
	var got string
	if err := conn.QueryRow(ctx, "select $1::text", want).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w of %d bytes to a question of %d", errWrongAnswer, len(got), size)
	}
	return nil
}

func (w *soakWorker) copyBothWays(ctx context.Context, conn *pgx.Conn) error {
	var sent, got bytes.Buffer
	for n := range 1 + w.random.IntN(5000) {
		fmt.Fprintf(&sent, "%d\t%s\n", n, strings.Repeat("y", n%50))
	}
	want := bytes.Clone(sent.Bytes())
	if _, err := conn.Exec(ctx,
		"create temp table if not exists copied (n int, filler text); truncate copied"); err != nil {
		return err
	}
	if _, err := conn.PgConn().CopyFrom(ctx, &sent, "copy copied from stdin"); err != nil {
		return err
	}
	if _, err := conn.PgConn().CopyTo(ctx, &got, "copy (select * from copied order by n) to stdout"); err != nil {
		return err
	}
	if !bytes.Equal(want, got.Bytes()) {
		return fmt.Errorf("%w: %d bytes copied, %d back", errWrongAnswer, len(want), got.Len())
	}
	return nil
}

// cancel cancels a query that would take a while, and goes on with the session.
func (w *soakWorker) cancel(ctx context.Context, conn *pgx.Conn) error {
	requested, ended := make(chan error, 1), make(chan struct{})
	pauses := 20*time.Millisecond + time.Duration(w.random.Int64N(int64(30*time.Millisecond)))
	go func() {
		for {
			pause(ctx, pauses)
			err := conn.PgConn().CancelRequest(ctx)
			select {
			case <-ended:
			case <-time.After(3 * time.Second): // the server ignores a request that comes before the query
				if err == nil {
					continue
				}
			}
			requested <- err
			return
		}
	}()
	_, err := conn.Exec(ctx, "select pg_sleep(20)")
	close(ended)
	if requestErr := <-requested; requestErr != nil {
		return requestErr
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "57014" {
		return fmt.Errorf("a query that was cancelled ended with %w", cmp.Or(err, errors.New("an answer")))
	}
	w.cancelled.Add(1)
	var one int
	return conn.QueryRow(ctx, "select 1").Scan(&one)
}

// die is killed in the middle of a question or of an answer.
func (w *soakWorker) die(ctx context.Context, conn *pgx.Conn) error {
	w.killed.Add(1)
	raw := conn.PgConn().Conn()
	go func() {
		pause(ctx, time.Duration(w.random.Int64N(int64(30*time.Millisecond))))
		_ = raw.Close()
	}()
	_, _ = conn.Exec(ctx, "select repeat('z', 1000) from generate_series(1, 20000)")
	_ = conn.Close(ctx)
	return nil
}

// ledger is what was written: rows whose commit was asked for, and whether it was acknowledged. The zero value is
// ready.
type ledger struct {
	mu      sync.Mutex
	rows    map[int64]bool
	refused map[int64]string // by their SQLSTATE
}

func (l *ledger) begin(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows == nil {
		l.rows = map[int64]bool{}
	}
	l.rows[id] = false
}

func (l *ledger) acknowledge(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows[id] = true
}

func (l *ledger) refuse(id int64, sqlState string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = map[int64]string{}
	}
	l.refused[id] = sqlState
}

// checkLedger compares what was acknowledged with what is in the table, as the server itself tells.
func (s *soak) checkLedger() {
	conn := connectTo(s.t, s.Postgres.DSN())
	rows, err := conn.Query(context.Background(), "select id from "+s.table)
	require.NoError(s.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(s.t, err)
	found := map[int64]bool{}
	for _, id := range ids {
		found[id] = true
		if _, committed := s.ledger.rows[id]; !committed {
			s.violation("row %d was rolled back, and is there", id)
		}
	}
	for id, acknowledged := range s.ledger.rows {
		if acknowledged && !found[id] {
			s.violation("row %d was acknowledged, and is not there", id)
		}
	}
	told := map[string]int{}
	for id, sqlState := range s.ledger.refused {
		told[sqlState]++
		if found[id] && sqlState == "57P01" {
			s.violation("row %d was told as ended, and is there", id)
		}
	}
	s.t.Logf("writes that did not come about, by what was told of them: %v", told)
}
