package dsn

import (
	"os/user"
	"strings"
)

// OSUser is the user that pgx takes where a DSN names none: on Windows without its domain.
func OSUser() string {
	me, err := user.Current()
	if err != nil {
		return ""
	}
	return me.Username[strings.LastIndex(me.Username, `\`)+1:]
}
