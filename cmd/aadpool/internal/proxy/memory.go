package proxy

import (
	"runtime/debug"
	"sync"
	"time"
)

// A login costs some 50 kB, most of which is garbage when the session begins. Sessions that are up allocate next to
// nothing, and so nothing would have that garbage collected for two minutes.
const (
	releaseAfter    = 3 * time.Second // without a login
	releaseConnects = 50
)

// memoryRelease gives memory back to the system when many logins are over. The zero value is ready.
type memoryRelease struct {
	mu       sync.Mutex // guards what follows
	connects int        // since the last time
	timer    *time.Timer
}

// connected counts a login.
func (r *memoryRelease) connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connects++; r.connects < releaseConnects {
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(releaseAfter, r.release)
		return
	}
	r.timer.Reset(releaseAfter)
}

func (r *memoryRelease) release() {
	r.mu.Lock()
	r.connects = 0
	r.mu.Unlock()
	debug.FreeOSMemory()
}

// stop has it do nothing more.
func (r *memoryRelease) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
