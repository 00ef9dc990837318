package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/liveline"
)

// summary is what the whole run came to.
type summary struct {
	elapsed     time.Duration
	steady      time.Duration // of it, before the outage
	interrupted bool
	tokenLife   time.Duration

	tally
	found    int64 // of the rows whose transaction was committed
	countErr error // why they could not be counted

	logins        logins
	tokensFetched int64
	fetchesFailed int64
	waited        int64 // connects that waited for a token, after the first token and before the outage

	waitedInOutage int64
	longestWait    time.Duration // of those

	statements int64 // that were checked
	late       int64 // that started on a connection whose token had ended

	retired          int64 // connections closed by aadpool, because their token was about to end
	closedAtLifetime int64 // connections closed by pgxpool, at their MaxConnLifetime

	outage *outageResult // nil: there was to be none
}

// outageResult is what came of the outage.
type outageResult struct {
	times      outageTimes
	probeErr   error
	probeTook  time.Duration
	answered   int64
	sessionErr error
}

// logins is what the server saw.
type logins struct {
	accepted, refused int64
	rotations         int // how often a token was followed by another
	// most is the most logins within one second with any token but the first: the pool replacing connections, and not
	// filling up.
	most int
}

func countLogins(all []aadpooltest.Login) logins {
	var l logins
	tokens := map[time.Time]bool{} // by their ends
	var first time.Time
	var later []time.Time
	for _, login := range all {
		if login.SQLState != "" {
			l.refused++
			continue
		}
		if l.accepted++; l.accepted == 1 {
			first = login.TokenExpiresAt
		}
		tokens[login.TokenExpiresAt] = true
		if !login.TokenExpiresAt.Equal(first) {
			later = append(later, login.Time)
		}
	}
	l.rotations = max(0, len(tokens)-1)
	l.most = mostWithin(time.Second, later)
	return l
}

// mostWithin returns the most of the times that lie within d of each other.
func mostWithin(d time.Duration, times []time.Time) int {
	times = slices.SortedFunc(slices.Values(times), time.Time.Compare)
	most, start := 0, 0
	for i, t := range times {
		for t.Sub(times[start]) >= d {
			start++
		}
		most = max(most, i-start+1)
	}
	return most
}

// rotationsDue is how many rotations there must have been at least: a token is replaced before it ends.
func (s summary) rotationsDue() int { return int(s.steady / s.tokenLife) }

// failures says what went wrong, a line each. There is none if all went well.
func (s summary) failures() []string {
	var reasons []string
	because := func(wrong bool, format string, args ...any) {
		if wrong {
			reasons = append(reasons, fmt.Sprintf(format, args...))
		}
	}
	because(s.queries == 0, "no query was made")
	because(s.failed > 0, "%d of %d queries failed; the first: %s", s.failed, s.queries, textOf(s.firstError))
	because(s.countErr != nil, "the committed writes could not be counted: %s", textOf(s.countErr))
	because(s.countErr == nil && s.found < s.writes, "%d of %d committed writes are lost", s.writes-s.found, s.writes)
	because(s.waited > 0, "%d connects waited for a token after the first", s.waited)
	because(s.late > 0, "%d of %d statements started on a connection whose token had ended", s.late, s.statements)
	because(s.queries > 0 && s.statements == 0, "no statement was checked against its connection's token")
	because(s.logins.refused > 0, "the server refused %d logins", s.logins.refused)
	because(s.logins.rotations < s.rotationsDue(),
		"%d token rotations were seen, and there must be %d at least in %s of tokens that live %s",
		s.logins.rotations, s.rotationsDue(), s.steady.Round(time.Second), s.tokenLife)
	if s.outage != nil && !s.interrupted {
		s.outageFailures(because)
	}
	return reasons
}

// outageFailures says what went wrong while Entra was down.
func (s summary) outageFailures(because func(wrong bool, format string, args ...any)) {
	o := s.outage
	because(o.sessionErr != nil, "the session that was open did not outlive the token: %s", textOf(o.sessionErr))
	if o.times.back.IsZero() {
		because(true, "Entra was not taken down and back up")
		return
	}
	because(o.answered == 0, "the session that was open answered nothing after the token's end")
	because(s.refused == 0, "no query failed after the token's end: the outage had no effect")
	because(s.slowestRefusal > queryTimeout+grace, "a query without a token failed after %s", s.slowestRefusal)
	because(o.probeErr == nil, "no new connection failed within %s with the time of the next try", atOnce)
	because(o.times.served.IsZero(), "queries did not succeed again within %s of Entra", backWithin)
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
	row("queries", "%d", s.queries)
	row("queries that failed while there was a token to log in with", "%d", s.failed)
	row("writes that were acknowledged, and found afterwards", "%d, %d", s.writes, s.found)
	row("milliseconds of a query: p50, p99, longest", "%.1f, %.1f, %.1f", milliseconds(s.p50), milliseconds(s.p99),
		milliseconds(s.max))
	row("tokens fetched, requests for one that failed", "%d, %d", s.tokensFetched, s.fetchesFailed)
	row("tokens that connections logged in with, after the first", "%d", s.logins.rotations)
	row("logins, logins that the server refused", "%d, %d", s.logins.accepted, s.logins.refused)
	row("most logins in one second, after the start", "%d", s.logins.most)
	row("connects that waited for a token while Entra was up", "%d", s.waited)
	row("statements on a connection whose token had expired", "%d of %d", s.late, s.statements)
	row("connections replaced before their token expired", "%d", s.retired)
	row("connections closed at MaxConnLifetime", "%d", s.closedAtLifetime)
	if o := s.outage; o != nil && !o.times.back.IsZero() {
		s.outageRows(row)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return "\n" + text.String()
}

// outageRows are what came of the time in which Entra was down.
func (s summary) outageRows(row func(name, format string, args ...any)) {
	o := s.outage
	row("Entra was down for", "%s", seconds(o.times.back.Sub(o.times.down)))
	row("of that with a token that was still valid", "%s", seconds(o.times.ended.Sub(o.times.down)))
	row("queries that failed after that, for want of a token", "%d", s.refused)
	row("connects that waited for a token meanwhile", "%d", s.waitedInOutage)
	row("the longest of these waits", "%s", seconds(s.longestWait))
	row("a connect between two requests for a token failed after", "%s", o.probeTook.Round(time.Microsecond))
	row("queries of an open session after its token had expired", "%d", o.answered)
	if !o.times.served.IsZero() {
		row("until queries succeeded again, once Entra was back", "%s", seconds(o.times.served.Sub(o.times.back)))
	}
}

// verdict is the last word on the run.
func verdict(s summary, failures []string, display *liveline.Display) string {
	if len(failures) == 0 {
		text := fmt.Sprintf("PASS: %d queries through %d rotations of the token. None failed while there\n"+
			"  was a token to log in with; none ran on a connection whose token had expired.", s.queries, s.logins.rotations)
		if o := s.outage; o != nil && !o.times.served.IsZero() {
			text += fmt.Sprintf("\n  Entra was down for %s: unnoticed for %s, over %s after it was back.",
				seconds(o.times.back.Sub(o.times.down)),
				seconds(o.times.ended.Sub(o.times.down)), seconds(o.times.served.Sub(o.times.back)))
		}
		return display.Paint(liveline.Green, text)
	}
	return display.Paint(liveline.Red, "FAIL:\n  "+strings.Join(failures, "\n  "))
}
