package proxy

import (
	"runtime/debug"
	"sync"
	"time"
)

// A login costs some 50 kB, most of which is garbage when the session begins. Sessions that are up allocate next to
// nothing, and so nothing would have that garbage collected for two minutes.
const (
	tidyAfter    = 3 * time.Second // without a login
	tidyConnects = 50
)

// tidier gives memory back to the system when many logins are over. The zero value is ready.
type tidier struct {
	mu       sync.Mutex // guards what follows
	connects int        // since the last time
	timer    *time.Timer
}

// connected counts a login.
func (t *tidier) connected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connects++; t.connects < tidyConnects {
		return
	}
	if t.timer == nil {
		t.timer = time.AfterFunc(tidyAfter, t.tidy)
		return
	}
	t.timer.Reset(tidyAfter)
}

func (t *tidier) tidy() {
	t.mu.Lock()
	t.connects = 0
	t.mu.Unlock()
	debug.FreeOSMemory()
}

// stop has it do nothing more.
func (t *tidier) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}
