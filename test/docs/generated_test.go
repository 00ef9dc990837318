package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/entra"
	"github.com/aadpool/aadpool/internal/refusal"
)

// writeEnv has the tests of generated tables write them: UPDATE_DOCS=1 go test ./test/docs
const writeEnv = "UPDATE_DOCS"

// TestTablesAreThoseOfTheCode compares the tables of docs/troubleshooting.md with those that the code reads.
func TestTablesAreThoseOfTheCode(t *testing.T) {
	for name, lines := range map[string][]string{"refusals": refusals(), "servers": servers(), "codes": codes()} {
		t.Run(name, func(t *testing.T) { section(t, filepath.Join(root, troubleshooting), name, lines) })
	}
}

// section compares what is between the marks of a name with lines, or writes it.
func section(t *testing.T, file, name string, lines []string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pattern := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]*-->\n).*?(<!-- end -->)`)
	require.Regexp(t, pattern, string(text))
	want := pattern.ReplaceAllStringFunc(string(text), func(found string) string {
		begin, _, _ := strings.Cut(found, "\n")
		return begin + "\n" + strings.Join(lines, "\n") + "\n<!-- end -->"
	})
	if os.Getenv(writeEnv) != "" {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(text), "run %s=1 go test ./test/docs", writeEnv)
}

var named = regexp.MustCompile(`"[^"]*"|\[[^]]*\]`)

// words are a server's, with … for names.
func words(example string) string {
	return "`" + named.ReplaceAllStringFunc(example, func(name string) string {
		return name[:1] + "…" + name[len(name)-1:]
	}) + "`"
}

// placeholders stand in the table for what Expand fills in.
var placeholders = strings.NewReplacer(
	"{role advice}", "set user= to the token's own role, or make the role that is missing; the error names both",
	"{create}", "`pgaadauth_create_principal_with_oid`", "{role}", "…", "{oid}", "…", "{size}", "more", "{kind}", "…",
	"{audience}", "…",
	"{principal}", "…", "|", "\\|", "<", "&lt;")

func refusals() []string {
	lines := []string{"| the server's words | SQLSTATE | reason | meaning | what to do |", "|---|---|---|---|---|"}
	for _, row := range refusal.Rows {
		if row.Reason != refusal.None {
			lines = append(lines, fmt.Sprintf("| %s | %s | `%s` | %s | %s |", words(row.Example), row.State, row.Reason,
				placeholders.Replace(row.Means), placeholders.Replace(row.Do)))
		}
	}
	return lines
}

func servers() []string {
	lines := []string{"| SQLSTATE | such as | cause | meaning | what to do |", "|---|---|---|---|---|"}
	for _, row := range refusal.Rows {
		code := row.Code
		if code == "" {
			code = row.State
		}
		if row.Reason == refusal.None {
			lines = append(lines, fmt.Sprintf("| %s | %s | `%s` | %s | %s |", code, words(row.Example), row.Cause,
				placeholders.Replace(row.Means), placeholders.Replace(row.Do)))
		}
	}
	return lines
}

func codes() []string {
	lines := []string{"| AADSTS… | such as | cause | meaning | what to do | where a person logs in |",
		"|---|---|---|---|---|---|"}
	for _, c := range entra.Codes {
		person := c.Person
		if person == "" {
			person = "the same"
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | `%s` | %s | %s | %s |", strings.Join(c.Numbers, ", "), c.Says, c.Cause,
			placeholders.Replace(c.Means), placeholders.Replace(c.Do), placeholders.Replace(person)))
	}
	return lines
}
