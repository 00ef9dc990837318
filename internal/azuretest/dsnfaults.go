package azuretest

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed dsnfaults.txt
var dsnFaults string

// A DSNFault is a row of dsnfaults.txt.
type DSNFault struct {
	Seen, DSN, Says string
	Env             map[string]string
}

// DSNFaults are the DSNs of dsnfaults.txt.
func DSNFaults(t testing.TB) (rows []DSNFault) {
	t.Helper()
	services := filepath.Join(t.TempDir(), "services")
	require.NoError(t, os.WriteFile(services, []byte("[foreign]\nhost=db.example\nuser=u\nschema=public\n"), 0o600))
	text := strings.NewReplacer(`\n`, "\n", `\ufeff`, "\ufeff", "$SERVICES", services)
	for line := range strings.Lines(dsnFaults) {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "|")
		require.Len(t, columns, 4, line)
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		row := DSNFault{Seen: columns[0], DSN: text.Replace(columns[2]), Says: columns[3], Env: map[string]string{}}
		for _, pair := range strings.Fields(columns[1]) {
			name, value, _ := strings.Cut(text.Replace(pair), "=")
			row.Env[name] = value
		}
		rows = append(rows, row)
	}
	return rows
}
