package aadpool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/entra"
)

// ErrPlaintext is found by [errors.Is] in the error of a connection that would have sent a token in the clear to
// another machine. The error's text names the host, and what to change.
var ErrPlaintext = dsn.ErrPlaintext

// A TokenError reports that there is no access token to log in with. [errors.As] finds it.
type TokenError struct {
	// Scope is what the token was requested for.
	Scope string

	// NextTry is when the credential is asked again at the earliest: until then connects fail at once. It is zero where
	// no try is planned: the caller stopped waiting, or [New] failed, or a try is under way.
	NextTry time.Time

	// AskedAgain is when the request began that is under way, after one that failed: a connect waits for it for a second.
	// Err is that of the one before. It is zero where no request is under way.
	AskedAgain time.Time

	// Err is what the credential returned, for errors.As and errors.Is, with a text that repeats no token; or the
	// context's error if the caller stopped waiting. It is a context.DeadlineExceeded too if the token timeout has
	// passed.
	Err error
}

// Error returns one line, with the sentence of the credential's error that matters, and in brackets what to do. The
// whole is in Err's text, and in the log at debug level.
func (e *TokenError) Error() string {
	text := "aadpool: no access token for " + e.Scope
	if e.Err != nil {
		text += ": " + entra.Brief(e.Err)
		if advice := entra.Advise(e.Err); advice != "" {
			text += " [" + advice + "]"
		}
	}
	switch {
	case !e.NextTry.IsZero():
		text += fmt.Sprintf(" (next try in %s)", max(0, time.Until(e.NextTry)).Round(time.Millisecond))
	case !e.AskedAgain.IsZero():
		text += fmt.Sprintf(" (asked again %s ago, no answer yet)", time.Since(e.AskedAgain).Round(time.Millisecond))
	}
	return text
}

// Unwrap returns Err.
func (e *TokenError) Unwrap() error { return e.Err }

// A Reason is why a server refused a login. Its text is for logs and metrics; what to do is in [Refusal].
type Reason string

// The reasons. The server's own words, which Azure does not document and changes, are in [Refusal].
const (
	ReasonRole          Reason = "role"           // no such role for this token: missing, or another principal's
	ReasonPrincipalKind Reason = "principal-kind" // the role is for another kind of principal
	ReasonTokenExpired  Reason = "token-expired"  // the server holds the token for expired
	ReasonTokenAudience Reason = "token-audience" // the token is for another resource or cloud
	ReasonTokenFormat   Reason = "token-format"   // the server cannot read the token
	ReasonTokenInvalid  Reason = "token-invalid"  // the server cannot validate the token
	ReasonTokenTooLong  Reason = "token-too-long" // the token is longer than a pooler takes
	ReasonOAuth         Reason = "oauth"          // PostgreSQL's OAuth validator refused the token
	ReasonPlaintext     Reason = "plaintext"      // the server takes no connection without TLS
	ReasonNotAllowed    Reason = "not-allowed"    // firewall, pg_hba.conf, or Entra authentication is off
	ReasonLockedOut     Reason = "locked-out"     // too many failed logins
	ReasonOther         Reason = "other"          // in words that are not known here
)

// A Refusal is a login that a server refused, explained.
type Refusal struct {
	Reason   Reason
	SQLState string // https://www.postgresql.org/docs/current/errcodes-appendix.html
	Message  string // in the server's own words
	Advice   string // what to do, in one sentence
}

// Explain returns why a server refused the login that err is about. It reports false for every other error, such as a
// network's, a query's, or that of a missing database.
//
// err is what pgx or pgxpool returned. The text of err, and the Hint of its [pgconn.PgError], have the same words. But
// Explain goes by no text: nothing that a session's statements or its server say can pass for a refusal.
func Explain(err error) (Refusal, bool) {
	var again *refusedAgain
	if errors.As(err, &again) {
		return again.Refusal, true
	}
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) || failed.Config == nil {
		return Refusal{}, false
	}
	found, ok := refusals.Load(weak.Make(failed.Config))
	if !ok {
		return Refusal{}, false
	}
	return found.(Refusal), true
}

// refusals has the Refusal of each connect that was refused, by weak.Pointer[pgconn.Config]: pgx's own error tells
// which config it is of.
var refusals sync.Map

// keepRefusal keeps r for [Explain], for as long as anybody has config. Of several hosts that refuse it is the first.
func keepRefusal(config *pgconn.Config, r Refusal) {
	key := weak.Make(config)
	if _, ok := refusals.LoadOrStore(key, r); !ok {
		runtime.AddCleanup(config, func(key weak.Pointer[pgconn.Config]) { refusals.Delete(key) }, key)
	}
}

// A refusedAgain is the last refusal, for a login that was not tried.
type refusedAgain struct {
	*pgconn.PgError
	Refusal
}

func (e *refusedAgain) Error() string { return e.PgError.Error() }
func (e *refusedAgain) Unwrap() error { return e.PgError }
