//go:build unix

package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How often the proxy is told to end under a load of writes, and how many clients write.
const (
	drains  = 20
	writers = 16
)

// A write is what a client does with rows of its own, which all come into the table or none. It returns the rows that
// the server has acknowledged although there is an error.
type write func(ctx context.Context, conn *pgx.Conn, table string, ids []int) (acknowledged []int, err error)

// writes are the ways in which clients write.
var writes = []write{
	insertSimply, insertPrepared, insertInATransaction, insertInABatch, insertInAPipeline, insertByCopy, insertByCopyText,
	insertSlowly,
}

// rowsOfAWrite is how many rows a write has.
const rowsOfAWrite = 3

func insertSimply(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	sql := "insert into " + table + " select unnest($1::int[]) from pg_sleep(0.002)"
	_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol, ids)
	return nil, err
}

func insertPrepared(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	_, err := conn.Exec(ctx, "insert into "+table+" select unnest($1::int[]) from pg_sleep(0.001)", ids)
	return nil, err
}

// insertSlowly is always cancelled.
func insertSlowly(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	_, err := conn.Exec(ctx, "insert into "+table+" select unnest($1::int[]) from pg_sleep(5)", ids)
	return nil, err
}

func insertInATransaction(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	return nil, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(ctx, "insert into "+table+" values ($1)", id); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertInABatch has a begin and a commit of its own: the commit is executed before the batch ends.
func insertInABatch(ctx context.Context, conn *pgx.Conn, table string, ids []int) (acknowledged []int, err error) {
	var batch pgx.Batch
	batch.Queue("begin")
	for _, id := range ids {
		batch.Queue("insert into "+table+" values ($1)", id)
	}
	batch.Queue("commit").Exec(func(pgconn.CommandTag) error { acknowledged = ids; return nil })
	for range 200 { // more than one piece
		batch.Queue("select repeat($1, 3)", strings.Repeat("y", 500))
	}
	err = conn.SendBatch(ctx, &batch).Close()
	return acknowledged, err
}

// insertInAPipeline has each row acknowledged by itself.
func insertInAPipeline(ctx context.Context, conn *pgx.Conn, table string, ids []int) (acknowledged []int, err error) {
	pipeline := conn.PgConn().StartPipeline(ctx)
	for _, id := range ids {
		sql := fmt.Sprintf("insert into %s select %d from pg_sleep(0.001)", table, id)
		pipeline.SendQueryParams(sql, nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return nil, errors.Join(err, pipeline.Close())
		}
	}
	for _, id := range ids {
		if err := nextOf(pipeline); err != nil {
			return acknowledged, errors.Join(err, pipeline.Close())
		}
		acknowledged = append(acknowledged, id)
	}
	return acknowledged, pipeline.Close()
}

// nextOf reads a statement's answer, and what ends it.
func nextOf(pipeline *pgconn.Pipeline) error {
	for {
		switch result, err := pipeline.GetResults(); r := result.(type) {
		case *pgconn.ResultReader:
			if _, err := r.Close(); err != nil {
				return err
			}
		case *pgconn.PipelineSync:
			return nil
		case nil:
			return errors.Join(err, errors.New("no more"))
		}
	}
}

func insertByCopy(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	rows := pgx.CopyFromSlice(len(ids), func(i int) ([]any, error) { return []any{ids[i]}, nil })
	_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id"}, rows)
	return nil, err
}

func insertByCopyText(ctx context.Context, conn *pgx.Conn, table string, ids []int) ([]int, error) {
	text := strings.ReplaceAll(strings.Trim(fmt.Sprint(ids), "[]"), " ", "\n") + "\n"
	_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(text), "copy "+table+" from stdin")
	return nil, err
}

// outcomes are what clients have heard of their rows.
type outcomes struct {
	mu   sync.Mutex
	rows map[int]string // by id: "" for an acknowledgement, an SQLSTATE, or another error's text
}

// clientWrites writes until it cannot.
func (h *outcomes) clientWrites(ctx context.Context, conn *pgx.Conn, write write, table string, first int) {
	for id := first; ; id += rowsOfAWrite {
		ids := []int{id, id + 1, id + 2}
		acknowledged, err := write(ctx, conn, table, ids)
		h.note(ids, acknowledged, err)
		if err != nil && conn.IsClosed() {
			return
		}
	}
}

func (h *outcomes) note(ids, acknowledged []int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	word := ""
	if err != nil {
		word = "another error: " + err.Error()
		if strings.Contains(err.Error(), "conn closed") { // pgx has met the last word when it had something else to say
			word = "closed"
		}
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			word = refused.Code
		}
	}
	for _, id := range ids {
		h.rows[id] = word
	}
	for _, id := range acknowledged {
		h.rows[id] = ""
	}
}

