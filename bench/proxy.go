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
)

// A way is how pgbench reaches the server. It runs in the environment that its way sets for it.
type way struct {
	name        string
	environment []string
	process     int // what is between
	rates       []float64
	cpu         []float64 // of the process, µs per transaction
	memory      []float64 // the most that the process has had in each set, MB
}

const (
	wayDirect    = "direct, TLS"
	wayProxy     = "aadpool proxy"
	wayControl   = "control: a second aadpool proxy"
	wayPgBouncer = "PgBouncer, session mode"
	wayRelay     = "bare relay of TCP"
)

// measureProxyRates measures aadpool proxy as pgbench sees it, beside what stands in its place: nothing, PgBouncer, and
// a relay that copies the bytes of a TLS connection without looking at them. The control is another process of aadpool
// proxy: what it differs by is noise.
func (b *bench) measureProxyRates(ctx context.Context) error {
	return b.atProxy(ctx, func(dir string, run pgbenchRun) error { return b.proxyRates(ctx, run, dir) })
}

func (b *bench) measureProxyConnects(ctx context.Context) error {
	return b.atProxy(ctx, func(dir string, run pgbenchRun) error { return b.proxyConnects(ctx, run, dir) })
}

// atProxy builds aadpool into a directory and fills the database for pgbench.
func (b *bench) atProxy(ctx context.Context, measure func(dir string, run pgbenchRun) error) (err error) {
	pgbench, err := findPgbench()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "aadpool-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := b.buildProxy(ctx, dir); err != nil {
		return err
	}
	run := pgbenchRun{program: pgbench, effort: effort{sets: 3, rounds: 3}, share: 1, open: b.relays(dir)}
	if b.quick {
		run.effort, run.share = effort{sets: 2, rounds: 1}, 5
	}
	direct, err := b.directWay()
	if err != nil {
		return err
	}
	if err := run.prepare(ctx, direct); err != nil {
		return err
	}
	return measure(dir, run)
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
	effort  effort
	share   int // one of so many of the transactions
	args    []string
	before  func(context.Context) error // each run, if not nil
	open    []opener                    // what stands between in some way
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

// contest has pgbench run the ways one after the other.
func (r pgbenchRun) contest(ctx context.Context, b *bench, dir string, clients, transactions int) (ways, error) {
	return b.contestWays(ctx, dir, r.open, r.effort, func(w *way) error {
		before := processorTime(w.process)
		rate, err := r.rate(ctx, w, clients, transactions)
		w.rates = append(w.rates, rate)
		w.cpu = append(w.cpu, (processorTime(w.process)-before)*1e6/float64(transactions/r.share))
		return err
	})
}

// hotAccounts is pgbench's own statement, for accounts that are in every session's memory after a moment.
const hotAccounts = `\set aid random(1, 1000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
`

const ratesText = "`pgbench -M prepared`, %d rounds in turns for each of %d sets, for which all programs are started " +
	"anew; the median, and the ratios to PgBouncer's and to the direct connection's, round by round: " +
	"the median and the middle half. pgbench, what is between and the server share the machine's processors. " +
	"The control is another process of aadpool proxy: its ratio to the first tells what is noise.\n\n" +
	"PgBouncer keeps its sessions on the server from run to run; the others' are new in each. A new session pays for " +
	"each page of the table that it has not touched yet, which can be as much as the query. " +
	"So the statement of `pgbench -S` is run in two ways: over all 1,000,000 accounts with new sessions for everybody, " +
	"PgBouncer's kept ones being ended before each run; and over the first 1,000 accounts, whose pages any session has " +
	"after a moment, with sessions as each way has them."

// reachText says how far the proxy is from what a relay can reach, which was measured once, on two processors.
const reachText = "What can be reached at 16 clients, on two processors that client, relay and server share: a relay " +
	"in C that copies bytes and does no TLS has 0.83 of the direct connection's rate, with TLS to the server 0.72, " +
	"one in Go 0.66 to 0.69. aadpool proxy: %s."

func (b *bench) proxyRates(ctx context.Context, run pgbenchRun, dir string) error {
	script := filepath.Join(dir, "hot.sql")
	if err := os.WriteFile(script, []byte(hotAccounts), 0o600); err != nil {
		return err
	}
	s := section{
		Title: "aadpool proxy",
		Text:  fmt.Sprintf(ratesText, run.effort.rounds, run.effort.sets),
		Table: [][]string{{"accounts", "clients", "", "per second", "to PgBouncer", "to direct", "to aadpool proxy",
			"CPU between, µs per transaction"}},
	}
	all, hot := run, run
	all.args, all.before = []string{"-S"}, b.db.endSessions
	hot.args = []string{"-f", script}
	var reached []string
	for _, load := range []struct {
		accounts              string
		run                   pgbenchRun
		clients, transactions int
	}{
		{"all", all, 1, 15_000}, {"all", all, 16, 50_000}, {"all", all, 64, 50_000},
		{"1,000", hot, 1, 15_000}, {"1,000", hot, 16, 100_000}, {"1,000", hot, 64, 100_000},
	} {
		ws, err := load.run.contest(ctx, b, dir, load.clients, load.transactions)
		if err != nil {
			return err
		}
		for _, w := range ws {
			row := []string{load.accounts, strconv.Itoa(load.clients), w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median)}
			s.Table = append(s.Table, append(row, w.ratioTo(ws.of(wayPgBouncer)), w.ratioTo(ws.of(wayDirect)),
				w.ratioTo(ws.of(wayProxy)), spentText(w.cpu, "%.0f")))
		}
		what := fmt.Sprintf("%s accounts, %d clients", load.accounts, load.clients)
		proxy := ws.of(wayProxy)
		if bouncer := ws.of(wayPgBouncer); bouncer != nil {
			b.promise("proxy: rate to PgBouncer's, "+what+": at least 1", spreadOf(ratios(proxy.rates, bouncer.rates)).median, 1)
		}
		if load.clients == 16 {
			reached = append(reached, fmt.Sprintf("%.2f over %s accounts",
				spreadOf(ratios(proxy.rates, ws.of(wayDirect).rates)).median, load.accounts))
		}
	}
	s.After = fmt.Sprintf(reachText, strings.Join(reached, ", "))
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

func (b *bench) proxyConnects(ctx context.Context, run pgbenchRun, dir string) error {
	s := section{
		Title: "aadpool proxy: connects",
		Text: "`pgbench -S -C`, one client: a connection for each query. The server checks passwords with one iteration of " +
			"PBKDF2: with PostgreSQL's 4,096 the check is most of a connect and hides what is between. " +
			"PgBouncer has connections to the server at hand, and asks for no password.",
		Table: [][]string{{"", "per second", "to direct", "to aadpool proxy"}},
	}
	run.args = []string{"-S", "-C"}
	ws, err := run.contest(ctx, b, dir, 1, 300)
	if err != nil {
		return err
	}
	direct := ws.of(wayDirect)
	for _, w := range ws {
		s.Table = append(s.Table, []string{w.name, fmt.Sprintf("%.0f", spreadOf(w.rates).median), w.ratioTo(direct),
			w.ratioTo(ws.of(wayProxy))})
	}
	b.promise("proxy: connects to the direct connection's: at least 0.9",
		spreadOf(ratios(ws.of(wayProxy).rates, direct.rates)).median, 0.9)
	b.add(s)
	return nil
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
