package server

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestNamesUser(t *testing.T) {
	for _, row := range []struct {
		dsn, env string
		want     bool
	}{
		{"postgres://orders-api@host/db", "", true},
		{"postgres://host/db?user=orders-api", "", true},
		{"postgres://host/db", "", false},
		{"host=x user=orders-api", "", true},
		{"host=x dbname=y", "", false},
		{"host=x dbname=y", "orders-api", true},
		{"postgres://admins@a:5432,b/db", "", true},
		{"postgres://admins@[::1],[::2]/db", "", true},
		{"postgres://admins@host/db\n", "", true},
		{"postgres://host/db?us%65r=admins", "", true},
		{"postgres://:x@host/db", "", false},
	} {
		t.Run(row.dsn+" "+row.env, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			if row.env != "" {
				t.Setenv("PGUSER", row.env)
			}
			target, _, err := ParseTarget(row.dsn, "")
			require.NoError(t, err)
			assert.Equal(t, row.want, target.NamesUser)
		})
	}
}