// A client whose write is told as ended may write it again: what it wrote must not be in the table. Where that cannot
// be known it must be told so.
func TestDrainTellsTheTruthAboutWrites(t *testing.T) {
	a := newAzure(t)
	superuser := connectTo(t, a.Postgres.DSN())
	require.NoError(t, a.EnsureRole(t.Context(), "orders-api"))
	counts := map[string]int{}
	drains := drains
	if testing.Short() {
		drains = 3 // one for each time to drain
	}
	for n := range drains {
		table := fmt.Sprintf("drained_%d", n)
		for _, sql := range []string{"drop table if exists " + table, "create table " + table + " (id int)",
			`grant all on ` + table + ` to "orders-api"`} {
			_, err := superuser.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		heard := drainUnderWrites(t, a, table, time.Duration(n%3)*20*time.Millisecond)
		compare(t, heard, table, ask[[]int](t, superuser, "select coalesce(array_agg(id), '{}') from "+table))
		for _, word := range heard {
			counts[word]++
		}
	}
	t.Logf("rows by what was told of them: %v", counts)
	assert.Positive(t, counts["57P01"])
	assert.Positive(t, counts["57014"], "statements that were cancelled")
	assert.Zero(t, counts["08007"], "the server has answered")
}

// drainUnderWrites ends a proxy while clients write, and returns what they were told of each row.
func drainUnderWrites(t *testing.T, a azure, table string, drain time.Duration) map[int]string {
	config := a.config(t, a.credential(t))
	config.Drain, config.limits = drain, patient
	p, stop := startProxy(t, config)
	heard := &outcomes{rows: map[int]string{}}
	var clients sync.WaitGroup
	for n := range writers {
		conn := connectTo(t, p.socketDSN())
		clients.Go(func() { heard.clientWrites(t.Context(), conn, writes[n%len(writes)], table, 1_000_000*(n+1)) })
	}
	time.Sleep(time.Duration(30+rand.IntN(40)) * time.Millisecond) // any moment will do
	stop()
	clients.Wait()
	return heard.rows
}

// compare fails the test if what clients heard is not what is in the table.
func compare(t *testing.T, heard map[int]string, table string, ids []int) {
	there := map[int]bool{}
	for _, id := range ids {
		there[id] = true
	}
	wrong := map[string]int{}
	for id, word := range maps.All(heard) {
		switch {
		case word == "" && !there[id]:
			wrong["acknowledged, and not there"]++
		case (word == "57P01" || word == "57014" || word == "closed") && there[id]:
			wrong[word+", and there"]++
		case strings.HasPrefix(word, "another error"):
			wrong[word]++
		}
	}
	assert.Empty(t, wrong, table)
}

// A server that hangs may have committed what it does not answer any more.
func TestDrainWhileTheServerHangs(t *testing.T) {
	a := newAzure(t)
	superuser := connectTo(t, a.Postgres.DSN())
	_, err := superuser.Exec(t.Context(), `drop table if exists hung; create table hung (id int)`)
	require.NoError(t, err)
	require.NoError(t, a.EnsureRole(t.Context(), "orders-api"))
	_, err = superuser.Exec(t.Context(), `grant all on hung to "orders-api"`)
	require.NoError(t, err)
	p, stop := startProxy(t, a.config(t, a.credential(t)))
	conn := connectTo(t, p.socketDSN())
	hang, goOn := backendOf(t, conn)
	hang()
	var writing sync.WaitGroup
	writing.Go(func() {
		_, err = conn.Exec(context.Background(), "insert into hung values (1)", pgx.QueryExecModeSimpleProtocol)
	})
	eventually(t, "the statement is on its way", func() bool { return p.metrics.toServer.Load() > 0 })
	stop()
	goOn()
	writing.Wait()
	assert.Equal(t, "08007", refusedBy(t, err).Code)
	eventually(t, "the server has committed it", func() bool {
		return ask[int](t, superuser, "select count(*) from hung") == 1
	})
}

// backendOf returns functions that stop the server's process of a session, and have it go on.
func backendOf(t *testing.T, conn *pgx.Conn) (hang, goOn func()) {
	process, err := os.FindProcess(int(conn.PgConn().PID()))
	require.NoError(t, err)
	goOn = func() { _ = process.Signal(syscall.SIGCONT) }
	t.Cleanup(goOn)
	return func() { require.NoError(t, process.Signal(syscall.SIGSTOP)) }, goOn
}
