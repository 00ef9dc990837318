package dsn

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The environment says what the DSN does not.
func TestOnlyProtocol30(t *testing.T) {
	for _, row := range []struct {
		name, dsn, variable string
		want                bool
	}{
		{"nothing is said", "host=db.example user=u", "", false},
		{"in the DSN", "host=db.example user=u max_protocol_version=3.0", "", true},
		{"in a URL", "postgres://u@db.example/d?max_protocol_version=3.0", "", true},
		{"in the environment", "host=db.example user=u", "3.0", true},
		{"in the environment, and otherwise in the DSN", "host=db.example user=u max_protocol_version=3.2", "3.0", false},
		{"a newer one in the environment", "host=db.example user=u", "3.2", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			if row.variable != "" {
				t.Setenv("PGMAXPROTOCOLVERSION", row.variable)
			}
			read, err := Read(row.dsn)
			require.NoError(t, err)
			assert.Equal(t, row.want, read.OnlyProtocol30)
		})
	}
}
