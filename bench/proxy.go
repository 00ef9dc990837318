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

// measureProxy measures aadpool proxy as pgbench sees it, beside what stands in its place: nothing, PgBouncer, and a
// relay that copies the bytes of a TLS connection without looking at them.
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
	run := pgbenchRun{program: pgbench, rounds: 6, share: 1}
	if b.quick {
		run.rounds, run.share = 3, 5
	}
	if err := run.prepare(ctx, ways[0]); err != nil {
		return err
	}
	if err := b.proxyRates(ctx, run, dir, ways); err != nil {
		return err
	}
	if err := b.proxyConnects(ctx, run, ways); err != nil {
		return err
	}
	return b.proxyResult(ctx, ways)
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
	args    []string
	before  func(context.Context) error // each run, if not nil
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

// rate is how many transactions there are in a second: of a number of transactions, and not in a number of seconds,
// since pgbench counts the time to connect to those.
func (r pgbenchRun) rate(ctx context.Context, w *way, clients, transactions int) (float64, error) {
	if r.before != nil {
		if err := r.before(ctx); err != nil {
			return 0, err
		}
	}
	each := strconv.Itoa(max(transactions/r.share/clients, 1))
	out, err := r.run(ctx, w, append([]string{"-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j",
		strconv.Itoa(min(clients, 2)), "-t", each}, r.args...)...)
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
func (r pgbenchRun) takeTurns(ctx context.Context, ways []*way, clients, transactions int) error {
	for _, w := range ways {
		w.rates, w.cpu = nil, nil
	}
	for i := range r.rounds {
		for j := range ways {
			w := ways[(i+j)%len(ways)]
			before := processorTime(w.process)
			rate, err := r.rate(ctx, w, clients, transactions)
			if err != nil {
				return err
			}
			w.rates = append(w.rates, rate)
			w.cpu = append(w.cpu, (processorTime(w.process)-before)*1e6/float64(transactions/r.share))
		}
	}
	return nil
}

// hotAccounts is pgbench's own statement, for accounts that are in every session's memory after a moment.
const hotAccounts = `\set aid random(1, 1000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
`

func (b *bench) proxyRates(ctx context.Context, run pgbenchRun, dir string, ways []*way) error {
	script := filepath.Join(dir, "hot.sql")
	if err := os.WriteFile(script, []byte(hotAccounts), 0o600); err != nil {
		return err
	}
	s := section{
		title: "aadpool proxy",
		text: fmt.Sprintf("`pgbench -M prepared`, %d rounds in turns; the median, and the ratios to PgBouncer's and to "+
			"the direct connection's, round by round: "+
			"the median and the middle half. pgbench, what is between and the server share the machine's processors.\n\n"+
			"PgBouncer keeps its sessions on the server from run to run; the others' are new in each. A new session pays for "+
			"each page of the table that it has not touched yet, "+
			"which can be as much as the query. So the statement of `pgbench -S` is run in two ways: over all 1,000,000 "+
			"accounts with new sessions for everybody, PgBouncer's kept ones being ended before each run; "+
			"and over the first 1,000 accounts, whose pages any session has after a moment, with sessions as each way has them.",
			run.rounds),
		table: [][]string{{"accounts", "clients", "", "per second", "to PgBouncer", "to direct",
			"CPU between, µs per transaction"}},
	}
	all, hot := run, run
	all.args, all.before = []string{"-S"}, b.db.endSessions
	hot.args = []string{"-f", script}
	for _, load := range []struct {
		accounts              string
		run                   pgbenchRun
		clients, transactions int
	}{
		{"all", all, 1, 15_000}, {"all", all, 16, 50_000}, {"all", all, 64, 50_000},
		{"1,000", hot, 1, 15_000}, {"1,000", hot, 16, 100_000}, {"1,000", hot, 64, 100_000},
	} {
		if err := load.run.takeTurns(ctx, ways, load.clients, load.transactions); err != nil {
			return err
		}
		direct, bouncer, proxy := wayOf(ways, wayDirect), wayOf(ways, wayPgBouncer), wayOf(ways, wayProxy)
		for _, w := range ways {
			row := []string{load.accounts, strconv.Itoa(load.clients), w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median)}
			s.table = append(s.table, append(row, w.ratioTo(bouncer), w.ratioTo(direct), spentText(w.cpu, "%.0f")))
		}
		what := fmt.Sprintf("%s accounts, %d clients", load.accounts, load.clients)
		if bouncer != nil {
			b.promise("proxy: rate to PgBouncer's, "+what+": at least 1", spreadOf(ratios(proxy.rates, bouncer.rates)).median, 1)
		}
		if load.clients == 16 {
			b.promise("proxy: rate to the direct connection's, "+what+": at least 0.8",
				spreadOf(ratios(proxy.rates, direct.rates)).median, 0.8)
		}
	}
	b.add(s)
	return nil
}

func (b *bench) promise(text string, ratio, least float64) {
	b.report.verdicts = append(b.report.verdicts, verdict{text, fmt.Sprintf("%.2f", ratio), ratio >= least})
}

// spentText is the median, if there is a process and the system tells of one.
func spentText(cpu []float64, format string) string {
	if spent := spreadOf(cpu).median; spent > 0 {
		return fmt.Sprintf(format, spent)
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
		text: "`pgbench -S -C`, one client: a connection for each query. PgBouncer has connections to the server at " +
			"hand, and asks for no password.",
		table: [][]string{{"", "per second", "to direct"}},
	}
	run.args = []string{"-S", "-C"}
	if err := run.takeTurns(ctx, ways, 1, 300); err != nil {
		return err
	}
	direct := wayOf(ways, wayDirect)
	for _, w := range ways {
		s.table = append(s.table, []string{w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median), w.ratioTo(direct)})
	}
	b.promise("proxy: connects to the direct connection's: at least 0.9",
		spreadOf(ratios(wayOf(ways, wayProxy).rates, direct.rates)).median, 0.9)
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
		"PGHOST=" + server.Host, fmt.Sprint("PGPORT=", server.Port), "PGUSER=" + role, "PGDATABASE=postgres", "PGPASSWORD=" +
			b.db.token.Token,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + b.db.rootCertificate(),
	}}
	ways = append(ways, direct)
	for _, open := range []func(context.Context, string, *pgx.ConnConfig) (*way, func(), error){b.openProxy,
		b.openPgBouncer, b.openRelay} {
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
