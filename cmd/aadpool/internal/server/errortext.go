// Package server is the way to the server of a DSN.
package server

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/refusal"
)

// ErrorText is what the server has said, or else pgx.
func ErrorText(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s: %s (SQLSTATE %s)", refused.Severity, refusal.Words(refused), refused.Code)
	}
	return terminal.WithoutPrefix(err)
}
