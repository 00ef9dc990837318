package child

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// RunAsInit runs this program again, as a child, where it is the first process of a container.
// The first process gets all those whose parents have ended, and nobody else can wait for them: they would fill the
// table of processes. One that starts programs cannot wait for whatever ends without taking from these what they wait
// for.
func RunAsInit(args []string) (code int, is bool) {
	if os.Getpid() != 1 {
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "aadpool: finding the program's own file:", err)
		return int(diag.Other), true
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	child := exec.Command(self, args...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "aadpool: starting it again:", err)
		return int(diag.Other), true
	}
	go func() {
		for s := range signals {
			passOn(s, child.Process, isInForeground)
		}
	}()
	return reapUntil(child.Process.Pid), true
}

// reapUntil waits for whatever ends, up to the child, and returns its status as a shell has it.
func reapUntil(child int) int {
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintln(os.Stderr, "aadpool: waiting for the command:", err)
			return int(diag.Other)
		case pid == child && status.Signaled():
			return 128 + int(status.Signal())
		case pid == child:
			return status.ExitStatus()
		}
	}
}
