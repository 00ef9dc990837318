// Package listen waits for notifications on a connection of its own, for as long as a service runs.
package listen

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool"
)

// maxPause is the longest pause before another try to connect. Each is spread, so that a fleet does not come at once.
const maxPause = 10 * time.Second

// A Listener passes on what is sent to a channel. Its connection is outside of any pool: one that waits would keep a
// slot for itself.
type Listener struct {
	Hook *aadpool.Hook // may be the one of a pool, for the same server or another
	// Config is how to connect, as pgx.ParseConfig made it. It is not changed.
	Config  *pgx.ConnConfig
	Channel string
	// Resume is called when a session has begun to listen. PostgreSQL keeps no notifications for those who are away:
	// this is the time to look up what has happened meanwhile.
	Resume func(context.Context, *pgx.Conn) error
	Notify func(payload string)
}

// Run listens until ctx ends, and returns its error. A session ends when its token does, as a pool's connections do,
// though PostgreSQL itself would let it go on; and when its connection breaks. Then comes the next one.
func (l *Listener) Run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		started, err := l.session(ctx)
		if started {
			failures = 0
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		pause := min(100*time.Millisecond<<min(failures, 10), maxPause)
		pause += rand.N(pause / 5)
		failures++
		slog.WarnContext(ctx, "listening ended and will be resumed", "channel", l.Channel, "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// session listens on one connection until its token ends, which is no error. It reports whether it has listened at all.
func (l *Listener) session(ctx context.Context) (started bool, err error) {
	config := l.Config.Copy() // for each connection anew: see Hook.BeforeConnect
	if err := l.Hook.BeforeConnect(ctx, config); err != nil {
		return false, err
	}
	session, cancel := context.WithDeadline(ctx, l.Hook.Stats().TokenExpires)
	defer cancel()
	conn, err := pgx.ConnectConfig(session, config)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(session, "listen "+pgx.Identifier{l.Channel}.Sanitize()); err != nil {
		return false, err
	}
	if err := l.Resume(session, conn); err != nil {
		return false, err
	}
	for {
		notification, err := conn.WaitForNotification(session)
		if session.Err() != nil {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		l.Notify(notification.Payload)
	}
}
