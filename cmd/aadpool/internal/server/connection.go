// Package server is the way to the server of a DSN, which the commands share.
//
//	target.go      a DSN as the command understands it: its servers, the TLS policy, what it says of the credential
//	credential.go  a credential that is watched: the token that it gave, whom it asked, what azidentity said
//	request.go     what its requests met
//	chain.go       which credential of the default chain answered, and why the others did not
//	connection.go  a connection for check, its fixes and roles
package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
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

// Connect is one connection to the server of a DSN, with the Hook's token, as a role to a database.
func Connect(ctx context.Context, hook *aadpool.Hook, to *pgx.ConnConfig, role, database string) (*pgx.Conn, error) {
	config := to.Copy()
	config.User, config.Database = role, database
	if err := hook.BeforeConnect(ctx, config); err != nil {
		return nil, err
	}
	_, _ = reach.Addresses(ctx, &config.Config) // whose error pgconn repeats
	return pgx.ConnectConfig(ctx, config)
}

// AnswersAShortPassword reports whether the server says something to a password that it cannot take.
func AnswersAShortPassword(ctx context.Context, to *pgx.ConnConfig) bool {
	config := to.Copy()
	config.Password = "not a token"
	_, _ = reach.Addresses(ctx, &config.Config) // whose error pgconn repeats
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
		return true
	}
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered
}
