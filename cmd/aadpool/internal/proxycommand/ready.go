package proxycommand

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
)

// tellHowToConnect says what a person at another terminal types, and what a program takes: plainly on a terminal, and
// elsewhere as a record of the log. set is a client's environment.
func tellHowToConnect(screen io.Writer, logger *slog.Logger, set map[string]string) {
	psql, url := psqlLine(set), set["DATABASE_URL"]
	if screen == nil {
		logger.Info("to connect", "psql", psql, "url", url)
		return
	}
	fmt.Fprintf(screen, "To connect, from another terminal:\n  %s\n  %s\n", psql, url)
}

// psqlLine is psql with the settings that are not its defaults. It has no double quotes, so that a log in text has it
// as it is typed.
func psqlLine(set map[string]string) string {
	var settings []string
	for _, s := range []struct{ keyword, name, byDefault string }{
		{"host", "PGHOST", ""}, {"port", "PGPORT", "5432"}, {"user", "PGUSER", ""}, {"dbname", "PGDATABASE", ""},
		{"sslmode", "PGSSLMODE", "disable"},
	} {
		if value := set[s.name]; value != "" && value != s.byDefault {
			settings = append(settings, s.keyword+"="+conninfoValue(value))
		}
	}
	return "psql " + shell.Quote(strings.Join(settings, " "))
}

// conninfoValue quotes what is not a word:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
func conninfoValue(value string) string {
	if !strings.ContainsAny(value, " '\\\t\n=") {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
