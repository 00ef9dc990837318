package refusal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// make azure writes what a server of Azure's has said of each fault. Until it has run there is none.
func TestWordsThatAzureHasSaid(t *testing.T) {
	files, err := filepath.Glob("testdata/azure/*.json")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var run struct {
			Outcomes []struct {
				Row     string
				Refused *struct {
					Code, Message string
					Reason        Reason
					Size          int
				}
			}
		}
		require.NoError(t, json.Unmarshal(text, &run))
		for _, o := range run.Outcomes {
			if r := o.Refused; r != nil {
				t.Run(filepath.Base(file)+"/"+o.Row, func(t *testing.T) {
					said := &pgconn.PgError{Severity: "FATAL", Code: r.Code, Message: r.Message}
					assert.Equal(t, r.Reason, Of(said, r.Size), r.Message)
				})
			}
		}
	}
	if len(files) == 0 {
		t.Skip("nothing has run on Azure yet: make azure")
	}
}
