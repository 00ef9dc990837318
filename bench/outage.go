package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/aadpool/aadpool/aadpooltest"
)

// An outage is run in a process of its own for each contestant: it may end the process.
type outage struct {
	Contestant contestant
	TokenLife  time.Duration
	RefreshIn  time.Duration // when the authority wants the token renewed; 0: it does not say
	From, For  time.Duration // when the authority is down
	Length     time.Duration
	Quick      bool // the credential does not try again by itself, to save time
}

// An outageLine is what the child process prints, as JSON, one a line: a connect, or how many token requests there
// were.
type outageLine struct {
	Attempt  *attempt
	Requests *int // in the outage
}

const outageInterval = 200 * time.Millisecond

// recoveryLimit is aadpool's longest back-off and two seconds.
const recoveryLimit = 6*time.Second + 2*time.Second

// outageArg, as the first argument, makes this program a child that runs the outage that the second one describes.
const outageArg = "-outage-child"

// insideOutages are those in which every token is good until after the end. Each contestant's has to be renewed, by its
// own rule, soon after the start of the outage.
func insideOutages(quick bool) (outages []outage) {
	o := outage{From: 3 * time.Second, For: 35 * time.Second, Length: 50 * time.Second}
	if quick {
		o = outage{From: 3 * time.Second, For: 9 * time.Second, Length: 20 * time.Second, Quick: true}
	}
	for _, c := range users {
		o.Contestant = c
		switch c {
		case azidentity:
			o.TokenLife = 5*time.Minute + 5*time.Second
		case pgMultiAuth:
			o.TokenLife = time.Minute + 5*time.Second
		case ours:
			o.TokenLife, o.RefreshIn = time.Minute+5*time.Second, 5*time.Second
		}
		outages = append(outages, o)
	}
	return outages
}

// pastOutages are those in which the tokens end.
func pastOutages(quick bool) (outages []outage) {
	o := outage{TokenLife: 20 * time.Second, From: 3 * time.Second, For: 42 * time.Second, Length: 60 * time.Second}
	if quick {
		o = outage{TokenLife: 8 * time.Second, From: 3 * time.Second, For: 14 * time.Second, Length: 27 * time.Second,
			Quick: true}
	}
	for _, c := range users {
		o.Contestant = c
		outages = append(outages, o)
	}
	return outages
}

// outageResult is what came of an outage.
type outageResult struct {
	outage
	attempts []attempt
	requests int
	died     string // the first line of the runtime's last words; empty if the process lived
}

// during are the connects that began after from and before to.
func (r outageResult) during(from, to time.Duration) (some []attempt) {
	for _, a := range r.attempts {
		if a.At >= from && a.At < to {
			some = append(some, a)
		}
	}
	return some
}

// tooLong is longer than a caller waits for a connection.
const tooLong = 5 * time.Second

// count says how many connects failed, and how many came back, well or not, but too late to be of use.
func count(attempts []attempt) (failed, late int) {
	for _, a := range attempts {
		if a.Failed {
			failed++
		}
		if a.Took > tooLong {
			late++
		}
	}
	return failed, late
}

// useless is how many connects failed or came too late.
func useless(attempts []attempt) (n int) {
	for _, a := range attempts {
		if a.Failed || a.Took > tooLong {
			n++
		}
	}
	return n
}

// recovery is how long after the end of the outage the first connect was up. It is negative if none was.
func (r outageResult) recovery() time.Duration {
	end, first := r.From+r.For, time.Duration(-1)
	for _, a := range r.attempts {
		if up := a.At + a.Took - end; !a.Failed && up >= 0 && (first < 0 || up < first) {
			first = up
		}
	}
	return first
}

