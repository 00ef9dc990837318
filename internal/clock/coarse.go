// Package clock tells the time for less than the machine's own clock does.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tick is how often a Coarse reads the machine's clock.
	tick = 250 * time.Millisecond

	// Ahead is how much later than that reading Soon is at most: a tick, and what a timer may be late on a busy machine.
	Ahead = time.Second
)

// A Coarse knows a moment that has not come yet, so that whoever waits for a later one need not read the machine's
// clock, which takes longer than all else that an acquire has to do. It ticks only while somebody asks: at rest it does
// nothing. The zero value is ready. Its methods may be called from several goroutines.
type Coarse struct {
	soon  atomic.Int64 // zero at rest
	inUse atomic.Bool  // since the last tick

	mu    sync.Mutex // guards what follows, and the change between rest and ticking
	timer *time.Timer
}

// Soon is a moment within the next second, by the wall clock, in Unix milliseconds. For a quarter of a second after the
// machine has slept, or its clock has been set, it may be off by as much.
func (c *Coarse) Soon() int64 {
	soon := c.soon.Load()
	if soon == 0 {
		return c.start()
	}
	if !c.inUse.Load() { // most callers find it set, and leave it shared between the processors
		c.inUse.Store(true)
	}
	return soon
}

func (c *Coarse) start() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if soon := c.soon.Load(); soon != 0 {
		return soon
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(tick, c.tick)
	} else {
		c.timer.Reset(tick)
	}
	return c.read()
}

func (c *Coarse) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inUse.Swap(false) {
		c.soon.Store(0)
		return
	}
	c.timer.Reset(tick)
	c.read()
}

// read is called with c.mu held.
func (c *Coarse) read() int64 {
	soon := time.Now().Add(Ahead).UnixMilli()
	c.soon.Store(soon)
	return soon
}
