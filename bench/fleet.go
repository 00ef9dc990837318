package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/aadpool/aadpool/internal/token"
)

// fleetOutEnv names the file that the simulation, a test of package aadpool, writes to.
const fleetOutEnv = "AADPOOL_FLEET_OUT"

// A fleetDay is what the simulation shows; the lists have an entry for each second. fleet_test.go writes it.
type fleetDay struct {
	Scenario struct {
		Name                                       string
		Replicas, Connections                      int
		StartWithin, Length, OutageFrom, OutageFor time.Duration
		MinLife, MaxLife, RefreshIn                time.Duration
	}
	Connects, Unspread, Requests, InStep []int
	Waits                                int64
	Recovery                             time.Duration
}

// measureFleet simulates a fleet in virtual time.
func (b *bench) measureFleet(ctx context.Context) error {
	days, err := simulateFleet(ctx)
	if err != nil {
		return err
	}
	d := days[0].Scenario
	s := section{
		Title: "A fleet, simulated",
		Text: fmt.Sprintf("%d replicas with %d busy connections each, started within %s, for %.0f hours of virtual time, "+
			"with the package's own token cache and deadlines; Entra is down for %s in the middle. "+
			"“Together” is what the server would see if, with the same tokens, every connection ended with its token. Peaks "+
			"are those of a second, after the start: before the outage, in it, in the minute after it "+
			"(when those whose tokens had ended come back at once, as they must), and later. A token request is a call of "+
			"the credential; azidentity makes up to four for one while Entra answers with errors.\n\n"+
			"What can be reached. A connection has to log in once for each token, so that the fewest logins are those of "+
			"“together”. "+
			"They are at their most even if each moment at which a newer token can be had gets the same share: with tokens "+
			"of 65 minutes the five minutes before the old one's end (which is when azidentity has a new one) "+
			"and the minute of the start, in which the replicas' tokens end one after the other; with tokens of 24 hours the "+
			"last tenth of their life, since to change sooner costs more logins than the mark allows; "+
			"with tokens that live 60 to 90 minutes at random the 36 minutes in which the first ones end, and later all the "+
			"time. "+
			"Each replica decides for itself, so the logins of a second are Poisson's at the best: the least peak is the one "+
			"that half of all such days exceed. "+
			"The fewest token requests are one for each token's whole life, or for the time after which Entra wants it renewed.",
			d.Replicas, d.Connections, d.StartWithin, d.Length.Hours(), d.OutageFor),
		Table: [][]string{{"", "", "mean per second", "peak before the outage", "in it", "in the minute after it", "later",
			"in all"}},
	}
	for i, day := range days {
		s.Table = append(s.Table,
			day.line(day.Scenario.Name, "connects, together", day.Unspread),
			day.line("", "connects, aadpool", day.Connects),
			day.line("", "token requests, each as soon as it can be", day.InStep),
			day.line("", "token requests, aadpool", day.Requests))
		recovered := "no replica was without a token"
		if day.Recovery > 0 {
			recovered = fmt.Sprintf("every replica had a token again %.1f s after the outage", day.Recovery.Seconds())
		}
		s.After += fmt.Sprintf("- %s: %s. %d connects waited for a token before the outage.\n\n%s\n\n",
			day.Scenario.Name, recovered, day.Waits,
			picture(fmt.Sprintf("fleet-%d", i+1), "The busiest second of each five minutes: "+day.Scenario.Name))
		b.report.verdicts = append(b.report.verdicts, day.verdicts()...)
	}
	b.add(s)
	return b.plotFleets(days)
}

// aftermath is how long after the start, or an outage, the connects are those of replicas that had none.
const aftermath = time.Minute

