// Package leaktest is goleak for a machine that is busy. Some goroutines end a moment after what began them has been
// closed, and nobody waits for them: of a pgxpool, of an HTTP transport, of a fetch that goes on for nobody. goleak
// looks for half a second. Here they have a minute.
package leaktest

import (
	"time"

	"go.uber.org/goleak"
)

// VerifyTestMain is goleak's.
func VerifyTestMain(m goleak.TestingM) { goleak.VerifyTestMain(patient{m}) }

type patient struct{ goleak.TestingM }

func (m patient) Run() int {
	status := m.TestingM.Run()
	if status == 0 {
		_ = Find() // VerifyTestMain tells what is left
	}
	return status
}

// Find is goleak's.
func Find() (err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}
