package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newChartRelease(t *testing.T) *release {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	return &release{options: options{version: "v0.3.0-rc.1", out: t.TempDir(), repository: root}, src: root,
		scratch: t.TempDir(), epoch: epoch}
}

func TestChartHasTheReleasesVersion(t *testing.T) {
	r := newChartRelease(t)
	require.NoError(t, r.packChart())
	first, err := os.ReadFile(filepath.Join(r.out, "aadpool-0.3.0-rc.1.tgz"))
	require.NoError(t, err)
	require.NoError(t, r.packChart())
	again, err := os.ReadFile(filepath.Join(r.out, r.chartName()))
	require.NoError(t, err)
	assert.Equal(t, first, again, "the same bytes each time")

	dir := t.TempDir()
	require.NoError(t, unpack(filepath.Join(r.out, r.chartName()), dir))
	text, err := os.ReadFile(filepath.Join(dir, "aadpool", "Chart.yaml"))
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(text), "\nversion: 0.3.0-rc.1\n"))
	assert.Equal(t, 1, strings.Count(string(text), "\nappVersion: 0.3.0-rc.1\n"))
	assert.FileExists(t, filepath.Join(dir, "aadpool", "files", "pgbouncer.ini"))

	_, err = r.versioned([]byte("version: 1\n"))
	assert.ErrorContains(t, err, "1 lines")
}

func TestChartIsPushedAndPulled(t *testing.T) {
	if testing.Short() {
		t.Skip("builds helm, which takes long by its nature")
	}
	r := newChartRelease(t)
	require.NoError(t, r.packChart())
	require.NoError(t, r.checkChart(t.Context()))
}
