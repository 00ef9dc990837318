package child

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	for _, row := range []struct {
		name   string
		second os.Signal
		after  time.Duration
		want   bool
	}{
		{"the same at once, as timeout(1) sends it", syscall.SIGTERM, 0, false},
		{"the same within a second", syscall.SIGTERM, 999 * time.Millisecond, false},
		{"the same after a second", syscall.SIGTERM, time.Second, true},
		{"another at once", os.Interrupt, 0, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, firsts, again := make(chan os.Signal), 0, false
				go heed(signals, func() { firsts++ }, func(os.Signal) { again = true })
				signals <- syscall.SIGTERM
				synctest.Wait()
				assert.Equal(t, 1, firsts)
				time.Sleep(row.after)
				signals <- row.second
				synctest.Wait()
				assert.Equal(t, row.want, again)
				assert.Equal(t, 1, firsts)
				close(signals)
			})
		})
	}
}