// verdicts compare what came of the day with what can be reached.
func (d fleetDay) verdicts() []verdict {
	s := d.Scenario
	outageEnd := s.OutageFrom + s.OutageFor
	connects, fewest := sum(d.Connects), sum(d.Unspread)
	verdicts := []verdict{ratioVerdict("fleet, "+s.Name+": logins, to the fewest: at most 1.05", connects, fewest, 1.05)}
	from, to, when := s.StartWithin+aftermath, s.OutageFrom, "before the outage"
	if peak(d.Connects, from, to) == 0 { // no token has ended yet
		from, to, when = outageEnd+aftermath, s.Length, "after the outage"
	}
	if busiest := peak(d.Connects, from, to); busiest > 0 {
		verdicts = append(verdicts,
			ratioVerdict("fleet, "+s.Name+": reconnects in the busiest second "+when+", to the least peak: at most 1.5",
				busiest, d.leastPeak(to-from), 1.5))
	}
	verdicts = append(verdicts,
		ratioVerdict("fleet, "+s.Name+": token requests before the outage, to the fewest: at most 1.1",
			sum(d.Requests[:s.OutageFrom/time.Second]), d.fewestRequests(), 1.1))
	return append(verdicts,
		ratioVerdict("fleet, "+s.Name+": token requests in the busiest second of later renewals, to all that come in the "+
			"minute after the outage: at most 1/10",
			peak(d.Requests, outageEnd+aftermath, s.Length),
			sum(d.Requests[outageEnd/time.Second:(outageEnd+aftermath)/time.Second]), 0.1))
}

func ratioVerdict(promise string, got, to int, most float64) verdict {
	ratio := float64(got) / float64(max(to, 1))
	return verdict{promise: promise, measured: fmt.Sprintf("%d to %d: %.2f", got, to, ratio), met: ratio <= most}
}

// fewestRequests is how many token requests there are before the outage at the least: one at the start, and one
// whenever a token has ended, or Entra wants it renewed.
func (d fleetDay) fewestRequests() int {
	s := d.Scenario
	uses := (s.MinLife + s.MaxLife) / 2
	if s.RefreshIn > 0 {
		uses = s.RefreshIn
	}
	return s.Replicas * (1 + int(s.OutageFrom/uses))
}

// leastPeak is what the busiest second of so much time has at the least, if each replica decides for itself, and with
// no more logins than the mark allows.
func (d fleetDay) leastPeak(length time.Duration) int {
	s := d.Scenario
	life := (s.MinLife + s.MaxLife) / 2
	// In which a connection can change from one token to the next. Of tokens of random lives the first ones end within
	// less time than any later ones, but once.
	window := s.MaxLife - s.MinLife + token.RenewalMargin(life) + s.StartWithin
	if s.RefreshIn > 0 {
		window = min(life-s.RefreshIn, life/10) // half of it is how much sooner a connection changes
	}
	if s.MaxLife > s.MinLife {
		length = min(length, life)
	}
	seconds := length.Seconds() * min(1, float64(window)/float64(life))
	return poissonPeak(float64(s.Replicas*s.Connections)/window.Seconds(), seconds)
}

// poissonPeak is the median of the largest of so many draws of the Poisson distribution.
func poissonPeak(mean, draws float64) int {
	p := math.Exp(-mean) // of k
	for k, atMost := 0, p; ; k++ {
		if math.Pow(atMost, draws) >= 0.5 {
			return k
		}
		p *= mean / float64(k+1)
		atMost += p
	}
}

func sum(series []int) (sum int) {
	for _, n := range series {
		sum += n
	}
	return sum
}

func (d fleetDay) line(name, what string, series []int) []string {
	s, all := d.Scenario, sum(series)
	end := s.OutageFrom + s.OutageFor
	return []string{
		name, what, fmt.Sprintf("%.2f", float64(all)/float64(len(series))),
		fmt.Sprint(peak(series, s.StartWithin+aftermath, s.OutageFrom)),
		fmt.Sprint(peak(series, s.OutageFrom, end)), fmt.Sprint(peak(series, end, end+aftermath)),
		fmt.Sprint(peak(series, end+aftermath, s.Length)), fmt.Sprint(all),
	}
}

// peak is the most that happened in a second from one moment to another.
func peak(series []int, from, to time.Duration) int {
	return slices.Max(series[from/time.Second : min(int(to/time.Second), len(series))])
}

func simulateFleet(ctx context.Context) (days []fleetDay, err error) {
	dir, err := os.MkdirTemp("", "aadpool-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fleet.json")
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-run", "^TestFleetOfAThousandReplicasForADay$", ".")
	test.Dir = ".."
	test.Env = append(os.Environ(), fleetOutEnv+"="+path)
	if out, err := test.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("simulating the fleet: %w\n%s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("simulating the fleet: %w", err)
	}
	if err := json.Unmarshal(text, &days); err != nil {
		return nil, fmt.Errorf("reading what the simulation wrote: %w", err)
	}
	return days, nil
}
