package spelling

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearest(t *testing.T) {
	known := []string{"credential", "client_id", "tenant_id", "scope", "managed-identity", "workload-identity", "cli"}
	for _, row := range []struct{ name, word, want string }{
		{"two letters that have changed places", "credentail", "credential"},
		{"a letter is missing", "clientid", "client_id"},
		{"a letter too many", "scopee", "scope"},
		{"another letter", "tenant-id", "tenant_id"},
		{"capitals", "Credential", "credential"},
		{"a beginning", "workload", "workload-identity"},
		{"a plural", "credentials", "credential"},
		{"of several the nearest", "manged-identity", "managed-identity"},
		{"nothing like it", "search_path", ""},
		{"too short to tell", "id", ""},
		{"nothing", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, Nearest(row.word, known)) })
	}
}
