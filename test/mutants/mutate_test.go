package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const source = `package p

func f(a, b int, err error) (int, bool, error) {
	if a < b && g() {
		return 1, true, err
	}
	if g() {
		h()
	}
	c := a - b
	c = b
	for {
		c++
		break
	}
	return c, false, nil
}
`

func TestMutantsOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.go")
	require.NoError(t, os.WriteFile(path, []byte(source), 0o600))
	mutants, err := mutantsOfFile("example.org/p", path, "p.go")
	require.NoError(t, err)
	var keys []string
	for _, m := range mutants {
		keys = append(keys, m.key())
		changed, err := m.apply()
		require.NoError(t, err)
		assert.NotEqual(t, source, string(changed))
	}
	assert.Equal(t, []string{
		"p.go: f: a < b && g() => !(a < b && g())",
		"p.go: f: a < b && g() => a < b || g()",
		"p.go: f: a < b => a <= b",
		"p.go: f: a < b => a >= b",
		"p.go: f: return 1, true, err => return 1, false, err",
		"p.go: f: return 1, true, err => return 1, true, nil",
		"p.go: f: 1 => 2",
		"p.go: f: g() => !(g())",
		"p.go: f: h() => nothing",
		"p.go: f: a - b => a + b",
		"p.go: f: c = b => _ = b",
		"p.go: f: c++ => nothing",
		"p.go: f: break => nothing",
		"p.go: f: return c, false, nil => return c, true, nil",
	}, keys)
}

// A test that finds a case false does not run the case's body, but it runs the case.
func TestWhoeverRunsASwitchRunsItsCases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.go")
	require.NoError(t, os.WriteFile(path, []byte(`package p

func f(a int) {
	switch {
	case a > 0:
		a++
	}
}
`), 0o600))
	mutants, err := mutantsOfFile("example.org/p", path, "p.go")
	require.NoError(t, err)
	runLines := map[string]int{}
	for _, m := range mutants {
		runLines[m.key()] = m.runLine
	}
	assert.Equal(t, map[string]int{"p.go: f: a > 0 => a >= 0": 4, "p.go: f: a > 0 => a <= 0": 4,
		"p.go: f: 0 => 1": 4, "p.go: f: a++ => nothing": 6}, runLines)
}

func TestWhichTestsMeetAMutant(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile")
	require.NoError(t, os.WriteFile(profile,
		[]byte("mode: set\nexample.org/p/p.go:3.50,5.2 2 1\nexample.org/p/p.go:7.2,9.3 1 0\n"), 0o600))
	runs, err := readProfile(profile)
	require.NoError(t, err)
	test := testCase{runs: runs}
	for line, covered := range map[int]bool{2: false, 3: true, 5: true, 8: false} {
		assert.Equal(t, covered, test.covers(mutant{pkg: "example.org/p", file: "p.go", runLine: line}), line)
	}
	assert.False(t, test.covers(mutant{pkg: "example.org/q", file: "p.go", runLine: 3}))
}

func TestEquivalentsNeedAReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "equivalent.txt")
	require.NoError(t, os.WriteFile(path, []byte("# why\n\np.go: f: 1 => 2\tnobody counts\n"), 0o600))
	reasons, err := readEquivalents(path)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"p.go: f: 1 => 2": "nobody counts"}, reasons)

	require.NoError(t, os.WriteFile(path, []byte("p.go: f: 1 => 2\n"), 0o600))
	_, err = readEquivalents(path)
	require.ErrorContains(t, err, "no tab and reason")
}
