package azuretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Printed collects what a program might print: every record logged to the default logger, every error and value that a
// test passes to it. At the end there must be no token in it: see [Main].
var Printed Sink

// Sink collects what is printed to it.
type Sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write makes it what a logger writes to.
func (s *Sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// Value prints v in all the usual ways; of a login that the server refused also the config that the error holds.
func (s *Sink) Value(v any) {
	fmt.Fprintf(s, "%v\n%+v\n%#v\n%s\n%q\n%d\n", v, v, v, v, v, v)
	if text, err := json.Marshal(v); err == nil {
		_, _ = s.Write(text)
	}
	slog.New(slog.NewTextHandler(s, nil)).Info("value", "value", v)
	err, _ := v.(error)
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) && errors.As(err, new(*pgconn.PgError)) {
		s.Value(*failed.Config)
	}
}

// AnyJWT matches a token of Entra's, whoever it is for.
var AnyJWT = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*`)

// Token returns the start of a token that has been printed, behind what was printed before it, or nothing.
func (s *Sink) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := AnyJWT.FindIndex(s.buf.Bytes())
	if at == nil {
		return ""
	}
	return string(s.buf.Bytes()[max(0, at[0]-300) : at[0]+20])
}
