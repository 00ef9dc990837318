package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aadpool/aadpool/examples/internal/liveline"
)

// summary is what the whole run came to.
type summary struct {
	elapsed     time.Duration
	interrupted bool

	tally
	rotations []int64 // of each replica's token for the database, before the outage and after
	outage    outageTimes
	probe     probe
	waited    int64 // connects that waited for a token, after the first of each replica
	retired   int64 // connections closed because their token was about to end

	audited  audited
	auditErr error
}

// audited is what the database says happened.
type audited struct{ logins, refreshes, reused int64 }

func (d *demo) summarize(ctx context.Context, elapsed time.Duration, interrupted bool) summary {
	s := summary{elapsed: elapsed, interrupted: interrupted, tally: d.load.end(), outage: d.outage.times,
		probe: d.outage.probe}
	for _, replica := range d.replicas {
		stats := replica.Hook.Stats()
		s.rotations = append(s.rotations, rotations(replica))
		s.waited += max(0, stats.Waits-1)
		s.retired += stats.RetiredConns
	}
	s.auditErr = d.replicas[0].Pool.QueryRow(ctx, `select
		count(*) filter (where event = 'login.succeeded'),
		count(*) filter (where event = 'token.refreshed'),
		count(*) filter (where event = 'token.reused') from audit_log`).
		Scan(&s.audited.logins, &s.audited.refreshes, &s.audited.reused)
	return s
}

// reasons are what went wrong, a line each.
type reasons []string

func (r *reasons) add(wrong bool, format string, args ...any) {
	if wrong {
		*r = append(*r, fmt.Sprintf(format, args...))
	}
}

// failures returns what went wrong. There is none if all went well.
func (s summary) failures() reasons {
	var r reasons
	r.add(s.requests() == 0, "no request was made")
	if s.failed > 0 {
		r.add(true, "%d of %d requests failed; the first: %s", s.failed, s.requests(), oneLine(s.firstError))
	}
	if s.auditErr != nil {
		r.add(true, "the audit log could not be read: %s", oneLine(s.auditErr))
	} else if s.failed == 0 {
		r.add(s.audited.logins != s.logins, "%d logins were answered, and the audit log has %d", s.logins, s.audited.logins)
		r.add(s.audited.refreshes != s.refreshes, "%d refreshes were answered, and the audit log has %d", s.refreshes,
			s.audited.refreshes)
	}
	r.add(s.audited.reused > 0, "%d refresh tokens were taken for reused", s.audited.reused)
	if s.interrupted {
		return r
	}
	for i, n := range s.rotations {
		r.add(n < rotationsDue, "replica %d renewed its token for the database %d times, and there must be %d", i+1, n,
			rotationsDue)
	}
	return append(r, s.outageFailures()...)
}

// outageFailures returns what went wrong while Entra was down.
func (s summary) outageFailures() reasons {
	var r reasons
	if s.outage.back.IsZero() {
		r.add(true, "Entra was not taken down and back up")
		return r
	}
	r.add(s.refused == 0, "no request was refused after the tokens' end: the outage had no effect")
	r.add(s.slowestRefusal > refusedWithin, "a request was refused after %s, and not at once", s.slowestRefusal)
	r.add(s.probe.took > refusedWithin, "a connection without a token failed after %s, and not at once", s.probe.took)
	r.add(s.probe.err == nil || !strings.Contains(s.probe.err.Error(), "next try"),
		"the error of a connection without a token does not say when the next try is")
	switch {
	case s.outage.ready.IsZero():
		r.add(true, "the replicas were not ready within %s of Entra", backWithin)
	case s.outage.served.IsZero():
		r.add(true, "some clients were not served within %s of that", servedWithin)
	}
	return r
}

// refusedWithin is long for a busy machine, and short beside the 8 seconds that a request may wait for.
const refusedWithin = 4 * time.Second

// table is the summary for people.
func (s summary) table() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	duration := s.elapsed.Round(100 * time.Millisecond).String()
	if s.interrupted {
		duration += ", interrupted"
	}
	row("duration", "%s", duration)
	row("renewals of each replica's token for the database", "%s", each(s.rotations))
	row("requests", "%d", s.requests())
	row("requests that failed", "%d", s.failed)
	row("logins answered / in the audit log", "%d / %d", s.logins, s.audited.logins)
	row("refreshes answered / in the audit log", "%d / %d", s.refreshes, s.audited.refreshes)
	row("API calls answered", "%d", s.uses)
	row("latency of requests for tokens, p50 / p99 / max", "%.1f / %.1f / %.1f ms", milliseconds(s.p50),
		milliseconds(s.p99), milliseconds(s.max))
	row("connects that waited for a token, after the first", "%d", s.waited)
	row("connections retired before their token's end", "%d", s.retired)
	s.outageRows(row)
	_ = table.Flush() // a strings.Builder takes everything
	return "\n" + text.String()
}

// outageRows is what came of the outage, as far as it went.
func (s summary) outageRows(row func(name, format string, args ...any)) {
	o := s.outage
	if o.back.IsZero() {
		return
	}
	row("Entra was down, with tokens that were good / without", "%s / %s", seconds(o.ended.Sub(o.down)),
		seconds(o.back.Sub(o.ended)))
	row("requests for tokens answered by 503 and Retry-After", "%d, the slowest after %.1f ms", s.refused,
		milliseconds(s.slowestRefusal))
	if !o.ready.IsZero() {
		row("both replicas ready after Entra was back", "%s", seconds(o.ready.Sub(o.back)))
	}
}

// each names numbers that may all be the same.
func each(numbers []int64) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.FormatInt(n, 10)
	}
	if len(slices.Compact(slices.Clone(texts))) == 1 {
		return texts[0]
	}
	return strings.Join(texts, " and ")
}

// verdict is the last word on the run.
func verdict(s summary, failures reasons, display *liveline.Display) string {
	if len(failures) == 0 {
		return display.Paint(liveline.Green, "PASS: "+s.praise())
	}
	return display.Paint(liveline.Red, "FAIL:\n  "+strings.Join(failures, "\n  "))
}

func (s summary) praise() string {
	text := fmt.Sprintf("%d requests to %d replicas through %s renewals of each one's token for the database; none failed",
		s.requests(), len(s.rotations), each(s.rotations))
	if s.outage.served.IsZero() {
		return text
	}
	return text + fmt.Sprintf(".\n      Entra was down for %s: unnoticed while the tokens were good; "+
		"ready %s after it was back, nothing lost",
		seconds(s.outage.back.Sub(s.outage.down)), seconds(s.outage.ready.Sub(s.outage.back)))
}
