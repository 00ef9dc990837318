package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/aadpool/aadpool/aadpooltest"
)

const (
	callers        = 100
	callsOfEach    = 10
	betweenCalls   = time.Second // of a caller, so that all make their calls in ten seconds
	callTarget     = 10 * time.Millisecond
	passwordRounds = 3
)

// A passwordWay is how aadpool token gets its token.
type passwordWay struct {
	name         string
	hasAgent     bool
	took, worked []float64 // of each call, in ms: until it has ended, and of the processor's time
	requests     int       // at Entra, in the last round
}

// measurePasswordCommand has a hundred programs run aadpool token for each of their connections, beside an agent and
// without one, in turns. The authority is in this process, and answers at once.
func (b *bench) measurePasswordCommand(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "aadpool-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := b.buildProxy(ctx, dir); err != nil {
		return err
	}
	rounds := passwordRounds
	if b.quick {
		rounds = 1
	}
	ways := []*passwordWay{{name: "beside aadpool agent", hasAgent: true}, {name: "alone"}}
	for range rounds {
		for _, way := range ways {
			if err := way.round(ctx, dir); err != nil {
				return fmt.Errorf("aadpool token %s: %w", way.name, err)
			}
		}
	}
	b.reportPasswordCommand(ways)
	return nil
}

// round is a round on a machine that has just started: with an authority of its own, and an agent if the way has one.
func (w *passwordWay) round(ctx context.Context, dir string) (err error) {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		return err
	}
	defer authority.Close()
	environment, err := passwordEnvironment(authority, dir)
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "aadpool")
	if w.hasAgent {
		agent := exec.CommandContext(ctx, program, "agent")
		agent.Env = environment
		stop, err := start(agent)
		if err != nil {
			return err
		}
		defer stop()
		if err := awaitAgent(ctx, dir); err != nil {
			return err
		}
	}
	took, worked := make([][]float64, callers), make([][]float64, callers)
	errs := make([]error, callers)
	var calling sync.WaitGroup
	for i := range callers {
		calling.Go(func() { took[i], worked[i], errs[i] = call(ctx, program, environment) })
	}
	calling.Wait()
	for i := range callers {
		w.took, w.worked = append(w.took, took[i]...), append(w.worked, worked[i]...)
	}
	w.requests = authority.Requests()
	return errors.Join(errs...)
}

// passwordEnvironment is that of a service principal with a secret.
func passwordEnvironment(authority *aadpooltest.Authority, dir string) ([]string, error) {
	trust, err := authority.TrustEnv(dir)
	if err != nil {
		return nil, err
	}
	environment := append(os.Environ(), "AADPOOL_AGENT_DIR="+filepath.Join(dir, "agent"),
		"AADPOOL_CREDENTIAL=environment", "AADPOOL_DISABLE_INSTANCE_DISCOVERY=true", "AADPOOL_TIMEOUT=1m")
	for _, variables := range []map[string]string{trust, authority.ClientSecretEnv(register(authority))} {
		for name, value := range variables {
			environment = append(environment, name+"="+value)
		}
	}
	return environment, nil
}

// awaitAgent waits until an agent has its socket, at which it answers once it has a token.
func awaitAgent(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		found, err := filepath.Glob(filepath.Join(dir, "agent", "token-*.sock"))
		if err != nil || found != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("there is no socket of an agent")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// call makes the calls of one caller, who begins at some moment.
func call(ctx context.Context, program string, environment []string) (took, worked []float64, err error) {
	next := time.Now().Add(rand.N(betweenCalls))
	for range callsOfEach {
		time.Sleep(time.Until(next))
		next = next.Add(betweenCalls)
		cmd := exec.CommandContext(ctx, program, "token")
		cmd.Env = environment
		start := time.Now()
		if _, err := cmd.Output(); err != nil {
			return nil, nil, err
		}
		took = append(took, milliseconds(time.Since(start)))
		worked = append(worked, milliseconds(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
	}
	return took, worked, nil
}

func (b *bench) reportPasswordCommand(ways []*passwordWay) {
	table := [][]string{{"aadpool token", "p50, ms", "p95, ms", "processor's time, ms", "requests to Entra"}}
	for _, w := range ways {
		table = append(table, []string{w.name, fmt.Sprintf("%.1f", quantile(w.took, 0.5)),
			fmt.Sprintf("%.1f", quantile(w.took, 0.95)), fmt.Sprintf("%.1f", quantile(w.worked, 0.5)), fmt.Sprint(w.requests)})
	}
	b.add(section{
		Title: "aadpool token for each connection",
		Text: fmt.Sprintf("%d programs run aadpool token as their password command, %d times each in ten seconds: %d calls, "+
			"in turns beside an agent and alone. A call is a process, from its start to its end; the processor's time is its "+
			"own. Entra's stand-in answers at once: a real one takes tens of milliseconds more.", callers, callsOfEach,
			callers*callsOfEach),
		Table: table,
	})
	beside := ways[0]
	median := quantile(beside.took, 0.5)
	b.report.verdicts = append(b.report.verdicts,
		verdict{fmt.Sprintf("password command: requests to Entra for %d calls: 1", callers*callsOfEach),
			fmt.Sprint(beside.requests), beside.requests == 1},
		verdict{fmt.Sprintf("password command: p50 of a call with %d callers: under 10 ms", callers),
			fmt.Sprintf("%.1f ms", median), median < milliseconds(callTarget)})
}
