package aadpoolsql

import (
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

// parse reads a DSN for database/sql. No error repeats a value of it, but the name of a certificate's file.
func parse(text string) (*dsn.Target, credential.Parameters, error) {
	target, err := dsn.Read(text)
	if err != nil {
		return nil, credential.Parameters{}, err
	}
	if err := target.SecretError(); err != nil {
		return nil, credential.Parameters{}, err
	}
	if err := target.PoolError(); err != nil { // database/sql has a pool of its own
		return nil, credential.Parameters{}, err
	}
	p, err := credential.ReadParameters(target.Own)
	return target, p, err
}
