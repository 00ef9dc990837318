package clock

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

func TestSoonHasNotComeYetAndComesWithinASecond(t *testing.T) {
	for _, row := range []struct {
		name  string
		pause time.Duration
	}{
		{"asked all the time", time.Millisecond},
		{"asked as often as it ticks", tick},
		{"asked now and then: it begins anew", 10 * tick},
		{"asked once an hour", time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c Coarse
				for range 2000 {
					now, soon := time.Now(), time.UnixMilli(c.Soon())
					require.WithinRange(t, soon, now.Add(Ahead-tick), now.Add(Ahead))
					time.Sleep(row.pause)
				}
			})
		})
	}
}

func TestAtRestItDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Coarse
		assert.Zero(t, c.soon.Load(), "before anybody asks")
		c.Soon()
		c.Soon()
		time.Sleep(2*tick + 1)
		assert.Zero(t, c.soon.Load())
		assert.False(t, c.timer.Stop(), "no timer runs")
		c.Soon()
		assert.NotZero(t, c.soon.Load(), "and it begins again")
	})
}

func TestManyAskAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose timers are never late
		var c Coarse
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				for range 1000 {
					now := time.Now()
					assert.False(t, time.UnixMilli(c.Soon()).Before(now))
					time.Sleep(tick / 10)
				}
			})
		}
		asking.Wait()
	})
}

func TestAskingAllocatesNothing(t *testing.T) {
	var c Coarse
	c.Soon()
	assert.Zero(t, testing.AllocsPerRun(100, func() { c.Soon() }))
}

// What it saves.
func BenchmarkSoon(b *testing.B) {
	b.Run("coarse", func(b *testing.B) {
		var c Coarse
		for b.Loop() {
			c.Soon()
		}
	})
	b.Run("machine", func(b *testing.B) {
		for b.Loop() {
			_ = time.Now()
		}
	})
}
