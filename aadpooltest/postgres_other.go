//go:build !unix

package aadpooltest

import (
	"context"
	"errors"
)

func startPostgres(context.Context) (*Postgres, error) {
	return nil, errors.New("aadpooltest: a PostgreSQL server can be started on Unix systems only: " +
		"set " + DatabaseEnv + " to the DSN of a superuser")
}
