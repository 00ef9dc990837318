package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The root imports rooms and hands them functions: arrows go down only.
func TestNoRoomKnowsTheRoot(t *testing.T) {
	const module = "github.com/aadpool/aadpool"
	command := exec.Command("go", "list", "-deps", "./internal/...")
	command.Dir = root
	out, err := command.Output()
	require.NoError(t, err)
	packages := strings.Fields(string(out))
	assert.Contains(t, packages, module+"/internal/replace")
	assert.NotContains(t, packages, module)
}

func TestRootHasFewFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	require.NoError(t, err)
	assert.NotEmpty(t, files)
	assert.LessOrEqual(t, len(files), 20, "what a user calls, and its tests; a mechanism has a room in internal/")
}

// Package main of the command has what cannot stand below it; what it does has rooms, where their tests can be.
func TestMainOfTheCommandHasFewFiles(t *testing.T) {
	command := exec.Command("go", "list", "-f", "{{len .GoFiles}}", ".")
	command.Dir = filepath.Join(root, "cmd", "aadpool")
	out, err := command.Output()
	require.NoError(t, err)
	files, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	assert.LessOrEqual(t, files, 2)
}

// place is a file of code, or a folder with some, as CONTRIBUTING.md's tables name it.
var place = regexp.MustCompile("`((?:internal|cmd)/[\\w./-]+|[\\w/]+\\.go)`")

func TestPlacesThatContributingNamesAreThere(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	require.NoError(t, err)
	var places []string
	require.NoError(t, filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.Name() == ".git" && entry.IsDir() {
			return filepath.SkipDir
		}
		places = append(places, filepath.ToSlash(path))
		return err
	}))
	named := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		for _, match := range place.FindAllStringSubmatch(line, -1) {
			named++
			isThere := func(path string) bool { return strings.HasSuffix(path, "/"+strings.TrimSuffix(match[1], "/")) }
			assert.True(t, slices.ContainsFunc(places, isThere), "%s: %s", match[1], line)
		}
	}
	assert.Greater(t, named, 20)
}
