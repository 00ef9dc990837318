package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/entra"
)

const troubleshooting = "docs/troubleshooting.md"

// A row is one of a table's, without its head.
type row struct {
	cells []string
	line  int
}

// table is the first table below a heading.
func table(t *testing.T, page, heading string) (rows []row) {
	t.Helper()
	below := false
	for _, line := range linesOf(t, page) {
		isRow := strings.HasPrefix(line.text, "|") && !line.code
		switch {
		case strings.HasPrefix(line.text, "#") && !line.code:
			below = line.text == heading
		case below && isRow:
			cells := strings.Split(strings.Trim(line.text, "|"), " | ")
			rows = append(rows, row{cells, line.number})
		case below && len(rows) > 0:
			below = false
		}
	}
	require.Greater(t, len(rows), 3, "%s: %s has no table", page, heading)
	return rows[2:] // the head and the line below it
}

var span = regexp.MustCompile("`([^`]+)`")

// messages are what stands as code in the cell, with … for what differs.
func (r row) messages(cell int) (messages []string) {
	for _, found := range span.FindAllStringSubmatch(r.cells[cell], -1) {
		messages = append(messages, found[1])
	}
	return messages
}

// assertSays fails the test if said is not what the page has of it.
func assertSays(t *testing.T, pattern, said string) {
	t.Helper()
	rest := said
	for part := range strings.SplitSeq(pattern, "…") {
		part = strings.TrimSpace(part)
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			assert.Fail(t, "the page has other words", "page: %s\nreal: %s\nmissing: %q", pattern, said, part)
			return
		}
		rest = after
	}
}

func TestReadmeHasTheTroubleshootingTablesMessages(t *testing.T) {
	var known []string
	for _, heading := range []string{"## A refused login", "## Before the login: network, TLS, Entra"} {
		for _, r := range table(t, troubleshooting, heading) {
			known = append(known, r.messages(0)...)
		}
	}
	for _, c := range entra.Codes {
		for _, number := range c.Numbers {
			known = append(known, "AADSTS"+number)
		}
	}
	for _, r := range table(t, "README.md", "## When a login fails") {
		for _, message := range r.messages(0) {
			found := false
			for _, k := range known {
				found = found || strings.HasPrefix(k, message)
			}
			assert.True(t, found, "README.md:%d: %s", r.line, message)
		}
	}
}

// TestReadmeHasTheMeasuredFigures compares its table with what make bench has written.
func TestReadmeHasTheMeasuredFigures(t *testing.T) {
	results, err := os.ReadFile(filepath.Join(root, "bench/RESULTS.md"))
	require.NoError(t, err)
	measured := false
	for _, line := range linesOf(t, "README.md") {
		switch {
		case strings.HasPrefix(line.text, "|  | plain pgxpool"):
			measured = true
		case !strings.HasPrefix(line.text, "|"):
			measured = false
		}
		if measured && !strings.HasPrefix(line.text, "|---") {
			assert.Contains(t, string(results), "\n"+line.text, "README.md:%d", line.number)
		}
	}
}

func TestReadmeIsReadInTenMinutes(t *testing.T) {
	assert.LessOrEqual(t, len(linesOf(t, "README.md")), 191, "190 lines, and what follows the last line's end")
}
