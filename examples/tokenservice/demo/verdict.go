package main

import (
	"context"
	"fmt"
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
	rotations []int64 // of each replica's token for the database
	waited    int64   // connects that waited for a token, after the first of each replica
	retired   int64   // connections closed because their token was about to end

	audited  audited
	auditErr error
}

// audited is what the database says happened.
type audited struct{ logins, refreshes, reused int64 }

func (d *demo) summarize(ctx context.Context, elapsed time.Duration, interrupted bool) summary {
	s := summary{elapsed: elapsed, interrupted: interrupted, tally: d.load.end()}
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

// failures says what went wrong, a line each. There is none if all went well.
func (s summary) failures() []string {
	var reasons []string
	because := func(wrong bool, format string, args ...any) {
		if wrong {
			reasons = append(reasons, fmt.Sprintf(format, args...))
		}
	}
	because(s.requests() == 0, "no request was made")
	if s.failed > 0 {
		because(true, "%d of %d requests failed; the first: %s", s.failed, s.requests(), oneLine(s.firstError))
	}
	if s.auditErr != nil {
		because(true, "the audit log could not be read: %s", oneLine(s.auditErr))
	} else if s.failed == 0 {
		because(s.audited.logins != s.logins, "%d logins were answered, and the audit log has %d", s.logins, s.audited.logins)
		because(s.audited.refreshes != s.refreshes, "%d refreshes were answered, and the audit log has %d", s.refreshes, s.audited.refreshes)
	}
	because(s.audited.reused > 0, "%d refresh tokens were taken for reused", s.audited.reused)
	for i, n := range s.rotations {
		because(n < rotationsDue && !s.interrupted, "replica %d replaced its token for the database %d times, and there must be %d", i+1, n, rotationsDue)
	}
	return reasons
}

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
	row("rotations of each replica's token for the database", "%v", s.rotations)
	row("requests", "%d", s.requests())
	row("requests that failed", "%d", s.failed)
	row("logins answered / in the audit log", "%d / %d", s.logins, s.audited.logins)
	row("refreshes answered / in the audit log", "%d / %d", s.refreshes, s.audited.refreshes)
	row("API calls answered", "%d", s.uses)
	row("latency of requests for tokens, p50 / p99 / max", "%.1f / %.1f / %.1f ms", milliseconds(s.p50), milliseconds(s.p99), milliseconds(s.max))
	row("connects that waited for a token, after the first", "%d", s.waited)
	row("connections retired before their token's end", "%d", s.retired)
	_ = table.Flush() // a strings.Builder takes everything
	return "\n" + text.String()
}

// verdict is the last word on the run.
func verdict(s summary, failures []string, display *liveline.Display) string {
	if len(failures) == 0 {
		return display.Paint(liveline.Green, fmt.Sprintf("PASS: %d requests to %d replicas through %v rotations of their tokens for the database; none failed",
			s.requests(), len(s.rotations), s.rotations))
	}
	return display.Paint(liveline.Red, "FAIL:\n  "+strings.Join(failures, "\n  "))
}
