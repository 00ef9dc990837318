package login

import (
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
)

const (
	// maxMessage bounds a message of a server's during start-up. PostgreSQL's own are a few hundred bytes long.
	maxMessage = 64 << 10

	// maxStartup bounds all of them together. PostgreSQL's own are a few thousand bytes.
	maxStartup = 1 << 20
)

// headerSize is that of a message's kind and length:
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
const headerSize = 5

// A startupReader stands between the server and pgx until the connection is up. A server that was sent the token may
// repeat it, and its words end up in errors, logs and callbacks. So the reader takes the token out of them, and adds an
// explanation to a refusal. It reads no further than the message at hand: whoever takes the connection out of pgx finds
// all the rest with the server.
type startupReader struct {
	server  io.Reader
	login   *login // nil when the connection is up
	message []byte // the part of a message that has been read
	pending []byte // what has been read, and is being passed on
	total   int    // bytes read
}

func (r *startupReader) Read(p []byte) (int, error) {
	if r.login != nil && len(r.pending) == 0 && r.login.isOver() {
		r.login, r.pending, r.message = nil, r.message, nil
	}
	switch {
	case len(r.pending) > 0:
	case r.login == nil:
		r.pending = nil // an idle connection would keep it
		return r.server.Read(p)
	default:
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

// next reads one message, and sets pending to what pgx gets of it. A read that fails, as at a deadline, may be tried
// again.
func (r *startupReader) next() error {
	if err := r.fill(headerSize); err != nil {
		return r.login.explainEnd(err)
	}
	length := int(binary.BigEndian.Uint32(r.message[1:]))
	if length < 4 || length > maxMessage {
		return fmt.Errorf("the server sent a message of %d bytes during start-up: "+
			"it does not speak PostgreSQL's protocol", length)
	}
	if r.total > maxStartup {
		return fmt.Errorf("the server sent over %d bytes before the connection was up", maxStartup)
	}
	if err := r.fill(1 + length); err != nil {
		return r.login.explainEnd(err)
	}
	message := r.message
	r.message = nil
	var err error
	r.pending, err = r.login.filterMessage(message)
	return err
}

// fill reads until the message at hand has size bytes.
func (r *startupReader) fill(size int) error {
	have := len(r.message)
	if have >= size {
		return nil
	}
	r.message = slices.Grow(r.message, size-have)
	n, err := io.ReadFull(r.server, r.message[have:size])
	r.message = r.message[:have+n]
	r.total += n
	if have+n > 0 && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A startupWriter takes the token out of the config when pgx sends it, whether or not that succeeds.
type startupWriter struct {
	server io.Writer
	login  *login // nil when the connection is up
}

func (w *startupWriter) Write(p []byte) (int, error) {
	if w.login != nil && !w.login.sends() {
		w.login = nil
	}
	n, err := w.server.Write(p)
	if w.login != nil {
		clear(p) // pgx's buffer, which would go on holding a token of up to 1,000 bytes
	}
	return n, err
}

// sends reports whether pgx may be sending the token.
func (l *login) sends() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeBack()
	return l.token != nil
}

// explainEnd explains the end of the connection, at the password without a word.
func (l *login) explainEnd(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeBack()
	if !errors.Is(err, io.EOF) || l.method != byPassword || l.token == nil {
		return err
	}
	return &refusal.WordlessError{TokenSize: len(l.token.Secret()), Err: err}
}

var errRepeats = errors.New("the server repeats the access token where it has no business to")

// filterMessage returns what pgx gets in place of message.
func (l *login) filterMessage(message []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return message, nil
	}
	body := message[headerSize:]
	switch message[0] {
	case 'E':
		var e pgproto3.ErrorResponse
		if e.Decode(body) == nil {
			return l.explain(&e).Encode(nil)
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
			return l.filterParameter(&s, message)
		}
	case 'R':
		if e := l.authenticate(body); e != nil {
			return l.explain(e).Encode(nil)
		}
	case 'Z': // ReadyForQuery
		l.isReady = true
	}
	if l.token.Filter().IsIn(string(body)) {
		return nil, errRepeats
	}
	return message, nil
}

// filterParameter returns message, which s is, or what pgx gets in its place.
func (l *login) filterParameter(s *pgproto3.ParameterStatus, message []byte) ([]byte, error) {
	filter := l.token.Filter()
	if !filter.IsIn(s.Name) && !filter.IsIn(s.Value) {
		return message, nil
	}
	s.Name, s.Value = l.withoutToken(s.Name), l.withoutToken(s.Value)
	return s.Encode(nil)
}

// authenticate does what an authentication message asks for: for pgx to answer it puts the token into the config. A
// server refuses OAUTHBEARER by a challenge (RFC 7628, section 3.2.2), which pgx turns into an error without a
// SQLSTATE. authenticate returns it as an error of the server instead.
func (l *login) authenticate(body []byte) *pgproto3.ErrorResponse {
	if len(body) < 4 {
		return nil
	}
	switch binary.BigEndian.Uint32(body) {
	case pgproto3.AuthTypeCleartextPassword:
		l.method = byPassword
		l.give(len(body) == 4 && dsn.AllowsAuth(l.config, "password"))
	case pgproto3.AuthTypeMD5Password:
		l.give(len(body) == 8 && dsn.AllowsAuth(l.config, "md5"))
	case pgproto3.AuthTypeSASL:
		l.authenticateSASL(body)
	case pgproto3.AuthTypeOk:
		l.method = notAsked
	case pgproto3.AuthTypeSASLContinue:
		var answer struct {
			Status string `json:"status"`
		}
		if l.method == byOAuth && json.Unmarshal(body[4:], &answer) == nil {
			return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000",
				Message: "OAuth bearer token refused: " + answer.Status}
		}
	}
	return nil
}

