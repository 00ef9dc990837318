package aadpooltest

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// bearerToken takes the token out of a client's initial response: https://www.rfc-editor.org/rfc/rfc7628#section-3.1.
func bearerToken(response []byte) (string, error) {
	var initial pgproto3.SASLInitialResponse
	if err := initial.Decode(response); err != nil {
		return "", fatal("08P01", "malformed SASL initial response")
	}
	if initial.AuthMechanism != saslOAuthBearer {
		return "", fatal("08P01", "client selected an invalid SASL authentication mechanism")
	}
	gs2Header, pairs, _ := strings.Cut(string(initial.Data), "\x01")
	if !strings.HasPrefix(gs2Header, "n,") && !strings.HasPrefix(gs2Header, "y,") {
		return "", fatal("08P01", "malformed OAUTHBEARER message")
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		credentials, ok := strings.CutPrefix(pair, "auth=")
		if !ok {
			continue
		}
		if scheme, token, _ := strings.Cut(credentials, " "); strings.EqualFold(scheme, "bearer") {
			return strings.TrimLeft(token, " "), nil // what PostgreSQL skips too
		}
	}
	return "", nil // the client asks where to get a token, and the refusal tells it
}

// fatal is the error that ends a login.
func fatal(sqlState, message string) *pgconn.PgError { return pgwire.Fatal(sqlState, message) }

// asPgError returns the PostgreSQL error in err. An error without one is of this package's own making or a lost
// connection.
func asPgError(err error) *pgconn.PgError {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr
	}
	return fatal("58000", err.Error())
}
