package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// name is the event log's source. As a service has its process for itself, Windows does not look at the name of that.
const name = "aadpool"

// Run runs the program as a service of Windows, if it has been started as one, and returns its exit status. Its log
// goes to the event log. is is false if it has not.
func Run(run func(ctx context.Context, log io.Writer) int) (status int, is bool) {
	if is, err := svc.IsWindowsService(); err != nil || !is {
		return 0, false
	}
	// A service hears of each user that logs off, as SIGTERM, and ends by its requests alone.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, os.Interrupt, syscall.SIGTERM)
	var log io.Writer = io.Discard
	if events, err := eventlog.Open(name); err == nil {
		defer events.Close()
		log = eventWriter{events}
	}
	h := &handler{run: func(ctx context.Context) int { return run(ctx, log) }}
	if err := svc.Run(name, h); err != nil {
		fmt.Fprintln(log, "aadpool: running as a service:", err)
		return 1, true
	}
	return h.status, true
}

// A handler is what Windows calls.
type handler struct {
	run    func(context.Context) int
	status int
}

// Execute implements [svc.Handler].
func (h *handler) Execute(_ []string, changes <-chan svc.ChangeRequest, told chan<- svc.Status) (bool, uint32) {
	requests, over := make(chan request), make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case change := <-changes:
				select {
				case requests <- requestOf(change.Cmd):
				case <-over:
					return
				}
			case <-over:
				return
			}
		}
	}()
	h.status = control(requests, ready, func(s status) { told <- statusOf(s) }, h.run)
	return true, uint32(h.status)
}

func requestOf(c svc.Cmd) request {
	switch c {
	case svc.Stop, svc.Shutdown, svc.PreShutdown:
		return stop
	}
	return interrogate
}

func statusOf(s status) svc.Status {
	switch s.state {
	case running:
		return svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown}
	case stopping:
		return svc.Status{State: svc.StopPending, CheckPoint: s.checkPoint, WaitHint: uint32(waitHint.Milliseconds())}
	}
	return svc.Status{State: svc.StartPending, CheckPoint: s.checkPoint, WaitHint: uint32(waitHint.Milliseconds())}
}

// An eventWriter writes each line of the log to the event log, as an event of its level.
type eventWriter struct{ log *eventlog.Log }

func (w eventWriter) Write(line []byte) (int, error) {
	const event = 1 // the message is all that there is
	text, write := strings.TrimSuffix(string(line), "\n"), w.log.Info
	switch level := levelOf(line); {
	case level >= slog.LevelError:
		write = w.log.Error
	case level >= slog.LevelWarn:
		write = w.log.Warning
	}
	if err := write(event, text); err != nil {
		return 0, err
	}
	return len(line), nil
}
