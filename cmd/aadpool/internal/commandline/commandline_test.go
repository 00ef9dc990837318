package commandline

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDescribeBuild(t *testing.T) {
	for _, row := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"by go install", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "aadpool v1.2.3, go"},
		{"from a clone", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.time", Value: "2026-11-25T22:00:00Z"}, {Key: "vcs.modified", Value: "false"}}},
			"aadpool (devel) (commit 0123456789ab of 2026-11-25), go"},
		{"with changes", debug.BuildInfo{Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123"}, {Key: "vcs.time", Value: "2026-11-25T22:00:00Z"},
			{Key: "vcs.modified", Value: "true"}}},
			"aadpool (devel) (commit 0123 of 2026-11-25, changed since), go"},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.True(t, strings.HasPrefix(describeBuild(&row.info), row.want), describeBuild(&row.info))
		})
	}
}

func TestRoffKeepsLinesThatLookLikeMacros(t *testing.T) {
	var r roff
	r.text(".PP is no macro\n'nor this\na\\b")
	assert.Equal(t, "\\&.PP is no macro\n\\&'nor this\na\\eb\n", r.String())
}

// PowerShell knows no quote but its own between single quotes: a path cannot end the word.
func TestPowerShellQuote(t *testing.T) {
	assert.Equal(t, `'C:/Users/O''Brien/$(calc)/aadpool.exe'`, powershellQuote("C:/Users/O'Brien/$(calc)/aadpool.exe"))
}
