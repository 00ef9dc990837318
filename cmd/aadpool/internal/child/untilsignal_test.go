package child

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
				firsts, again := 0, false
				h := newHeeder(func() { firsts++ }, func(os.Signal) { again = true })
				go h.heed()
				h.signals <- syscall.SIGTERM
				synctest.Wait()
				assert.Equal(t, 1, firsts)
				time.Sleep(row.after)
				h.signals <- row.second
				synctest.Wait()
				assert.Equal(t, row.want, again)
				assert.Equal(t, 1, firsts)
				close(h.signals)
			})
		})
	}
}

// A signal that has come, and that nobody has looked at yet, is as good as one that has ended the context: the program
// that would be started hears nothing of it.
func TestASignalThatIsNotYetHeededKeepsAProgramFromStarting(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	h := newHeeder(end, nil)
	heeding.Store(h)
	defer heeding.Store(nil)
	defer close(h.signals)
	h.signals <- syscall.SIGTERM
	go func() {
		time.Sleep(50 * time.Millisecond) // as on a busy machine
		h.heed()
	}()
	err := Run(ctx, exec.Command("/there is none"), nil)
	require.EqualError(t, err, "interrupted")
}
