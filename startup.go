package aadpool

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// askedFor is what a server has asked for during start-up.
type askedFor int

const (
	nothingYet askedFor = iota
	password
	oauthToken
)

// maxStartupMessage bounds a message of a server's during start-up. PostgreSQL's own are a few hundred bytes long.
const maxStartupMessage = 64 << 10

// A startupReader stands between the server and pgx until the connection is up. A server that was sent the token may
// repeat it, and its words end up in errors, logs and callbacks. So the reader takes the token out of them, and adds an
// explanation to a refusal.
type startupReader struct {
	server  io.Reader
	buffer  *bufio.Reader // of server; nil when the start-up is over and what was read has been passed on
	login   *login
	pending []byte // what has been read, and is being passed on
	over    bool
}

func newStartupReader(server io.Reader, l *login) *startupReader {
	return &startupReader{server: server, buffer: bufio.NewReader(server), login: l}
}

func (r *startupReader) Read(p []byte) (int, error) {
	if r.buffer == nil {
		return r.server.Read(p)
	}
	if len(r.pending) == 0 {
		if err := r.next(); err != nil {
			r.login.forget()
			return 0, err
		}
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	if r.over && len(r.pending) == 0 {
		r.buffer, r.login, r.pending = nil, nil, nil // an idle connection would keep them
	}
	return n, nil
}

// next reads one message, and sets pending to what pgx gets of it:
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
func (r *startupReader) next() error {
	var header [5]byte
	if _, err := io.ReadFull(r.buffer, header[:]); err != nil {
		return r.login.brokenOff(err)
	}
	kind, length := header[0], int(binary.BigEndian.Uint32(header[1:]))
	if length < 4 || length > maxStartupMessage {
		return fmt.Errorf("the server sent a message of %d bytes during start-up: "+
			"it does not speak PostgreSQL's protocol", length)
	}
	message := append(header[:], make([]byte, length-4)...)
	if _, err := io.ReadFull(r.buffer, message[5:]); err != nil {
		return err
	}
	r.over = kind == 'Z' // ReadyForQuery
	var err error
	r.pending, err = r.login.heard(kind, message)
	if r.over {
		// What follows goes with it, into pgx's own buffer: who takes the connection out of pgx finds the rest there.
		rest, _ := r.buffer.Peek(r.buffer.Buffered())
		r.pending = append(r.pending, rest...)
	}
	return err
}

// brokenOff explains a server that closes the connection at the password without a word.
func (l *login) brokenOff(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.Is(err, io.EOF) || l.asked != password || l.token == nil {
		return err
	}
	return &refusal.WordlessError{TokenSize: len(l.token.secret()), Err: err}
}

var errRepeats = errors.New("the server repeats the access token where it has no business to")

// heard returns what pgx gets in place of message.
func (l *login) heard(kind byte, message []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return message, nil
	}
	l.config.Password = "" // pgx has used it, or may end the login at any message with an error that has the config
	body := message[5:]
	switch kind {
	case 'E':
		var e pgproto3.ErrorResponse
		if e.Decode(body) == nil {
			return l.heardError(&e).Encode(nil)
		}
	case 'N':
		var n pgproto3.NoticeResponse
		if n.Decode(body) == nil {
			l.scrub((*pgproto3.ErrorResponse)(&n))
			return n.Encode(nil)
		}
	case 'S':
		var s pgproto3.ParameterStatus
		if s.Decode(body) == nil {
			s.Name, s.Value = l.without(s.Name), l.without(s.Value)
			return s.Encode(nil)
		}
	case 'R':
		if e := l.heardAuthentication(body); e != nil {
			return l.heardError(e).Encode(nil)
		}
	}
	if token.Carries(string(body), l.token.secret()) {
		return nil, errRepeats
	}
	return message, nil
}

// heardAuthentication records what the server asks for. A server refuses OAUTHBEARER by a challenge (RFC 7628, section
// 3.2.2), which pgx turns into an error without a SQLSTATE. heardAuthentication returns it as an error of the server
// instead. For pgx to answer it puts the token into the config.
func (l *login) heardAuthentication(body []byte) *pgproto3.ErrorResponse {
	if len(body) < 4 {
		return nil
	}
	if wantsPassword(l.config, body) {
		l.config.Password = l.token.secret()
	}
	switch binary.BigEndian.Uint32(body) {
	case pgproto3.AuthTypeCleartextPassword:
		l.asked = password
	case pgproto3.AuthTypeOk:
		l.asked = nothingYet
	case pgproto3.AuthTypeSASLContinue:
		var answer struct {
			Status string `json:"status"`
		}
		if l.asked == oauthToken && json.Unmarshal(body[4:], &answer) == nil {
			return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000",
				Message: "OAuth bearer token refused: " + answer.Status}
		}
	}
	return nil
}

// wantsPassword reports whether pgx answers body, what an authentication message says, with the config's password.
// Where it has to refuse instead, its error has the config.
func wantsPassword(config *pgconn.Config, body []byte) bool {
	switch binary.BigEndian.Uint32(body) {
	case pgproto3.AuthTypeCleartextPassword:
		return dsn.AllowsAuth(config, "password")
	case pgproto3.AuthTypeMD5Password:
		return dsn.AllowsAuth(config, "md5")
	case pgproto3.AuthTypeSASL:
		var offer pgproto3.AuthenticationSASL
		return offer.Decode(body) == nil && dsn.AllowsAuth(config, "scram-sha-256") &&
			slices.Contains(offer.AuthMechanisms, "SCRAM-SHA-256") &&
			!slices.Contains(offer.AuthMechanisms, "OAUTHBEARER")
	}
	return false
}

// heardError scrubs and explains an error by which the server ends the start-up.
func (l *login) heardError(e *pgproto3.ErrorResponse) *pgproto3.ErrorResponse {
	reason := refusal.Of(pgconn.ErrorResponseToPgError(e), len(l.token.secret()))
	l.scrub(e)
	if reason == refusal.None {
		return e
	}
	err := pgconn.ErrorResponseToPgError(e)
	l.report.loginRefused(l.config, l.server, l.token, reason, err)
	e.Message, e.Hint = err.Message, err.Hint
	return e
}

// scrub takes the token out of all the texts that an error or a notice has.
func (l *login) scrub(e *pgproto3.ErrorResponse) {
	for _, text := range []*string{
		&e.Severity, &e.SeverityUnlocalized, &e.Code, &e.Message, &e.Detail, &e.Hint, &e.InternalQuery, &e.Where,
		&e.SchemaName, &e.TableName, &e.ColumnName, &e.DataTypeName, &e.ConstraintName, &e.File, &e.Routine,
	} {
		*text = l.without(*text)
	}
	e.UnknownFields = nil
}

// without returns text without the token, and without what looks like this package's advice.
func (l *login) without(text string) string {
	if text == "" {
		return ""
	}
	return strings.ReplaceAll(token.Scrub(text, l.token.secret()), "[aadpool:", "[")
}
