package main

import (
	"context"
	"sync"
	"time"

	"github.com/aadpool/aadpool"
)

// waits are those of connects for a token.
type waits struct {
	mu    sync.Mutex // guards ended
	ended []endedWait
}

type endedWait struct {
	at   time.Time
	took time.Duration
}

// add is an [aadpool.Observer]'s Waited.
func (w *waits) add(_ context.Context, wait aadpool.Waited) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, endedWait{time.Now(), wait.Duration})
}

// longestSince is the longest wait that ended after t.
func (w *waits) longestSince(t time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wait := range w.ended {
		if wait.at.After(t) {
			longest = max(longest, wait.took)
		}
	}
	return longest
}
