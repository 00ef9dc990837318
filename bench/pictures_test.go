package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDashboardsLegendIsItsTemplateWithTheLabelsThatThereAre(t *testing.T) {
	labels := map[string]string{"instance": "127.0.0.1:1", "cause": "renewal"}
	assert.Equal(t, "renewal", legendOf("{{instance}} {{cause}} {{error_type}}", labels))
	assert.Equal(t, "failed", legendOf("failed", nil))
	assert.Empty(t, legendOf("{{instance}}", labels))
}

// What is drawn is what the queries have answered: the file beside the dashboard is whole.
func TestDashboardIsDrawnFromWhatItsQueriesHaveAnswered(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(dashboardDir, "panels.json"))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "panels.json"), text, 0o600))
	require.NoError(t, drawDashboard(dir))
	for _, name := range []string{"aadpool.svg", "aadpool-dark.svg"} {
		drawn, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for _, title := range []string{"Life left of the token", "Connections retired", "token-expired"} {
			assert.True(t, strings.Contains(string(drawn), title), "%s: %s", name, title)
		}
	}
}
