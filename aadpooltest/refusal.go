package aadpooltest

import (
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The words in which Azure Database for PostgreSQL refuses a token, as people have reported them: they are documented
// nowhere, and change. Of their SQLSTATEs only that of the token kinds has been seen, 28000.
const (
	messageExpired  = "The access token has expired. Acquire a new token and try again."
	messageAudience = "The access token does not have a valid audience claim. " +
		`Please acquire a new token for the resource "%s".`
	messageInvalidFormat = "The access token has invalid format. " +
		"Please ensure the token is passed exactly as returned by the authentication endpoint and retry."
	messageInvalid      = "An error occurred while validating the access token. Please acquire a new token and retry"
	messageNotUserToken = `Microsoft Entra user token for role "%s" is neither ` +
		"an AAD_AUTH_TOKENTYPE_APP_USER or an AAD_AUTH_TOKENTYPE_APP_OBO token."
	messageUserToken = `Service principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role "%s".`
	messageObjectID  = `Service principal oid mismatch for role ` +
		`"The oid in the security label [%s] does not match the appid [%s] or oid [%s] in the token."`
	messageTooLong   = "client sent partial pkt in startup phase" // PgBouncer's words
	messageWrongRole = `password authentication failed for user "%s"`
)

// tokenRefusal is the answer to a token that [Authority.Verify] refused with err.
func tokenRefusal(err error, audience string) *pgconn.PgError {
	message := messageInvalid
	switch {
	case errors.Is(err, ErrTokenExpired):
		message = messageExpired
	case errors.Is(err, ErrTokenAudience):
		message = fmt.Sprintf(messageAudience, audience)
	case errors.Is(err, jwt.ErrTokenMalformed):
		message = messageInvalidFormat
	}
	return fatal("28000", message)
}

// roleRefusal is the answer to a principal whose token is good, but not for the role.
func (s *Server) roleRefusal(role string, p Principal) *pgconn.PgError {
	owner, ok := s.authority.principalByName(role)
	switch {
	case ok && owner.Kind == User && p.Kind != User:
		return fatal("28000", fmt.Sprintf(messageNotUserToken, role))
	case ok && owner.Kind != User && p.Kind == User:
		return fatal("28000", fmt.Sprintf(messageUserToken, role))
	}
	return fatal("28P01", fmt.Sprintf(messageWrongRole, role))
}
