// Package refusal is the one place that knows what a server says when it refuses a login, what that means, and what
// to do about it.
//
// Azure documents neither its messages nor their SQLSTATEs, and changes the words; so short parts of them are looked
// for.
package refusal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/token"
)

// A Reason is why a server refused a login.
type Reason string

// The reasons. None is for an error that is not about the login, such as a database that does not exist.
const (
	None         Reason = ""
	Role         Reason = "role"           // it has no such role for this token: missing, or another principal's
	Kind         Reason = "principal-kind" // the role is for another kind of principal than the token
	Expired      Reason = "token-expired"
	Audience     Reason = "token-audience" // the token is for another resource or cloud
	Format       Reason = "token-format"   // the server cannot read the token
	Invalid      Reason = "token-invalid"  // the server cannot validate it: another tenant's, or a clock
	TooLong      Reason = "token-too-long" // for a pooler that bounds passwords
	OAuth        Reason = "oauth"          // PostgreSQL's own validator of OAUTHBEARER refused it
	Plaintext    Reason = "plaintext"      // the server takes no connection without TLS
	NotAllowed   Reason = "not-allowed"    // firewall, pg_hba.conf, or Entra authentication is off
	LockedOut    Reason = "locked-out"     // after too many failed logins
	Unrecognised Reason = "other"          // SQLSTATE class 28, in words that are not known here
)

// poolerMax is the longest password, in bytes, that PgBouncer takes before 1.26. What it says of a longer one, seen
// of 1.18 and 1.24: "client sent partial pkt in startup phase", or just "password authentication failed".
const poolerMax = 2047

// Of tells what the server means by an error during start-up. size is that of the token that it was sent.
func Of(e *pgconn.PgError, size int) Reason { return Find(e, size).Reason }

// Find returns the row for an error during start-up: by its words, or else by its SQLSTATE. The last row fits all.
func Find(e *pgconn.PgError, size int) Row {
	said := strings.ToLower(token.OneLine(withoutNames(Words(e))))
	for _, row := range Rows {
		if row.fits(e.Code, said, size) {
			return row
		}
	}
	return Row{}
}

func (r Row) fits(code, said string, size int) bool {
	switch {
	case !strings.HasPrefix(code, r.Code), r.Longer && size <= poolerMax:
		return false
	case r.Whole:
		return slices.Contains(r.Parts, said)
	}
	isSaid := func(part string) bool { return strings.Contains(said, part) }
	return len(r.Parts) == 0 || slices.ContainsFunc(r.Parts, isSaid)
}

// withoutNames takes out of a message what the server quotes: the name of a role can be a word of another refusal. A
// name may hold the quotes themselves, so all from the first to the last goes.
func withoutNames(message string) string {
	for _, quotes := range []struct{ open, end string }{{`"`, `"`}, {"[", "]"}} {
		first, last := strings.Index(message, quotes.open), strings.LastIndex(message, quotes.end)
		if first >= 0 && first < last {
			message = message[:first] + message[last+1:]
		}
	}
	return message
}

// Facts is what is known about a refused login.
type Facts struct {
	Role   string       // that the login was for
	Claims token.Claims // of the token that it was tried with
	Size   int          // of the token, in bytes
	Err    *pgconn.PgError
}

// Advice is the likely fix.
func Advice(f Facts) string { return Expand(Find(f.Err, f.Size).Do, f) }

// Expand is what a row has to Do, with what is known of the login in the place of the words in braces.
func Expand(do string, f Facts) string {
	return strings.NewReplacer(
		"{role}", token.Printable(f.Role), "{oid}", token.Printable(f.Claims.Text("oid")), "{create}", createByID(f),
		"{size}", strconv.Itoa(f.Size), "{kind}", string(f.Claims.Kind()), "{audience}", f.Claims.Audience(),
		"{principal}", f.Claims.Principal(), "{role advice}", roleAdvice(f),
	).Replace(do)
}

// createByID is the SQL that makes the role for the object id in the token.
func createByID(f Facts) string {
	kind := "service"
	if f.Claims.Kind() == token.User {
		kind = "user"
	}
	return fmt.Sprintf("select * from pgaadauth_create_principal_with_oid('%s', '%s', '%s', false, false)",
		literal(f.Role), literal(f.Claims.Text("oid")), kind)
}

// literal is what stands between the quotes of a string of SQL.
func literal(text string) string { return strings.ReplaceAll(token.Printable(text), "'", "''") }

// roleAdvice is for a server that took the token but not for this role, or that says no more than that it failed.
func roleAdvice(f Facts) string {
	if f.Role == dsn.OSUser() {
		return fmt.Sprintf("put user= into the DSN if it names none: pgx then takes the operating system's user, %s; "+
			"otherwise %s", token.Printable(f.Role), roleMismatch(f))
	}
	return roleMismatch(f)
}

func roleMismatch(f Facts) string {
	role := token.Printable(f.Role)
	create := fmt.Sprintf("as an Entra administrator of the server, in the database postgres: "+
		"select * from pgaadauth_create_principal('%s', false, false)", literal(f.Role))
	if f.Claims.IsFor(f.Role) {
		return "the role is missing, or not made for Microsoft Entra, or another principal's: create it, " + create
	}
	if guest := f.Claims.Guest(); guest != "" {
		return fmt.Sprintf("the token is for the guest %s but the role is %q: a guest's role is named as "+
			"az ad signed-in-user show --query userPrincipalName prints it (…#EXT#@<tenant>.onmicrosoft.com): set user= to "+
			"that, unless the role is a group of which the guest is a member", token.Printable(guest), role)
	}
	if name, err := f.Claims.UserName(); err == nil {
		return fmt.Sprintf("the token is for %q but the role is %q: set user=%s (role names are case-sensitive), unless the "+
			"role is a group of which it is a member; if the role is missing, create it, %s",
			token.Printable(name), role, token.Printable(name), create)
	}
	return "the role is missing, or not made for Microsoft Entra, or another principal's: create it, " + create
}

// The advice goes into the error's message too, since pgx's PgError prints no Hint. It stands in brackets behind the
// server's own words.
const adviceBegins, adviceEnds = " [aadpool: ", "]"

// Explain puts the advice into e: into its message, which is what a program prints, and with details into its Hint.
func Explain(e *pgconn.PgError, reason Reason, advice, details string) {
	e.Message += adviceBegins + advice + adviceEnds
	hint := "aadpool: " + advice + " (reason: " + string(reason) + "; " + details + ")"
	if e.Hint != "" {
		hint = e.Hint + "; " + hint
	}
	e.Hint = hint
}

// Words is what the server itself said.
func Words(e *pgconn.PgError) string {
	words, _, _ := strings.Cut(e.Message, adviceBegins)
	return words
}

// shortestMax is the longest password, in bytes, that PostgreSQL takes before version 14: measured of 13.23, which
// closes the connection at a longer one and tells only its own log ("invalid message length").
const shortestMax = 995

// A WordlessError is a login that ended with the connection, when the server had got the token and had said nothing.
type WordlessError struct {
	TokenSize int // in bytes
	Err       error
}

func (e *WordlessError) Error() string {
	return fmt.Sprintf("the server closed the connection without a word when it got an access token of %d bytes "+
		"(PostgreSQL before 14 takes no password over %d bytes): %v", e.TokenSize, shortestMax, e.Err)
}

// Unwrap returns Err.
func (e *WordlessError) Unwrap() error { return e.Err }

// IsTooLong reports whether the token was longer than a PostgreSQL before version 14 takes.
func (e *WordlessError) IsTooLong() bool { return e.TokenSize > shortestMax }
