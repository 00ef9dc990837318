package azuretest

import (
	"os/exec"
	"runtime/debug"
	"slices"
)

// Go is a command of go's that compiles, such as build, with what has it find the packages in its cache that have been
// compiled for this test.
func Go(command string, args ...string) *exec.Cmd {
	all := []string{command}
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		all = append(all, "-race")
	}
	return exec.Command("go", append(all, args...)...)
}
