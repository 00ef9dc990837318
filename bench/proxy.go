package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A way is how pgbench reaches the server. It runs in the environment that its way sets for it.
type way struct {
	name        string
	environment []string
	process     int // what is between
	rates       []float64
	cpu         []float64 // of the process, µs per transaction
}

const (
	wayDirect    = "direct, TLS"
	wayProxy     = "aadpool proxy"
	wayPgBouncer = "PgBouncer, session mode"
	wayRelay     = "bare relay of TCP"
)

// measureProxy measures aadpool proxy as pgbench sees it, beside what stands in its place: nothing, PgBouncer, and a relay
// that copies the bytes of a TLS connection without looking at them.
func (b *bench) measureProxy(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "aadpool-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pgbench, err := findPgbench()
	if err != nil {
		return err
	}
	ways, stop, err := b.openWays(ctx, dir)
	defer stop()
	if err != nil {
		return err
	}
	run := pgbenchRun{program: pgbench, rounds: 8, share: 1}
	if b.quick {
		run.rounds, run.share = 3, 5
	}
	if err := run.prepare(ctx, ways[0]); err != nil {
		return err
	}
	if err := b.proxyRates(ctx, run, ways); err != nil {
		return err
	}
	if err := b.proxyConnects(ctx, run, ways); err != nil {
		return err
	}
	return nil
}

// findPgbench looks on PATH and where Debian puts PostgreSQL's programs.
func findPgbench() (string, error) {
	if path, err := exec.LookPath("pgbench"); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if len(found) == 0 {
		return "", errors.New("pgbench is missing: install postgresql-contrib, or whatever package has it here")
	}
	return found[len(found)-1], nil
}

// pgbenchRun is pgbench: https://www.postgresql.org/docs/current/pgbench.html
type pgbenchRun struct {
	program string
	rounds  int
	share   int // one of so many of the transactions
}

func (r pgbenchRun) prepare(ctx context.Context, w *way) error {
	_, err := r.run(ctx, w, "-i", "-q", "-s", "10")
	return err
}

func (r pgbenchRun) run(ctx context.Context, w *way, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.program, args...)
	cmd.Env = append(os.Environ(), w.environment...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: pgbench: %w: %s", w.name, err, lastLine(stderr.String()))
	}
	return out.String(), nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

var tps = regexp.MustCompile(`tps = ([\d.]+)`)

