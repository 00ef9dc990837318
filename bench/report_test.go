package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/bench/results"
)

func TestTableSaysWhichPeerIsBetter(t *testing.T) {
	figure := func(f float64) cell { return cell{text: "x", figure: f} }
	for _, row := range []struct {
		name  string
		sign  float64
		noise float64
		cells map[contestant]cell
		want  string
	}{
		{"more is better, and a peer has more", 1, 0.01, map[contestant]cell{azidentity: figure(1.1), ours: figure(1)},
			"azidentity"},
		{"less is better, and a peer has less", -1, 0.01, map[contestant]cell{pgMultiAuth: figure(0.9), ours: figure(1)},
			"go-pgmultiauth"},
		{"both are", -1, 0, map[contestant]cell{azidentity: figure(0), pgMultiAuth: figure(0), ours: figure(1)},
			"azidentity, go-pgmultiauth"},
		{"the difference is noise", 1, 0.2, map[contestant]cell{azidentity: figure(1.1), ours: figure(1)}, ""},
		{"equal", -1, 0, map[contestant]cell{azidentity: figure(1), ours: figure(1)}, ""},
		{"plain pgxpool is no peer", -1, 0, map[contestant]cell{floor: figure(0), ours: figure(1)}, ""},
		{"a peer without a figure", -1, 0, map[contestant]cell{azidentity: shown("the process died"), ours: figure(1)}, ""},
		{"aadpool was not measured", -1, 0, map[contestant]cell{azidentity: figure(1)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, headlineRow(row.sign, row.noise, row.cells).better())
		})
	}
}

func TestHeadlineAndPromisesAreTheRowsOfThePage(t *testing.T) {
	assert.Equal(t, [][]string{{"a figure", "–", "2", "–", "3", "azidentity"}}, headlineRows([]row{headlineRow(-1, 0,
		map[contestant]cell{azidentity: {text: "2", figure: 2}, ours: {text: "3", figure: 3}})}))
	assert.Equal(t, [][]string{{"a promise", "0", "met"}, {"another", "1", "**missed**"}},
		verdictRows([]verdict{{"a promise", "0", true}, {"another", "1", false}}))
}

func TestEachMeasurementOfThePageIsMade(t *testing.T) {
	var kept []string
	for _, m := range results.Measurements {
		kept = append(kept, m.Name)
	}
	assert.ElementsMatch(t, kept, slices.Collect(maps.Keys(runs)))
	for _, name := range results.Columns {
		assert.Contains(t, all, contestant(name))
	}
}

func headlineRow(sign, noise float64, cells map[contestant]cell) row {
	return row{name: "a figure", sign: sign, noise: noise, cells: cells}
}

func TestPicturesAreDrawnFromTheDataBesideThem(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"rotation.csv", "expiry.csv"} {
		data, err := os.ReadFile(filepath.Join(plotDir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	require.NoError(t, drawRotation(dir))
	require.NoError(t, drawExpiry(dir))
	for _, name := range []string{"rotation.svg", "rotation-dark.svg", "expiry.svg", "expiry-dark.svg"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(plotDir, name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), "%s: go run . -draw", name)
	}
}
