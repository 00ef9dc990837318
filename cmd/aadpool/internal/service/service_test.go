package service

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A step of a service's life: something happens, and it tells something.
type step struct {
	name string
	do   func(r *rig)
	want []status
}

// A rig is a service manager and a program.
type rig struct {
	t        *testing.T
	requests chan request
	ready    chan struct{}
	mu       sync.Mutex // guards told
	told     []status
	program  context.Context // the program's
	exit     chan int
	result   chan int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, requests: make(chan request), ready: make(chan struct{}, 1), exit: make(chan int),
		result: make(chan int, 1)}
	go func() {
		r.result <- control(r.requests, r.ready, r.tell,
			func(ctx context.Context) int { r.program = ctx; return <-r.exit })
	}()
	synctest.Wait()
	return r
}

func (r *rig) tell(s status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, s)
}

// hear is what it has told since the last time.
func (r *rig) hear() (told []status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told, r.told = r.told, nil
	return told
}

func (r *rig) ask(asked ...request) {
	for _, a := range asked {
		r.requests <- a
	}
}

func TestLifeOfAService(t *testing.T) {
	begin := step{"it begins", func(*rig) {}, []status{{starting, 0}}}
	isReady := step{"it is ready", func(r *rig) { r.ready <- struct{}{} }, []status{{running, 0}}}
	for _, row := range []struct {
		name  string
		steps []step
		ends  bool // its context has
		exit  int
	}{
		{"it is told to stop, and drains", []step{begin, isReady,
			{"it is asked how it does", func(r *rig) { r.ask(interrogate) }, []status{{running, 0}}},
			{"time passes", func(*rig) { time.Sleep(time.Hour) }, nil},
			{"it is told to stop", func(r *rig) { r.ask(stop) }, []status{{stopping, 0}}},
			{"and again", func(r *rig) { r.ask(stop) }, []status{{stopping, 0}}},
			{"it drains", func(*rig) { time.Sleep(2 * progressPause) }, []status{{stopping, 1}, {stopping, 2}}},
		}, true, 0},
		{"it takes its time to start", []step{begin,
			{"it connects", func(*rig) { time.Sleep(2 * progressPause) }, []status{{starting, 1}, {starting, 2}}},
			isReady}, false, 0},
		{"it cannot start", []step{begin}, false, 6},
		{"it is ready after it has been told to stop", []step{begin,
			{"it is told to stop", func(r *rig) { r.ask(stop) }, []status{{stopping, 0}}},
			{"it is ready", func(r *rig) { r.ready <- struct{}{} }, nil}}, true, 0},
		{"it fails while it runs", []step{begin, isReady}, false, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				for _, s := range row.steps {
					s.do(r)
					synctest.Wait()
					assert.Equal(t, s.want, r.hear(), s.name)
				}
				assert.Equal(t, row.ends, r.program.Err() != nil)
				r.exit <- row.exit
				assert.Equal(t, row.exit, <-r.result)
			})
		})
	}
}

func TestLevelOfALine(t *testing.T) {
	for line, want := range map[string]slog.Level{
		`time=2026-01-01T00:00:00Z level=INFO msg=listening address=127.0.0.1:5432`:       slog.LevelInfo,
		`{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"a client got no session"}`:  slog.LevelWarn,
		`time=2026-01-01T00:00:00Z level=DEBUG msg="a cancel request is for level=ERROR"`: slog.LevelDebug,
		`aadpool: the DSN would send a token in the clear`:                                slog.LevelError,
	} {
		assert.Equal(t, want, levelOf([]byte(line)), line)
	}
}
