package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// fleetOutEnv names the file that the simulation, a test of package aadpool, writes to.
const fleetOutEnv = "AADPOOL_FLEET_OUT"

// A fleetDay is what the simulation shows; the lists have an entry for each second. fleet_test.go writes it.
type fleetDay struct {
	Scenario struct {
		Name                                       string
		Replicas, Connections                      int
		StartWithin, Length, OutageFrom, OutageFor time.Duration
	}
	Connects, Unspread, Requests []int
	Waits                        int64
	Recovery                     time.Duration
}

// measureFleet simulates a fleet in virtual time.
func (b *bench) measureFleet(ctx context.Context) error {
	days, err := simulateFleet(ctx)
	if err != nil {
		return err
	}
	d := days[0].Scenario
	s := section{
		title: "A fleet, simulated",
		text: fmt.Sprintf("%d replicas with %d busy connections each, started within %s, for %.0f hours of virtual time, with the package's own token cache and deadlines; Entra is down for %s in the middle. "+
			"“Together” is what the server would see if, with the same tokens, every connection ended with its token. Peaks are those of a second, after the start: before the outage, in it, in the minute after it "+
			"(when those whose tokens had ended come back at once, as they must), and later. A token request is a call of the credential; azidentity makes up to four for one while Entra answers with errors.\n\n"+
			"What can be reached with tokens of 65 minutes: azidentity has a new one only from five minutes before the old one's end, and every connection has to log in once within those. "+
			"The fleet's start, and so its expiry, takes one minute. Five such minutes cover those five, so that in one of them there is at least a fifth of the logins on average, whatever each replica does by itself; "+
			"chance comes on top. Tokens that live 60 to 90 minutes at random do not end together: both peaks are chance, of a few replicas whose tokens happen to end in one second.",
			d.Replicas, d.Connections, d.StartWithin, d.Length.Hours(), d.OutageFor),
		table: [][]string{{"", "", "mean per second", "peak before the outage", "in it", "in the minute after it", "later", "in all"}},
	}
	for i, day := range days {
		s.table = append(s.table,
			day.line(day.Scenario.Name, "connects, together", day.Unspread),
			day.line("", "connects, aadpool", day.Connects),
			day.line("", "token requests", day.Requests))
		recovered := "no replica was without a token"
		if day.Recovery > 0 {
			recovered = fmt.Sprintf("every replica had a token again %.1f s after the outage", day.Recovery.Seconds())
		}
		s.after += fmt.Sprintf("- %s: %s. %d connects waited for a token before the outage. ![%s](plots/fleet-%d.svg)\n", day.Scenario.Name, recovered, day.Waits, day.Scenario.Name, i+1)
		if err := b.plotFleet(i+1, day); err != nil {
			return err
		}
		b.report.verdicts = append(b.report.verdicts, day.verdict())
	}
	b.add(s)
	return nil
}

// aftermath is how long after the start, or an outage, the connects are those of replicas that had none.
const aftermath = time.Minute

// verdict compares the peaks of connects after expiries: before the outage, and after it. The larger ratio counts.
func (d fleetDay) verdict() verdict {
	s := d.Scenario
	v := verdict{promise: fmt.Sprintf("fleet, %s: most reconnects in a second at most 1/5 of those of connections that end together", s.Name)}
	worst := -1.0
	for _, span := range [][2]time.Duration{{s.StartWithin + aftermath, s.OutageFrom}, {s.OutageFrom + s.OutageFor + aftermath, s.Length}} {
		ours, together := peak(d.Connects, span[0], span[1]), peak(d.Unspread, span[0], span[1])
		if together == 0 {
			continue
		}
		if ratio := float64(ours) / float64(together); ratio > worst {
			worst, v.measured = ratio, fmt.Sprintf("%d to %d: %.2f", ours, together, ratio)
		}
	}
	v.met = worst >= 0 && worst <= 0.2
	return v
}

func (d fleetDay) line(name, what string, series []int) []string {
	s, sum := d.Scenario, 0
	for _, n := range series {
		sum += n
	}
	end := s.OutageFrom + s.OutageFor
	return []string{
		name, what, fmt.Sprintf("%.2f", float64(sum)/float64(len(series))), fmt.Sprint(peak(series, s.StartWithin+aftermath, s.OutageFrom)),
		fmt.Sprint(peak(series, s.OutageFrom, end)), fmt.Sprint(peak(series, end, end+aftermath)), fmt.Sprint(peak(series, end+aftermath, s.Length)), fmt.Sprint(sum),
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
