package aadpool

import (
	"fmt"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// isRejection says whether the server's error, before a connection is up, is about the login: SQLSTATE class 28
// (invalid authorization), or words about the access token whatever their SQLSTATE, which Azure documents nowhere.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html.
func isRejection(e *pgconn.PgError) bool {
	return strings.HasPrefix(e.Code, "28") || contains(e.Message, "access token") || isTokenTooLong(e)
}

// isTokenTooLong recognises a PgBouncer up to 1.25, which takes passwords up to 2,047 bytes.
func isTokenTooLong(e *pgconn.PgError) bool {
	return e.Code == "08P01" && contains(e.Message, "partial pkt")
}

// A rejection is a login that the server refused, with what a person needs to find out why.
type rejection struct {
	err    *pgconn.PgError
	server string
	role   string
	token  *accessToken
}

// advice is the likely fix. Azure's wording changes, so it looks for short parts of it.
func (r rejection) advice() string {
	words := r.err.Message
	switch {
	case isTokenTooLong(r.err):
		return fmt.Sprintf("a PgBouncer up to 1.25 takes no password over 2047 bytes and this token has %d; connect to port 5432, or log in as a managed identity or service principal, whose tokens are shorter", len(r.token.secret()))
	case contains(words, "password authentication failed"): // which goes on with the role's name: see to it first
		return r.roleAdvice()
	case contains(words, "token has expired"):
		return "the server holds the token for expired: check this machine's clock"
	case contains(words, "audience claim"):
		return fmt.Sprintf("the token is for another resource or cloud than the server's (its audience is %s): set WithScope", r.token.claims.audience())
	case contains(words, "AAD_AUTH_TOKENTYPE"):
		return fmt.Sprintf("the role and the token belong to different kinds of principal, and the token is that of %s: set user= to its own role, "+
			"or make the role anew with the right type, by pgaadauth_create_principal_with_oid", r.token.claims.kind())
	case contains(words, "token has invalid format"):
		return "the server cannot read the token: check that the scope is that of the server's cloud, and that nothing between changes or shortens passwords"
	case contains(words, "validating the access token"):
		return "the server could not validate the token: check that it is of the server's tenant, and this machine's clock"
	case contains(words, "no encryption"):
		return "the server takes no connection without TLS: remove sslmode=disable"
	case contains(words, "pg_hba.conf"):
		return "the server takes no such login from here: check its firewall rules, the database name, and that Microsoft Entra authentication is enabled"
	case contains(words, "too many failed"):
		return "the server has locked the role out for a while after too many failed logins: stop what keeps failing, and wait"
	}
	return r.roleAdvice()
}

// roleAdvice is for a server that took the token but not for this role, or that says no more than that it failed.
func (r rejection) roleAdvice() string {
	if r.role == osUser() {
		return fmt.Sprintf("put user= into the DSN if it names none: pgx then takes the operating system's user, %s; otherwise %s", r.role, r.roleMismatch())
	}
	return r.roleMismatch()
}

// osUser is the user that pgx takes where a DSN names none: on Windows without its domain.
func osUser() string {
	me, err := user.Current()
	if err != nil {
		return ""
	}
	return me.Username[strings.LastIndex(me.Username, `\`)+1:]
}

func (r rejection) roleMismatch() string {
	create := fmt.Sprintf("as an Entra administrator of the server, in the database postgres: select * from pgaadauth_create_principal('%s', false, false)",
		strings.ReplaceAll(r.role, "'", "''"))
	name, err := r.token.userName()
	if err == nil && name != r.role {
		return fmt.Sprintf("the token is for %q but the role is %q: set user=%s (role names are case-sensitive), unless the role is a group of which it is a member; if the role is missing, create it, %s",
			name, r.role, name, create)
	}
	return "the role is missing, or not made for Microsoft Entra, or another principal's: create it, " + create
}

// hint is what goes into the error, where the caller sees it.
func (r rejection) hint() string {
	ends := r.token.expires.Format(time.RFC3339)
	if r.token.claimsErr != nil {
		return fmt.Sprintf("aadpool: %s (the token does not tell whom it is for; it ends at %s)", r.advice(), ends)
	}
	return fmt.Sprintf("aadpool: %s (the token is for %s, audience %s, and ends at %s)", r.advice(), r.token.claims.principal(), r.token.claims.audience(), ends)
}

// reject records a refused login, tells the caller by the error's Hint and the operator by a warning, and has the cache
// doubt the token: someone may have run `az login` as another user just now.
func (h *Hook) reject(r rejection) {
	h.rejections.Add(1)
	h.cache.Load().reject(r.token)
	if r.err.Hint == "" {
		r.err.Hint = r.hint()
	}
	advice := r.advice()
	if !h.warned.due(r.server + "\x00" + r.role + "\x00" + r.err.Code + "\x00" + advice) {
		return
	}
	h.options.logger.Warn("aadpool: the server refused the login: "+advice,
		"server", r.server, "role", r.role, "sqlstate", r.err.Code, "message", r.err.Message,
		"principal", r.token.claims.principal(), "audience", r.token.claims.audience(), "token_expires", r.token.expires)
}

const (
	warnAgainAfter = 30 * time.Second
	maxWarnings    = 64 // a server may refuse with what SQLSTATE it likes
)

// warnings keeps a pool that goes on trying from filling the log with one and the same warning. The zero value is ready.
type warnings struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// due says whether to log the warning that key stands for, and counts it as logged.
func (w *warnings) due(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if last, ok := w.last[key]; ok && now.Sub(last) < warnAgainAfter {
		return false
	}
	if w.last == nil || len(w.last) >= maxWarnings {
		w.last = make(map[string]time.Time)
	}
	w.last[key] = now
	return true
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
