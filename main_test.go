package aadpool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/aadpool/aadpool/aadpooltest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(&printed, &slog.HandlerOptions{Level: slog.LevelDebug})))
	goleak.VerifyTestMain(checked{m})
}

// checked stops the shared PostgreSQL when the tests have run, and looks for tokens in all that they had printed.
type checked struct{ *testing.M }

func (m checked) Run() int {
	code := m.M.Run()
	if postgresStarted {
		if pg, err := startPostgres(); err == nil {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if token := printed.token(); token != "" {
		fmt.Fprintf(os.Stderr, "FAIL: a token was printed in a log record, an error or a value: …%s…\n", token)
		code = 1
	}
	return code
}

// printed collects what a program might print: every record logged to the default logger, every error and value that a
// test passes to it. At the end there must be no token in it.
var printed sink

type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

// value prints v in all the usual ways; of a login that the server refused also the config that the error holds.
func (s *sink) value(v any) {
	fmt.Fprintf(s, "%v\n%+v\n%#v\n%s\n%q\n%d\n", v, v, v, v, v, v)
	if text, err := json.Marshal(v); err == nil {
		_, _ = s.Write(text)
	}
	slog.New(slog.NewTextHandler(s, nil)).Info("value", "value", v)
	err, _ := v.(error)
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) && errors.As(err, new(*pgconn.PgError)) {
		s.value(*failed.Config)
	}
}

var anyJWT = regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*`)

// token returns the start of a token that has been printed, behind what was printed before it, or nothing.
func (s *sink) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := anyJWT.FindIndex(s.buf.Bytes())
	if at == nil {
		return ""
	}
	return string(s.buf.Bytes()[max(0, at[0]-300) : at[0]+20])
}

var postgresStarted bool

var startPostgres = sync.OnceValues(func() (*aadpooltest.Postgres, error) {
	postgresStarted = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return aadpooltest.StartPostgres(ctx)
})

// azure is a stand-in for all of Azure: Entra, a database server, and one principal that may log in to it.
type azure struct {
	*aadpooltest.Authority
	*aadpooltest.Postgres
	server *aadpooltest.Server
	app    aadpooltest.Principal
}

func newAzure(t testing.TB) azure {
	t.Helper()
	pg, err := startPostgres()
	require.NoError(t, err)
	authority, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(authority.Close)
	server, err := aadpooltest.NewServer(authority, pg)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	app := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	return azure{authority, pg, server, app}
}

// options are those of any azidentity credential, without retries: a test of failures need not wait for them.
func (a azure) options() azcore.ClientOptions {
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1
	return options
}

// credential is a client secret's, as it is.
func (a azure) credential(t testing.TB) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), a.app.ClientID, a.app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: a.options()})
	require.NoError(t, err)
	return cred
}

func (a azure) dsn() string { return a.server.DSN(a.app.Name) }

// whoami asks the real server who is logged in.
func whoami(t testing.TB, pool *pgxpool.Pool) (role string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "select session_user").Scan(&role))
	return role
}

func TestSinkFindsATokenWhereverItIsPrinted(t *testing.T) {
	token := "eyJhbGciOiJSUzI1NiJ9.eyJ1cG4iOiJhIn0.c2ln"
	for _, row := range []struct {
		name  string
		value any
	}{
		{"in an error", errors.New("refused " + token)},
		{"in a field", struct{ secret string }{token}},
		{"behind a pointer", &struct{ Secret *string }{&token}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s sink
			s.value(row.value)
			assert.NotEmpty(t, s.token())
		})
	}
}
