//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"attr","Package":"p","Test":"TestPrimaryIsKilled","Key":"aadpool/first+write","Value":"5ms"}
{"Action":"attr","Package":"p","Test":"TestPrimaryIsKilled","Key":"pgxpool/first+write","Value":"7ms"}
{"Action":"attr","Package":"p","Test":"TestA","Key":"on","Value":"PostgreSQL 15.18"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:12: \n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"        \tError:      \tNot equal | at all\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"        \t            \texpected: 1\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"        \t            \tactual  : 2\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:7: no disk to fill\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`

func TestResultOfGoTest(t *testing.T) {
	r := result{counts: map[string]int{}}
	assert.NoError(t, r.read(strings.NewReader(events)))
	assert.Equal(t, map[string]int{"pass": 1, "fail": 1, "skip": 1}, r.counts)
	assert.Equal(t, []outcome{{"TestB", "Not equal | at all 1 2"}}, r.failed)
	assert.Equal(t, []outcome{{"TestC", "no disk to fill"}}, r.skipped)
	assert.Equal(t, "PostgreSQL 15.18", r.on)
	assert.False(t, r.passed())
	assert.Equal(t, "1 passed, **1 failed**, 1 skipped", r.summary())
	assert.Equal(t, [][]string{
		{"", "aadpool", "pgxpool"}, {"---", "---", "---"}, {"Primary is killed: first write", "5ms", "7ms"},
	}, figures([]result{r}))
}

func TestATestThatIsSkippedEverywhereIsNamedOnce(t *testing.T) {
	everywhere, once := outcome{"TestC", "no disk to fill"}, outcome{"TestD", "zsh is not installed"}
	assert.Equal(t, []string{"the command: TestC: no disk to fill", "the command on 15: TestD: zsh is not installed",
		"the package: TestD: zsh is not installed"}, skipped([]result{
		{test: test{name: "the command", on: "14"}, skipped: []outcome{everywhere}},
		{test: test{name: "the command", on: "15"}, skipped: []outcome{everywhere, once}},
		{test: test{name: "the package", on: "14"}, skipped: []outcome{once}},
	}))
}

func TestResultOfRunsWithoutTests(t *testing.T) {
	for _, row := range []struct {
		name, events, summary string
	}{
		{"a package that does not compile", `{"Action":"fail","Package":"p"}`, "0 passed, **1 failed**"},
		{"nothing ran", "", "0 passed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := result{counts: map[string]int{}}
			assert.NoError(t, r.read(strings.NewReader(row.events)))
			assert.False(t, r.passed())
			assert.Equal(t, row.summary, r.summary())
		})
	}
}

func TestPageKeepsTheSectionsOfOtherParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "compatibility.md")
	on14 := result{test: test{name: "aadpool", on: "PostgreSQL 14.23"}, took: time.Second,
		counts: map[string]int{"pass": 3}}
	broken := result{test: test{name: "failover"}, broken: "exit status 1\nno such package", counts: map[string]int{}}
	require.NoError(t, writeSection(path, parts[0], []result{on14}))
	require.NoError(t, writeSection(path, parts[2], []result{broken}))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(first), "| PostgreSQL 14.23 | 3 passed (1s) |")
	assert.Contains(t, string(first), "- failover: it did not run: exit status 1 no such package")
	assert.Less(t, strings.Index(string(first), "## PostgreSQL"), strings.Index(string(first), "## Failover"))

	on14.counts["pass"] = 4
	require.NoError(t, writeSection(path, parts[0], []result{on14}))
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strings.Replace(string(first), "3 passed", "4 passed", 1), string(second))
}
