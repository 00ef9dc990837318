package commandline

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is what the build has put into the binary: the module's version, the commit and its date, and Go's version.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	return describeBuild(info)
}

func describeBuild(info *debug.BuildInfo) string {
	var commit, date, state string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case "vcs.time":
			date, _, _ = strings.Cut(s.Value, "T")
		case "vcs.modified":
			if s.Value == "true" {
				state = ", changed since"
			}
		}
	}
	text := "aadpool " + cmp.Or(info.Main.Version, "(devel)")
	if commit != "" {
		text += fmt.Sprintf(" (commit %s of %s%s)", commit, date, state)
	}
	return fmt.Sprintf("%s, %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