// measureOutages has the authority go down, inside the token's life and past it.
func (b *bench) measureOutages(ctx context.Context) error {
	inside, past := insideOutages(b.quick), pastOutages(b.quick)
	results := make([]outageResult, len(inside)+len(past))
	errs := make([]error, len(results))
	var wg sync.WaitGroup
	for i, o := range append(inside, past...) {
		wg.Go(func() { results[i], errs[i] = b.runOutage(ctx, o) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.reportInside(results[:len(inside)])
	b.reportPast(results[len(inside):])
	return nil
}

func (b *bench) reportInside(results []outageResult) {
	o := results[0]
	s := section{
		Title: "Entra is down while the token is good",
		Text: fmt.Sprintf("The authority answers 503 for %s; a connect each %s. The token at hand stays valid until after "+
			"the end, but has to be renewed, by each contestant's own rule, "+
			"two seconds into the outage. Each runs in a process of its own. azidentity tries again by itself, as it does by "+
			"default%s.", o.For, outageInterval, quickNote(o.Quick)),
		Table: [][]string{{"", "connects in the outage", "failed", fmt.Sprintf("took over %s", tooLong), "longest, s",
			"token requests", "the process"}},
	}
	r := row{name: fmt.Sprintf("connects that fail, or take over %s, in an outage while the token is good", tooLong),
		sign: -1, cells: map[contestant]cell{}}
	for _, res := range results {
		during := res.during(res.From, res.From+res.For)
		failed, late := count(during)
		longest := time.Duration(0)
		for _, a := range during {
			longest = max(longest, a.Took)
		}
		s.Table = append(s.Table, []string{
			string(res.Contestant), fmt.Sprint(len(during)), fmt.Sprint(failed), fmt.Sprint(late),
			fmt.Sprintf("%.1f", longest.Seconds()), res.asked(), res.fate(),
		})
		n := useless(during)
		r.cells[res.Contestant] = cell{text: fmt.Sprintf("%d of %d", n, len(during)), figure: float64(n)}
		if res.died != "" {
			r.cells[res.Contestant] = shown("the process died")
		}
		if res.Contestant == ours {
			b.report.verdicts = append(b.report.verdicts, verdict{"connects that fail in an outage inside the token's life: 0",
				fmt.Sprintf("%d of %d", failed, len(during)), failed == 0 && len(during) > 0})
		}
	}
	s.After = "Of a process that died, only the connects that had come back are counted."
	b.report.headline = append(b.report.headline, r)
	b.add(s)
}

func (b *bench) reportPast(results []outageResult) {
	o := results[0]
	s := section{
		Title: "Entra is down past the token's end",
		Text: fmt.Sprintf("As above, with tokens of %s and an outage of %s. Connects have to fail once the token has "+
			"ended; what differs is how soon they say so, "+
			"how much Entra is asked meanwhile, and how soon they work again after its return. (azidentity does not cache "+
			"tokens of less than five minutes, "+
			"and go-pgmultiauth asks for a new one in the last minute, so that theirs are of no use from the start. With "+
			"longer tokens theirs stop being of use five minutes, or one, before they end.) "+
			"A connect that waits for a token request takes as long as azidentity goes on trying; aadpool asks anew after a "+
			"pause, in which connects fail at once.", o.TokenLife, o.For),
		Table: [][]string{{"", "connects in the outage", "failed", "time to fail: median, s", "longest, s", "token requests",
			"recovery, s", "the process"}},
	}
	r := row{name: "recovery after an outage past the token's end, s", sign: -1, noise: 0.1, cells: map[contestant]cell{}}
	asked := row{name: "… token requests meanwhile", sign: -1, noise: 0.1, cells: map[contestant]cell{}}
	for _, res := range results {
		during := res.during(res.From, res.From+res.For)
		var failed []float64
		for _, a := range during {
			if a.Failed {
				failed = append(failed, a.Took.Seconds())
			}
		}
		recovery := "–"
		r.cells[res.Contestant] = shown("the process died")
		asked.cells[res.Contestant] = cell{text: fmt.Sprint(res.requests), figure: float64(res.requests)}
		if res.died == "" {
			recovery = fmt.Sprintf("%.1f", res.recovery().Seconds())
			r.cells[res.Contestant] = cell{text: recovery, figure: res.recovery().Seconds()}
		} else {
			asked.cells[res.Contestant] = shown("–")
		}
		s.Table = append(s.Table, []string{
			string(res.Contestant), fmt.Sprint(len(during)), fmt.Sprint(len(failed)), fmt.Sprintf("%.3f", quantile(failed, 0.5)),
			fmt.Sprintf("%.1f", quantile(failed, 1)),
			res.asked(), recovery, res.fate(),
		})
		if res.Contestant == ours {
			b.report.verdicts = append(b.report.verdicts, verdict{
				fmt.Sprintf("recovery after an outage past the token's end: within the longest back-off and 2 s, %s",
					recoveryLimit),
				recovery + " s", res.recovery() >= 0 && res.recovery() <= recoveryLimit,
			})
		}
	}
	b.report.headline = append(b.report.headline, r, asked)
	b.add(s)
}

func quickNote(quick bool) string {
	if quick {
		return "; not in this quick run"
	}
	return ""
}

// asked is how many token requests there were in the outage.
func (r outageResult) asked() string {
	if r.died != "" {
		return "–"
	}
	return fmt.Sprint(r.requests)
}

func (r outageResult) fate() string {
	if r.died != "" {
		return "died: `" + r.died + "`"
	}
	return "lived"
}

// runOutage runs an outage in a child process.
func (b *bench) runOutage(ctx context.Context, o outage) (outageResult, error) {
	result := outageResult{outage: o}
	program, err := os.Executable()
	if err != nil {
		return result, err
	}
	description, err := json.Marshal(o)
	if err != nil {
		return result, err
	}
	dir, err := os.MkdirTemp("", "aadpool-bench") // a process that dies does not tidy up
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir)
	child := exec.CommandContext(ctx, program, outageArg, string(description))
	child.Env = append(os.Environ(), aadpooltest.DatabaseEnv+"="+b.db.postgres.DSN(), "TMPDIR="+dir)
	var printed, complaint bytes.Buffer
	child.Stdout, child.Stderr = &printed, &complaint
	err = child.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && strings.HasPrefix(complaint.String(), "panic: ") {
		result.died, _, _ = strings.Cut(complaint.String(), "\n")
		result.died, _, _ = strings.Cut(result.died, " [recovered")
		err = nil
	}
	if err != nil {
		return result, fmt.Errorf("%s: the outage's process: %w: %s", o.Contestant, err, complaint.String())
	}
	return result, result.read(&printed)
}

func (r *outageResult) read(printed *bytes.Buffer) error {
	lines := bufio.NewScanner(printed)
	for lines.Scan() {
		var line outageLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%s: reading what the outage's process printed: %w", r.Contestant, err)
		}
		if line.Attempt != nil {
			r.attempts = append(r.attempts, *line.Attempt)
		}
		if line.Requests != nil {
			r.requests = *line.Requests
		}
	}
	return lines.Err()
}

// outageChild is the child process.
func outageChild(ctx context.Context, description string) error {
	var o outage
	if err := json.Unmarshal([]byte(description), &o); err != nil {
		return err
	}
	postgres, err := aadpooltest.StartPostgres(ctx)
	if err != nil {
		return err
	}
	cl, err := newCloud(postgres, o.TokenLife)
	if err != nil {
		return err
	}
	defer cl.close()
	cl.authority.SetRefreshIn(o.RefreshIn)
	var retry policy.RetryOptions
	if o.Quick {
		retry.MaxRetries = -1
	}
	cred, err := credential(cl.authority, cl.app, retry)
	if err != nil {
		return err
	}
	dsn := cl.server.DSN(role)
	h, err := o.Contestant.newHook(ctx, dsn, "", cred)
	if err != nil {
		return err
	}
	if err := warmUp(ctx, h, dsn); err != nil {
		return err
	}
	return o.run(ctx, cl, h, dsn)
}

func (o outage) run(ctx context.Context, cl *cloud, h hook, dsn string) error {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	var broken error
	say := func(line outageLine) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(line); err != nil {
			broken = err
		}
	}
	before := 0
	time.AfterFunc(o.From, func() {
		before = cl.authority.Requests()
		cl.authority.SetFailure(aadpooltest.ServerError(503))
	})
	time.AfterFunc(o.From+o.For, func() {
		cl.authority.SetFailure(aadpooltest.Failure{})
		requests := cl.authority.Requests() - before
		say(outageLine{Requests: &requests})
	})
	err := connects(ctx, h, dsn, outageInterval, o.Length, func(a attempt) { say(outageLine{Attempt: &a}) })
	return errors.Join(err, broken)
}
