package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	resultRows  = 1 << 20
	resultWidth = 1 << 10 // bytes of each row
)

// measureProxyResult reads one result of a gigabyte each way.
func (b *bench) measureProxyResult(ctx context.Context) error {
	e, rows := effort{sets: 3, rounds: 1}, resultRows
	if b.quick {
		e.sets, rows = 1, resultRows/16
	}
	return b.atProxy(ctx, func(dir string, _ pgbenchRun) error {
		megabytes := float64(rows) * resultWidth / 1e6
		ws, err := b.contestWays(ctx, dir, b.relays(dir), e, func(w *way) error {
			before := processorTime(w.process)
			took, err := w.readResult(ctx, rows)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.rates = append(w.rates, megabytes/took.Seconds())
			w.cpu = append(w.cpu, (processorTime(w.process)-before)*1e3/megabytes)
			return nil
		})
		if err == nil {
			b.reportProxyResult(ws, e, rows)
		}
		return err
	})
}

func (b *bench) reportProxyResult(ws ways, e effort, rows int) {
	s := section{
		Title: "aadpool proxy: a result of 1 GB",
		Text: fmt.Sprintf("One query whose result has %d rows of %d bytes, %d times in turns, with all programs started "+
			"anew for each. Memory is the most that the process has had.", rows, resultWidth, e.sets),
		Table: [][]string{{"", "MB per second", "to PgBouncer", "to direct", "to aadpool proxy", "CPU between, ms per MB",
			"memory between, MB"}},
	}
	for _, w := range ws {
		s.Table = append(s.Table, []string{w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median),
			w.ratioTo(ws.of(wayPgBouncer)), w.ratioTo(ws.of(wayDirect)), w.ratioTo(ws.of(wayProxy)),
			spentText(w.cpu, "%.2f"), spentText(w.memory, "%.0f")})
	}
	b.add(s)
}

func (w *way) readResult(ctx context.Context, rows int) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, w.dsn())
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	start := time.Now()
	result := conn.PgConn().ExecParams(ctx, fmt.Sprintf("select repeat('x', %d) from generate_series(1, %d)", resultWidth,
		rows), nil, nil, nil, nil)
	got := 0
	for result.NextRow() {
		got++
	}
	if _, err := result.Close(); err != nil {
		return 0, err
	}
	if got != rows {
		return 0, fmt.Errorf("%d rows of %d", got, rows)
	}
	return time.Since(start), nil
}

// dsn says what the environment says: https://www.postgresql.org/docs/current/libpq-envars.html
func (w *way) dsn() string {
	keywords := strings.NewReplacer("PGHOST=", "host=", "PGPORT=", "port=", "PGUSER=", "user=", "PGDATABASE=", "dbname=",
		"PGPASSWORD=", "password=", "PGSSLMODE=", "sslmode=", "PGSSLROOTCERT=", "sslrootcert=")
	return keywords.Replace(strings.Join(w.environment, " "))
}

// peakMemory is the most that a process has had in memory, in MB, as Linux tells, or else 0:
// https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
func peakMemory(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	var kilobytes float64
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	_, _ = fmt.Sscan(after, &kilobytes)
	return kilobytes / 1e3
}
