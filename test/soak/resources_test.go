package soak_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/aadpooltest"
)

// usage is what the process uses.
type usage struct {
	goroutines int
	files      int    // file descriptors; 0 where the system does not list them
	heap       uint64 // bytes, after a garbage collection
}

func measure() usage {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	// Linux and macOS.
	entries, _ := os.ReadDir("/dev/fd")
	return usage{runtime.NumGoroutine(), len(entries), memory.HeapAlloc}
}

// resources are samples of what the soak uses.
type resources struct {
	samples []usage
	logins  []int // that the stand-in for the server had recorded at each sample
	end     usage
}

// sample measures some dozens of times until ctx ends.
func (r *resources) sample(ctx context.Context, length time.Duration, server *aadpooltest.Server) {
	ticks := time.NewTicker(max(length/100, 250*time.Millisecond))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			r.samples = append(r.samples, measure())
			r.logins = append(r.logins, len(server.Logins()))
		}
	}
}

// longSoak is how long a soak needs to be for its first third to be like its last.
const longSoak = 2 * time.Minute

// check compares the last third of a long soak with its first, and what is left after any soak with what there was
// before.
func (r *resources) check(t *testing.T, length time.Duration, before usage, logins int) {
	t.Helper()
	const perLogin = 512 // bytes that the stand-in for the server keeps of each login
	if length >= longSoak {
		first, last := r.third(0), r.third(2)
		assert.LessOrEqual(t, last.goroutines, first.goroutines+first.goroutines/4+20, "goroutines, last third against first")
		assert.LessOrEqual(t, last.files, first.files+first.files/4+10, "file descriptors, last third against first")
		assert.LessOrEqual(t, last.heap, first.heap+4<<20+uint64(logins)*perLogin, "bytes in use, last third against first")
	}
	// What the pool and the servers leave behind takes a moment to end.
	assert.Eventually(t, func() bool {
		r.end = measure()
		return r.end.goroutines <= before.goroutines+2 && r.end.files <= before.files+2
	}, time.Minute, 100*time.Millisecond, "what is left when all is closed")
	assert.LessOrEqual(t, r.end.heap, before.heap+4<<20+uint64(logins)*perLogin, "bytes in use when all is closed")
	t.Logf("resources before: %d goroutines, %d files, %d kB", before.goroutines, before.files, before.heap>>10)
}

// third is the median of a third of the samples: 0 is the first, 2 the last.
func (r *resources) third(n int) usage {
	samples := r.samples[len(r.samples)*n/3 : len(r.samples)*(n+1)/3]
	median := func(of func(usage) int) int {
		var values []int
		for _, s := range samples {
			values = append(values, of(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return usage{
		goroutines: median(func(u usage) int { return u.goroutines }),
		files:      median(func(u usage) int { return u.files }),
		heap:       uint64(median(func(u usage) int { return int(u.heap) })),
	}
}

func (r *resources) String() string {
	text := func(u usage) string {
		return fmt.Sprintf("%d goroutines, %d files, %d kB", u.goroutines, u.files, u.heap>>10)
	}
	if len(r.samples) < 3 {
		return text(r.end) + " at the end"
	}
	return fmt.Sprintf("%s (median of the first third); %s (of the last); %s (when all is closed)", text(r.third(0)),
		text(r.third(2)), text(r.end))
}
