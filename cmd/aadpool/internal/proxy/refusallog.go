package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusalsAtOnce is how long a refusal waits for others like it: a thousand clients that time out together are one
// line.
const refusalsAtOnce = time.Second

// A refusalLog logs refusals, those that are alike and come together in one line with their number.
type refusalLog struct {
	logger *slog.Logger

	mu      sync.Mutex // guards waiting
	waiting map[string]*refusalLine
}

// A refusalLine is one that waits.
type refusalLine struct {
	level   slog.Level
	attrs   []any // of the first
	clients int
	timer   *time.Timer
}

// add logs a refusal in a moment. Those with the same key are alike.
func (l *refusalLog) add(level slog.Level, key string, attrs []any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.waiting[key]; line != nil {
		line.clients++
		return
	}
	if l.waiting == nil {
		l.waiting = map[string]*refusalLine{}
	}
	timer := time.AfterFunc(refusalsAtOnce, func() { l.write(key) })
	l.waiting[key] = &refusalLine{level: level, attrs: attrs, clients: 1, timer: timer}
}

// write logs the line with this key, if it still waits.
func (l *refusalLog) write(key string) {
	l.mu.Lock()
	line := l.waiting[key]
	delete(l.waiting, key)
	l.mu.Unlock()
	if line == nil {
		return
	}
	line.timer.Stop()
	if line.clients > 1 {
		line.attrs = append(line.attrs, "clients", line.clients)
	}
	l.logger.Log(context.Background(), line.level, "a client got no session", line.attrs...)
}

// flush logs all that wait.
func (l *refusalLog) flush() {
	l.mu.Lock()
	var keys []string
	for key := range l.waiting {
		keys = append(keys, key)
	}
	l.mu.Unlock()
	for _, key := range keys {
		l.write(key)
	}
}
