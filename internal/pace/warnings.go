package pace

import (
	"sync"
	"time"
)

const (
	warnAgainAfter = 30 * time.Second
	maxWarnings    = 64 // bounds the map: a server may send any SQLSTATE
)

// Warnings limits how often the same warning is logged while a pool goes on trying. The zero value is ready.
type Warnings struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// IsDue reports whether to log the warning that key stands for, and counts it as logged.
func (w *Warnings) IsDue(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if last, ok := w.last[key]; ok && now.Sub(last) < warnAgainAfter {
		return false
	}
	if w.last == nil || len(w.last) >= maxWarnings {
		w.last = make(map[string]time.Time)
	}
	w.last[key] = now
	return true
}