// rate is how many transactions there are in a second: of a number of transactions, and not in a number of seconds, since
// pgbench counts the time to connect to those.
func (r pgbenchRun) rate(ctx context.Context, w *way, clients, transactions int, args ...string) (float64, error) {
	each := strconv.Itoa(max(transactions/r.share/clients, 1))
	out, err := r.run(ctx, w, append([]string{"-n", "-S", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-t", each}, args...)...)
	if err != nil {
		return 0, err
	}
	found := tps.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("%s: pgbench tells no rate: %s", w.name, out)
	}
	return strconv.ParseFloat(found[1], 64)
}

// takeTurns runs pgbench the ways one after the other, a number of rounds, beginning with another one each time.
func (r pgbenchRun) takeTurns(ctx context.Context, ways []*way, clients, transactions int, args ...string) error {
	for _, w := range ways {
		w.rates, w.cpu = nil, nil
	}
	for i := range r.rounds {
		for j := range ways {
			w := ways[(i+j)%len(ways)]
			before := processorTime(w.process)
			rate, err := r.rate(ctx, w, clients, transactions, args...)
			if err != nil {
				return err
			}
			w.rates = append(w.rates, rate)
			w.cpu = append(w.cpu, (processorTime(w.process)-before)*1e6/float64(transactions/r.share))
		}
	}
	return nil
}

func (b *bench) proxyRates(ctx context.Context, run pgbenchRun, ways []*way) error {
	s := section{
		title: "aadpool proxy",
		text: fmt.Sprintf("`pgbench -S -M prepared`, %d rounds in turns; the median, and the ratios to PgBouncer's and to the direct connection's, round by round: "+
			"the median and the middle half. pgbench, what is between and the server share the machine's processors.", run.rounds),
		table: [][]string{{"clients", "", "per second", "to PgBouncer", "to direct", "CPU between, µs per transaction"}},
	}
	direct, bouncer, proxy := wayOf(ways, wayDirect), wayOf(ways, wayPgBouncer), wayOf(ways, wayProxy)
	for _, load := range []struct{ clients, transactions int }{{1, 15_000}, {16, 50_000}, {64, 50_000}} {
		if err := run.takeTurns(ctx, ways, load.clients, load.transactions); err != nil {
			return err
		}
		for _, w := range ways {
			row := []string{strconv.Itoa(load.clients), w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median)}
			s.table = append(s.table, append(row, w.ratioTo(bouncer), w.ratioTo(direct), w.cpuText()))
		}
		if bouncer != nil {
			ratio := spreadOf(ratios(proxy.rates, bouncer.rates)).median
			b.promise(fmt.Sprintf("proxy: rate to PgBouncer's, %d clients: at least 1", load.clients), ratio, 1)
		}
		if load.clients == 16 {
			b.promise("proxy: rate to the direct connection's, 16 clients: at least 0.8", spreadOf(ratios(proxy.rates, direct.rates)).median, 0.8)
		}
	}
	b.add(s)
	return nil
}

func (b *bench) promise(text string, ratio, least float64) {
	b.report.verdicts = append(b.report.verdicts, verdict{text, fmt.Sprintf("%.2f", ratio), ratio >= least})
}

// cpuText is empty where there is no process, or the system does not tell of one.
func (w *way) cpuText() string {
	if spent := spreadOf(w.cpu).median; spent > 0 {
		return fmt.Sprintf("%.0f", spent)
	}
	return "–"
}

// processorTime is the seconds that a process has had, in user and in system mode, as Linux tells, or else 0:
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func processorTime(pid int) float64 {
	const ticks = 100 // a second: USER_HZ
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks
}

// ratioTo is the way's rate to another's.
func (w *way) ratioTo(other *way) string {
	if other == nil {
		return "–"
	}
	return ratioText(spreadOf(ratios(w.rates, other.rates)))
}

func (b *bench) proxyConnects(ctx context.Context, run pgbenchRun, ways []*way) error {
	s := section{
		title: "aadpool proxy: connects",
		text:  "`pgbench -S -C`, one client: a connection for each query. PgBouncer has connections to the server at hand, and asks for no password.",
		table: [][]string{{"", "per second", "to direct"}},
	}
	if err := run.takeTurns(ctx, ways, 1, 300, "-C"); err != nil {
		return err
	}
	direct := wayOf(ways, wayDirect)
	for _, w := range ways {
		s.table = append(s.table, []string{w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median), w.ratioTo(direct)})
	}
	b.promise("proxy: connects to the direct connection's: at least 0.9", spreadOf(ratios(wayOf(ways, wayProxy).rates, direct.rates)).median, 0.9)
	b.add(s)
	return nil
}

func wayOf(ways []*way, name string) *way {
	for _, w := range ways {
		if w.name == name {
			return w
		}
	}
	return nil
}

// openWays starts what stands between pgbench and the server. stop is never nil.
func (b *bench) openWays(ctx context.Context, dir string) (ways []*way, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	server, err := pgx.ParseConfig(b.db.dsn)
	if err != nil {
		return nil, stop, err
	}
	direct := &way{name: wayDirect, environment: []string{
		"PGHOST=" + server.Host, fmt.Sprint("PGPORT=", server.Port), "PGUSER=" + role, "PGDATABASE=postgres", "PGPASSWORD=" + b.db.token.Token,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + b.db.rootCertificate(),
	}}
	ways = append(ways, direct)
	for _, open := range []func(context.Context, string, *pgx.ConnConfig) (*way, func(), error){b.openProxy, b.openPgBouncer, b.openRelay} {
		w, stopThis, err := open(ctx, dir, server)
		if stopThis != nil {
			stops = append(stops, stopThis)
		}
		if err != nil {
			return nil, stop, err
		}
		if w != nil {
			ways = append(ways, w)
		}
	}
	return ways, stop, nil
}

// settleTime is how long a program gets to begin to listen.
const settleTime = 20 * time.Second

// await waits until something listens on a socket.
func await(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s: %w", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
