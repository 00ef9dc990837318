package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/pgwire"
	"github.com/aadpool/aadpool/internal/token"
)

// A reason is why a client got no session, as the metrics count it.
type reason string

const (
	reasonLimit       reason = "limit"       // too many sessions, or the proxy is ending
	reasonProtocol    reason = "protocol"    // what came is no PostgreSQL client's start-up
	reasonTimeout     reason = "timeout"     // the client took too long
	reasonGone        reason = "gone"        // the client hung up before it had a session
	reasonPeer        reason = "peer"        // --allow-user
	reasonPassword    reason = "password"    // --password-file
	reasonDenied      reason = "denied"      // --allow-role, --allow-database
	reasonReplication reason = "replication" // which Entra tokens do not log in to
	reasonToken       reason = "token"       // no access token
	reasonUnreachable reason = "unreachable" // the server: network, TLS
	reasonLogin       reason = "login"       // the server refused the login
	reasonServer      reason = "server"      // the server refused for another reason
)

// reasons are all of them, for the metrics to begin at zero.
var reasons = []reason{reasonLimit, reasonProtocol, reasonTimeout, reasonGone, reasonPeer, reasonPassword,
	reasonDenied, reasonReplication, reasonToken, reasonUnreachable, reasonLogin, reasonServer}

// A refusal is the end of a client that gets no session: what it is told, and what is counted.
type refusal struct {
	reason reason
	told   *pgconn.PgError // nil: nothing
	err    error           // for the log; nil: what is told
}

func (r *refusal) Error() string {
	if r.err != nil {
		return r.err.Error()
	}
	return r.told.Message
}

func (r *refusal) Unwrap() error { return r.err }

var errShuttingDown = pgwire.Fatal("57P03", "the proxy is shutting down")

// errTooMany is for a client for whose session there is no room.
func (p *places) errTooMany() *pgconn.PgError {
	e := pgwire.Fatal("53300",
		fmt.Sprintf("sorry, too many clients already: the proxy has its limit of %d sessions", p.max))
	e.Hint = "raise --max-sessions, which should stay below the server's max_connections"
	if p.max < p.wanted {
		e.Hint = "raise the proxy's limit on open files (ulimit -n, LimitNOFILE), in which no more sessions fit"
	}
	return e
}

// errNoFiles is for a client for whose session the system has no file left.
var errNoFiles = pgwire.Fatal("53300", "sorry, too many clients already: the proxy can open no more files")

// errTooManyStarts is for a client that comes while so many others have no session yet.
func errTooManyStarts(n int) *pgconn.PgError {
	return pgwire.Fatal("53300", fmt.Sprintf("sorry, too many clients already: %d have connected to the proxy "+
		"and have no session yet", n))
}

func refuse(r reason, sqlState, message, hint string) *refusal {
	told := pgwire.Fatal(sqlState, message)
	told.Hint = hint
	return &refusal{reason: r, told: told}
}

// refuseStartup is for a client whose start-up could not be read.
func refuseStartup(err error) *refusal {
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &refusal{reason: reasonProtocol, told: told}
	}
	if other, ok := errors.AsType[*pgwire.LengthError](err); ok && !other.IsHTTP() {
		return &refusal{reason: reasonProtocol, told: pgwire.Fatal("08P01", other.Error()), err: err}
	}
	if hasHungUp(err) { // a probe, that has seen what it wanted to see
		return &refusal{reason: reasonGone, err: errors.New("the client hung up before it said what it wants")}
	}
	if isTimeout(err) {
		return &refusal{reason: reasonTimeout, err: errors.New("the client did not say in time what it wants")}
	}
	return &refusal{reason: reasonProtocol, err: err}
}

// wsaConnReset is Windows' own ECONNRESET.
const wsaConnReset = syscall.Errno(10054)

// hasHungUp reports whether err is the end of the client's connection, in order or not.
func hasHungUp(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, wsaConnReset} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// refuseToken is for a login that was not tried, mostly since there is no access token. It may work a little later,
// which is what 57P03, cannot_connect_now, tells programs. Where the server has refused so often that the Hook does not
// ask it for a while, the client gets the last refusal again. For a config with which no login can be tried there is no
// later.
func refuseToken(err error) *refusal {
	if again, ok := errors.AsType[*pgconn.PgError](err); ok {
		told := inServersWords(err, again)
		told.Detail, _, _ = strings.Cut(line(err), ": ")
		return &refusal{reason: reasonLogin, told: told, err: err}
	}
	_, noToken := errors.AsType[*aadpool.TokenError](err)
	if !noToken && !isTimeout(err) && !errors.Is(err, context.Canceled) {
		return &refusal{reason: reasonLogin, told: pgwire.Fatal("28000", "aadpool proxy: "+line(err)), err: err}
	}
	return &refusal{reason: reasonToken, told: pgwire.Fatal("57P03", "aadpool proxy: "+line(err)), err: err}
}

// refuseConnect is for a login that did not come about, or that the server refused: then the client gets the server's
// own words, to which package aadpool has added its hint.
func refuseConnect(err error, startup *pgproto3.StartupMessage, database string) *refusal {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return &refusal{reason: reasonLimit, told: errNoFiles, err: err}
		}
		told := pgwire.Fatal("08001", "aadpool proxy: the server cannot be reached: "+line(err))
		return &refusal{reason: reasonUnreachable, told: told, err: err}
	}
	told := inServersWords(err, refused)
	r := reasonServer
	if strings.HasPrefix(told.Code, "28") {
		r = reasonLogin
	}
	user := startup.Parameters["user"]
	if told.Code == "3D000" && told.Hint == "" && startup.Parameters["database"] == user && user != database {
		told.Hint = fmt.Sprintf("the client names its user, %q, as the database, as psql and other programs of libpq do "+
			"where none is given: name the database at the client (with libpq by PGDATABASE or -d); the proxy's DSN says %q",
			user, database)
	}
	return &refusal{reason: r, told: told, err: err}
}

// inServersWords is a copy of what the server has said. In the other the message ends with the hint, for programs that
// print nothing else; a client of the proxy prints both.
func inServersWords(err error, refused *pgconn.PgError) *pgconn.PgError {
	told := *refused
	if explained, ok := aadpool.Explain(err); ok {
		told.Message = explained.Message
	}
	return &told
}

// maxLine bounds an error of somebody else's.
const maxLine = 1000

// line is err's text in one line.
func line(err error) string {
	text := token.Redact(token.OneLine(terminal.WithoutPrefix(err)))
	if len(text) <= maxLine {
		return text
	}
	cut := maxLine
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// isTimeout reports whether err is a deadline that has passed.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}
