package dsn

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of parameters into docs/networking.md")

const docs = "../../docs/networking.md"

// table is that of docs/networking.md: a row for each advice on a program's parameters.
func table() string {
	text := "| parameter | whose | what becomes of it | what to write, or why |\n|---|---|---|---|\n"
	var rows []string
	names := map[string][]string{}
	for _, p := range indexed().all {
		if p.treated == passed {
			continue
		}
		row := fmt.Sprintf("%s | %s | %s |", p.whose, p.treated, p.instead)
		if names[row] == nil {
			rows = append(rows, row)
		}
		names[row] = append(names[row], "`"+p.name+"`")
		for _, value := range slices.Sorted(maps.Keys(p.values)) {
			why := p.values[value]
			rows = append(rows, fmt.Sprintf("%s | %s | %s |", p.whose, ignored, why))
			names[rows[len(rows)-1]] = append(names[rows[len(rows)-1]], "`"+p.name+"="+value+"`")
		}
	}
	for _, row := range rows {
		if names[row] != nil {
			text += "| " + strings.Join(names[row], ", ") + " | " + row + "\n"
			names[row] = nil
		}
	}
	return text
}

func TestDocsHaveTheTableOfParameters(t *testing.T) {
	page, err := os.ReadFile(docs)
	require.NoError(t, err)
	const begin, end = "<!-- written by go test ./internal/dsn -run TestDocs -update -->\n",
		"<!-- end of what is written -->"
	before, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok, "the page has a place for it")
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := before + begin + table() + end + after
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(want), 0o644))
		return
	}
	assert.True(t, want == string(page), "run go test ./internal/dsn -run TestDocs -update")
}
