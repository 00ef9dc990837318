package results

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func resultOf(name, commit string) Result {
	return Result{
		Name: name, Commit: commit, Date: "2026-11-27", Minutes: 1.5,
		Environment: Environment{Machine: "a machine", Programs: "go1, PostgreSQL 15", Modules: "pgx v5"},
		Headline:    [][]string{{"a figure", "–", "2", "–", "3", "azidentity"}},
		Promises:    [][]string{{"a promise", "0", "met"}, {"another", "1", "**missed**"}},
		Sections: []Section{{Title: "A measurement", Text: "What it is.", Table: [][]string{{"a", "b"}, {"1|2", "3"}},
			After: "A note.", Picture: "![P](p)"}},
	}
}

func TestPageSaysOfEachFigureWhatWasMeasuredAndWhetherItIsStale(t *testing.T) {
	p := pages{results: []Result{resultOf("steady", "c1"), resultOf("memory", "c2")},
		stale: map[string]bool{"memory": true}}
	p.results[1].Sections[0].Title = "Another"
	assert.Equal(t, "# Results\n\n"+aboutResults+`
- machine: a machine
- go1, PostgreSQL 15, on the same machine
- pgx v5

## At a glance

|  | plain pgxpool | azidentity | go-pgmultiauth | aadpool | better than aadpool | measurement |
|---|---|---|---|---|---|---|
| a figure | – | 2 | – | 3 | azidentity | steady |
| a figure | – | 2 | – | 3 | azidentity | memory, **stale** |

![P](p)

![P](p)

## What is promised

| aadpool's promise | measured |  | measurement |
|---|---|---|---|
| a promise | 0 | met | steady |
| another | 1 | **missed** | steady |
| a promise | 0 | met | memory, **stale** |
| another | 1 | **missed** | memory, **stale** |

## What was measured when

`+aboutStale+`
| measurement | commit | date | minutes |
|---|---|---|---|
| steady | c1 | 2026-11-27 | 1.5 |
| memory, **stale** | c2 | 2026-11-27 | 1.5 |
`, p.overview())
	assert.Equal(t, "# Measurements\n\n"+aboutMeasurements+`
## A measurement

What it is.

| a | b |
|---|---|
| 1\|2 | 3 |

A note.

Measurement: steady, of commit c1.

## Another

What it is.

| a | b |
|---|---|
| 1\|2 | 3 |

A note.

Measurement: memory, **stale**, of commit c2.
`, p.measurements())
}

func TestPageNamesTheMachineOfEachMeasurementIfThereWereSeveral(t *testing.T) {
	p := pages{results: []Result{resultOf("steady", "c1"), resultOf("memory", "c2"), resultOf("fleet", "c2")}}
	p.results[1].Environment.Machine = "another"
	assert.Contains(t, p.overview(), "\nOf steady, fleet:\n\n- machine: a machine\n")
	assert.Contains(t, p.overview(), "\nOf memory:\n\n- machine: another\n")
}

func TestResultsComeBackInTheOrderOfTheMeasurements(t *testing.T) {
	dir := t.TempDir()
	steady, fleet := resultOf("steady", "c1"), resultOf("fleet", "c2")
	require.NoError(t, fleet.Save(dir))
	require.NoError(t, steady.Save(dir))
	results, err := loadResults(dir)
	require.NoError(t, err)
	assert.Equal(t, []Result{steady, fleet}, results)
}

// inRepository runs the test in a new repository whose only commit, HEAD, has these files.
func inRepository(t *testing.T, files ...string) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, file := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte("as it was\n"), 0o600))
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."},
		{"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", "all"}} {
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func TestResultIsStaleOnceWhatItMeasuresIsAnother(t *testing.T) {
	for _, row := range []struct {
		name, measurement, changed string
		stale                      bool
	}{
		{"nothing", "steady", "", false},
		{"the package", "steady", "pool.go", true},
		{"a room of it", "steady", "internal/replace/replace.go", true},
		{"a test of the package", "steady", "pool_test.go", false},
		{"a test of a room", "steady", "internal/replace/replace_test.go", false},
		{"the means of all tests", "steady", "internal/azuretest/azuretest.go", false},
		{"the command, which a pool is not", "steady", "cmd/aadpool/internal/proxy/relay.go", false},
		{"how it is measured", "steady", "bench/steady.go", true},
		{"how another is measured", "steady", "bench/fleet.go", false},
		{"the versions of what it is compared with", "steady", "bench/go.mod", true},
		{"the proxy", "proxy", "cmd/aadpool/internal/proxy/relay.go", true},
		{"the package, in the proxy", "proxy", "pool.go", true},
		{"another command", "proxy", "cmd/aadpool/internal/commands/check.go", false},
		{"the simulated fleet", "fleet", "fleet_test.go", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			inRepository(t, "pool.go", "pool_test.go", "fleet_test.go", "internal/replace/replace.go",
				"internal/replace/replace_test.go", "internal/azuretest/azuretest.go", "cmd/aadpool/internal/proxy/relay.go",
				"cmd/aadpool/internal/commands/check.go", "bench/steady.go", "bench/fleet.go", "bench/go.mod")
			if row.changed != "" {
				require.NoError(t, os.WriteFile(row.changed, []byte("as it is\n"), 0o600))
			}
			t.Chdir("bench")
			stale, err := Of(row.measurement).isStale(t.Context(), "HEAD")
			require.NoError(t, err)
			assert.Equal(t, row.stale, stale)
		})
	}
}

func TestStaleMarksAreChecked(t *testing.T) {
	inRepository(t, "pool.go", "bench/steady.go")
	t.Chdir("bench")
	commit, err := MeasuredCommit(t.Context())
	require.NoError(t, err)
	require.NoError(t, resultOf("steady", commit).Save("."))
	require.NoError(t, WritePages(t.Context(), ".", false))
	require.NoError(t, CheckPages(t.Context(), "."))

	require.NoError(t, os.WriteFile("../pool.go", []byte("as it is\n"), 0o600))
	require.ErrorContains(t, CheckPages(t.Context(), "."), "go run ./pages")
	require.NoError(t, WritePages(t.Context(), ".", false))
	require.NoError(t, CheckPages(t.Context(), "."))
}

func TestStaleMarksAreNotCheckedWithoutTheCommit(t *testing.T) {
	inRepository(t, "pool.go")
	require.NoError(t, resultOf("steady", "0123456789ab").Save("."))
	require.NoError(t, CheckPages(context.Background(), "."), "a shallow clone")
	require.Error(t, WritePages(t.Context(), ".", false), "which would lose marks")
}

func TestWhatIsNotCommittedIsNotMeasured(t *testing.T) {
	inRepository(t, "pool.go", "bench/steady.go")
	require.NoError(t, Of("steady").RefuseChanges(t.Context()))
	require.NoError(t, os.WriteFile("pool.go", []byte("as it is\n"), 0o600))
	require.ErrorContains(t, Of("steady").RefuseChanges(t.Context()), "not committed")
}