func (l *login) authenticateSASL(body []byte) {
	var offer pgproto3.AuthenticationSASL
	switch {
	case offer.Decode(body) != nil:
	case slices.Contains(offer.AuthMechanisms, "OAUTHBEARER"):
		l.method, l.given = byOAuth, dsn.AllowsAuth(l.config, "oauth")
	case slices.Contains(offer.AuthMechanisms, "SCRAM-SHA-256"):
		l.give(dsn.AllowsAuth(l.config, "scram-sha-256"))
	}
}

// give puts the token into the config, if pgx will answer with it: then it is taken back at once. Where pgx has to
// refuse instead, as a message of another length, its error has the config.
func (l *login) give(answers bool) {
	if answers {
		l.given, l.config.Password = true, l.token.Secret()
	}
}

// explain scrubs an error of the server's, and explains it if the server refuses the login by it.
func (l *login) explain(e *pgproto3.ErrorResponse) *pgproto3.ErrorResponse {
	reason := refusal.None
	if !l.isReady {
		reason = refusal.Of(pgconn.ErrorResponseToPgError(e), len(l.token.Secret()))
	}
	l.scrub(e)
	if reason == refusal.None {
		return e
	}
	err := pgconn.ErrorResponseToPgError(e)
	l.report.Refused(l.ctx, Refused{Config: l.config, Server: l.server, Token: l.token, Reason: reason, Err: err})
	e.Message, e.Hint = err.Message, err.Hint
	return e
}

// scrub takes the token out of all the texts that an error or a notice has.
func (l *login) scrub(e *pgproto3.ErrorResponse) {
	for _, text := range []*string{
		&e.Severity, &e.SeverityUnlocalized, &e.Code, &e.Message, &e.Detail, &e.Hint, &e.InternalQuery, &e.Where,
		&e.SchemaName, &e.TableName, &e.ColumnName, &e.DataTypeName, &e.ConstraintName, &e.File, &e.Routine,
	} {
		*text = l.withoutToken(*text)
	}
	e.UnknownFields = nil
}

// withoutToken returns text without the token, and without what looks like this package's advice.
func (l *login) withoutToken(text string) string {
	if text == "" {
		return ""
	}
	return strings.ReplaceAll(l.token.Filter().Scrub(text), "[aadpool:", "[")
}
