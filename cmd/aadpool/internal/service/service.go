// Package service tells the system how a program does that runs as its service: systemd, and the service control
// manager of Windows.
package service

import (
	"context"
	"log/slog"
	"regexp"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// ready has something in it when the program is.
var ready = make(chan struct{}, 1)

// Ready is for a program that has begun to serve:
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func Ready() error {
	select {
	case ready <- struct{}{}:
	default: // nobody has heard the first time
	}
	_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
	return err
}

// Stopping is for one that has been told to end. Windows knows, since that has told it.
func Stopping() error {
	_, err := daemon.SdNotify(false, daemon.SdNotifyStopping)
	return err
}

// A state of a service of Windows: https://learn.microsoft.com/windows/win32/services/service-status-transitions
type state int

const (
	starting state = iota
	running
	stopping
)

// A status is what a service tells. The check point grows while it starts, or stops: it is still at it.
type status struct {
	state      state
	checkPoint uint32
}

// A request is what a service is asked.
type request int

const (
	interrogate request = iota
	stop
)

// A service that starts or stops tells so each progressPause. Without a word in waitHint it is taken to hang.
const (
	progressPause = 2 * time.Second
	waitHint      = 10 * time.Second
)

// control runs a program as a service. It ends the program's context when it is asked to stop, and returns the
// program's exit status when that has ended: a proxy ends its sessions first.
func control(
	requests <-chan request, ready <-chan struct{}, tell func(status), run func(context.Context) int,
) int {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx) }()
	progress := time.NewTicker(progressPause)
	defer progress.Stop()
	now := status{state: starting}
	tell(now)
	for {
		select {
		case code := <-ended:
			return code
		case <-ready:
			if now.state != starting {
				continue
			}
			now = status{state: running}
		case asked := <-requests:
			if asked == stop && now.state != stopping {
				now = status{state: stopping}
				end()
			}
		case <-progress.C:
			if now.state == running {
				continue
			}
			now.checkPoint++
		}
		tell(now)
	}
}

// levelInLine is a record's, in text or JSON.
var levelInLine = regexp.MustCompile(`\blevel"?[=:]"?(DEBUG|INFO|WARN|ERROR)\b`)

// levelOf is that of a line of the log. What has none is the program's last word.
func levelOf(line []byte) (level slog.Level) {
	found := levelInLine.FindSubmatch(line)
	if found == nil || level.UnmarshalText(found[1]) != nil {
		return slog.LevelError
	}
	return level
}
