// Package docs_test holds the Markdown pages against the repository: their Go code compiles, their links lead
// somewhere, and the messages and figures that they repeat are the real ones.
package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// root is the repository's folder, from here.
const root = "../.."

// pages are the Markdown files of the repository, by their path in it.
func pages(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules"):
			return filepath.SkipDir
		case !entry.IsDir() && filepath.Ext(name) == ".md":
			path, err = filepath.Rel(root, path)
			paths = append(paths, filepath.ToSlash(path))
		}
		return err
	})
	require.NoError(t, err)
	require.Contains(t, paths, "README.md")
	return paths
}

// A line is one of a page's.
type line struct {
	text   string
	number int
	code   bool // in a fenced block, or one of its fences
}

func linesOf(t *testing.T, page string) (lines []line) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	inside := false
	for i, text := range strings.Split(string(text), "\n") {
		fence := strings.HasPrefix(strings.TrimSpace(text), "```")
		lines = append(lines, line{text, i + 1, inside || fence})
		inside = inside != fence
	}
	require.False(t, inside, "%s has a block without an end", page)
	return lines
}
