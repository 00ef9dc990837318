package child

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// SameSignal is how long the signal that has ended the program is the same one when it comes again: timeout(1) for one
// sends it to its process and to its process group.
const SameSignal = time.Second

// UntilSignal returns a context that the first SIGINT or SIGTERM ends, for the program to end in order. Another one
// ends the program at once, unless it is for a program that it runs.
func UntilSignal() (ctx context.Context, stop func()) {
	ctx, end := context.WithCancel(context.Background())
	h := newHeeder(end, func(s os.Signal) {
		if !runs.Load() {
			// Not by the signal itself: a shell has SIGINT ignored in what it starts with &.
			os.Exit(int(statusOf(s)))
		}
	})
	signal.Notify(h.signals, os.Interrupt, syscall.SIGTERM)
	heeding.Store(h)
	go h.heed()
	return ctx, func() { signal.Stop(h.signals); end() }
}

// heeding is UntilSignal's; nil: there is none.
var heeding atomic.Pointer[heeder]

// A heeder calls first for the first of the signals, and again for the others, but for the same one within a moment.
type heeder struct {
	signals  chan os.Signal
	caughtUp chan chan<- struct{} // of whoever wants to know that what has come so far is heeded
	first    func()
	again    func(os.Signal)

	ended os.Signal // the first; nil: none has come
	at    time.Time // when it came
}

func newHeeder(first func(), again func(os.Signal)) *heeder {
	return &heeder{signals: make(chan os.Signal, 16), caughtUp: make(chan chan<- struct{}), first: first, again: again}
}

// heed goes on until signals is closed.
func (h *heeder) heed() {
	for {
		select {
		case s, ok := <-h.signals:
			if !ok {
				return
			}
			h.take(s)
		case tell := <-h.caughtUp:
			for len(h.signals) > 0 {
				h.take(<-h.signals)
			}
			close(tell)
		}
	}
}

func (h *heeder) take(s os.Signal) {
	switch {
	case h.ended == nil:
		h.ended, h.at = s, time.Now()
		h.first()
	case s != h.ended || time.Since(h.at) >= SameSignal:
		h.again(s)
	}
}

// catchUp returns when the signals that have come so far are heeded.
func (h *heeder) catchUp() {
	done := make(chan struct{})
	h.caughtUp <- done
	<-done
}

// statusOf is the exit status of a program that a signal has ended, as a shell has it.
func statusOf(s os.Signal) diag.Status {
	number, ok := s.(syscall.Signal)
	if !ok {
		return diag.Interrupted
	}
	return diag.Status(128 + int(number))
}
