package child

import (
	"context"
	"os"
	"os/signal"
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
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go heed(signals, end, func(s os.Signal) {
		if !runs.Load() {
			// Not by the signal itself: a shell has SIGINT ignored in what it starts with &.
			os.Exit(int(statusOf(s)))
		}
	})
	return ctx, func() { signal.Stop(signals); end() }
}

// heed calls first for the first of the signals, and again for the others, but for the same one within a moment.
func heed(signals <-chan os.Signal, first func(), again func(os.Signal)) {
	ended := <-signals
	at := time.Now()
	first()
	for s := range signals {
		if s != ended || time.Since(at) >= SameSignal {
			again(s)
		}
	}
}

// statusOf is the exit status of a program that a signal has ended, as a shell has it.
func statusOf(s os.Signal) diag.Status {
	number, ok := s.(syscall.Signal)
	if !ok {
		return diag.Interrupted
	}
	return diag.Status(128 + int(number))
}
