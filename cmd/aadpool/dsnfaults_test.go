package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// What people write in the place of a DSN is a fault of the arguments for each command, which says the same of it.
func TestFaultsOfDSNsSeenInTheWild(t *testing.T) {
	for _, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			clearEnvironment(t)
			setenv(t, row.Env)
			t.Setenv("PATH", t.TempDir())
			for _, args := range [][]string{
				{"check", row.DSN}, {"check", "--json", row.DSN}, {"role", "x", row.DSN, "--apply"},
				{"proxy", row.DSN, "--socket-dir=" + t.TempDir()}, {"psql", row.DSN},
			} {
				if args[0] == "psql" && row.Libpq {
					continue
				}
				got := runCommand(t, outside{}, args...)
				said := strings.Join(strings.Fields(got.stdout+got.stderr), " ")
				assert.Equal(t, exitUsage, got.status, "%s: %s", args[0], said)
				if len(args) == 2 {
					assert.Contains(t, said, row.Says)
				}
				assert.NotContains(t, got.stdout+got.stderr, "hunter2")
			}
		})
	}
}
